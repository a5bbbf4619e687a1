"""The official SDK's server with one tool, `echo {text}`, as fast as its documentation allows.

`MCPServer` over Streamable HTTP with `json_response=True` (no SSE framing), an async tool (a sync
one would go through a thread) and `structured_output=False` (text only, as the others answer).
Sessions stay on, because the legacy half of the bench asks for one; 2026-07-28 requests have none
anyway. `--lowlevel` measures the SDK's low-level `Server` instead, which does not validate
arguments. No access log, log level warning, no authentication.
"""

import argparse
from typing import Any

import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import MCPServer
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)

ECHO_SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


def high_level() -> Any:
    """The server most people write."""
    server = MCPServer("bench", log_level="WARNING")

    @server.tool(structured_output=False)
    async def echo(text: str) -> str:
        """Answer the text unchanged."""
        return text

    return server.streamable_http_app(json_response=True)


def low_level() -> Any:
    """The SDK's inner server: no argument validation, the result built by hand."""

    async def list_tools(_: Any, __: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[Tool(name="echo", input_schema=ECHO_SCHEMA)])

    async def call_tool(_: Any, params: CallToolRequestParams) -> CallToolResult:
        text = (params.arguments or {})["text"]
        return CallToolResult(content=[TextContent(type="text", text=text)])

    server: Server[Any] = Server("bench", on_list_tools=list_tools, on_call_tool=call_tool)
    return server.streamable_http_app(json_response=True)


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--lowlevel", action="store_true")
    options = parser.parse_args()
    uvicorn.run(
        low_level() if options.lowlevel else high_level(),
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
