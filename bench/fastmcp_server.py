"""A FastMCP server with one tool, `echo {text}`, as fast as its documentation lets it be.

`http_app(json_response=True)` (no SSE framing), an async tool (a sync one would go through a
thread), no output schema (text only, as the others answer). Sessions stay on for the legacy half.
No access log, log level warning, no authentication.
"""

import argparse

import uvicorn
from fastmcp import FastMCP

server: FastMCP = FastMCP("bench")


@server.tool(output_schema=None)
async def echo(text: str) -> str:
    """Answer the text unchanged."""
    return text


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    uvicorn.run(
        server.http_app(path="/mcp", json_response=True),
        host="127.0.0.1",
        port=options.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        proxy_headers=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
