"""A server on the official Python SDK whose definitions are what a file says, at every moment.

    python -m tests.peers.swapping http PORT FOLDER [listen]

`FOLDER/tools.json` is the list of tools, read anew whenever it is asked for. `FOLDER/calls` gets a line with
the name of each tool that is called. `listen` has the server announce changes: `GET /announce` tells
whoever listens, in either era, that the list changed; the others never say a word.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import mcp_types as types
import uvicorn
from mcp.server import Server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

bus = InMemorySubscriptionBus()
sessions: dict[int, Any] = {}


def build(folder: Path, *, listens: bool) -> Server[Any]:
    """A server over a folder."""

    async def list_tools(ctx: Any, _params: Any) -> types.ListToolsResult:
        sessions[id(ctx.session)] = ctx.session
        found = json.loads((folder / "tools.json").read_text(encoding="utf-8"))
        return types.ListToolsResult(tools=[types.Tool.model_validate(one) for one in found])

    async def call_tool(_ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        with (folder / "calls").open("a", encoding="utf-8") as calls:
            calls.write(f"{params.name}\n")
        said = types.TextContent(type="text", text=params.name)
        return types.CallToolResult(content=[said], structured_content={"text": params.name})

    more: dict[str, Any] = {"on_subscriptions_listen": ListenHandler(bus)} if listens else {}
    return Server("swapping", on_list_tools=list_tools, on_call_tool=call_tool, **more)


async def announce(_request: Request) -> Response:
    """Tell of a change, in both eras."""
    await bus.publish(ToolsListChanged())
    for session in tuple(sessions.values()):
        await session.send_tool_list_changed()
    return Response()


def serve(port: int, folder: Path, *, listens: bool) -> None:
    """Serve over HTTP."""
    server = build(folder, listens=listens)
    routes = [Route("/announce", announce)] if listens else []
    app = server.streamable_http_app(custom_starlette_routes=routes)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    serve(int(sys.argv[2]), Path(sys.argv[3]), listens="listen" in sys.argv)
