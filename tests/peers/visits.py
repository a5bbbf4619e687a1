"""A server on the official Python SDK that sends people to URLs and hears of roots.

    python -m tests.peers.visits http PORT      http://127.0.0.1:PORT/mcp, and what is below
    python -m tests.peers.visits stdio

`visit` asks to visit a URL and returns at once, `sign_in` fails until a URL was visited (-32042): neither
waits for the visit. That is told later, in the session of the call, by `GET /finish?who=&id=` where `who` is
what the call said of itself; on standard input by the tool `finish`, whoever calls it. `GET /heard` (the
tool `heard`) gives the name of each session that told of changed roots, in order, and `declared` per name
whether it had said it would.
"""

from __future__ import annotations

import asyncio
import json
import sys
import warnings
from typing import Any

import mcp_types as types
import uvicorn
from mcp.server import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import UrlElicitationRequiredError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

URL = "https://visits.test/form"
TOOLS = ("visit", "sign_in", "hello", "finish", "heard")

sessions: dict[str, Any] = {}
names: dict[str, str] = {}
declared: dict[str, bool] = {}
heard: list[str] = []


def session_of(ctx: Any) -> str:
    """The id of the session a message came in, or of the process."""
    return "" if ctx.request is None else ctx.request.headers.get("mcp-session-id", "")


async def list_tools(_ctx: Any, _params: Any) -> types.ListToolsResult:
    """All take what they want."""
    schema = {"type": "object"}
    return types.ListToolsResult(tools=[types.Tool(name=n, input_schema=schema) for n in TOOLS])


async def call_tool(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
    """See above; `who` names the session for later."""
    given = params.arguments or {}
    if params.name == "finish":
        await finish(given["who"], given["id"])
    elif params.name != "heard":
        sessions[given["who"]] = ctx.session
        names[session_of(ctx)] = given["who"]
        roots = ctx.session.client_params.capabilities.roots
        declared[given["who"]] = roots is not None and roots.list_changed is True
    said = "done"
    if params.name == "heard":
        said = json.dumps({"heard": heard, "declared": declared})
    if params.name == "visit":
        answer = await ctx.session.elicit_url("Visit this", URL, given["id"], ctx.request_id)
        said = answer.action
    elif params.name == "sign_in":
        asked = types.ElicitRequestURLParams(message="First", url=URL, elicitation_id=given["id"])
        raise UrlElicitationRequiredError([asked])
    return types.CallToolResult(content=[types.TextContent(type="text", text=said)])


async def note_roots(ctx: Any, _params: Any) -> None:
    """Remember who told."""
    heard.append(names.get(session_of(ctx), "nobody"))


async def finish(who: str, identifier: str) -> None:
    """Tell that somebody is back from the URL."""
    await sessions[who].send_elicit_complete(identifier)


async def take_finish(request: Request) -> Response:
    """See `finish`."""
    await finish(request.query_params["who"], request.query_params["id"])
    return Response(status_code=204)


async def tell_heard(_request: Request) -> Response:
    """What was heard so far."""
    return JSONResponse({"heard": heard, "declared": declared})


def main() -> None:
    """Serve as the command line says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # roots are deprecated in a later revision
        server: Server[Any] = Server(
            "visits",
            on_list_tools=list_tools,
            on_call_tool=call_tool,
            on_roots_list_changed=note_roots,
        )
    if sys.argv[1] == "stdio":
        asyncio.run(serve_lines(server))
        return
    routes = [Route("/finish", take_finish), Route("/heard", tell_heard)]
    app = server.streamable_http_app(custom_starlette_routes=routes)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")


async def serve_lines(server: Server[Any]) -> None:
    """Serve on standard input and output."""
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    main()
