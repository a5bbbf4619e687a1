"""The HTTP doors.

app        the outermost ASGI callable: MCP paths to the MCP door, all else to the REST door
guard      what both doors ask of every request before they read its body
body       the body, read within limits
mcp        the MCP door, both eras
rest       the REST door: FastAPI, request id, request log, metrics
health     `/`, `/health`, `/ready`, `/metrics`
problems   errors in the words of the REST doors
memory     how the process gives memory back
server     uvicorn: limits of connections, draining, workers
"""
