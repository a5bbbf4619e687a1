"""A server on the official Python SDK's first line (1.x), whose tools are called as tasks of 2025-11-25.

Runs in the environment that scripts/setup-peers.sh makes for it:

    .peers/sdk1/bin/python -m tests.peers.legacy_tasks http PORT      http://127.0.0.1:PORT/mcp
    .peers/sdk1/bin/python -m tests.peers.legacy_tasks stdio

The SDK does all about tasks, and knows them in the session that made them only. `seen` tells which methods
arrived; where `SEEN_TASKS` names a file, they are written there too, whichever of several processes saw them.
"""

# mypy: ignore-errors
# The type checker sees the SDK 2.x of the development environment, whose names differ.

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import uvicorn
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.routing import Mount

server = Server("legacy-tasks", version="1.0.0")
support = server.experimental.enable_tasks()
seen: list[str] = []
SEEN_FILE = os.environ.get("SEEN_TASKS", "")
FORM = {
    "type": "object",
    "properties": {"confirm": {"type": "boolean"}},
    "required": ["confirm"],
}
SUPPORT = {
    "plain": None,
    "optional": "optional",
    "slow": "required",
    "failing": "required",
    "confirm": "required",
    "seen": None,
}


def note(what: str) -> None:
    """Remember what arrived."""
    seen.append(what)
    if SEEN_FILE:
        with Path(SEEN_FILE).open("a", encoding="utf-8") as file:
            file.write(what + "\n")


def text(words: str, *, is_error: bool = False) -> types.CallToolResult:
    """A tool's result of one text, with a member no revision knows."""
    block = types.TextContent(type="text", text=words)
    return types.CallToolResult(content=[block], isError=is_error, vendorResult={"keep": 1.50})


@server.list_tools()
async def tools() -> list[types.Tool]:
    """The tools, each with how it is called."""
    return [
        types.Tool(
            name=name,
            inputSchema={"type": "object"},
            execution=None if mode is None else types.ToolExecution(taskSupport=mode),
        )
        for name, mode in SUPPORT.items()
    ]


@server.call_tool(validate_input=False)
async def call(name: str, arguments: dict[str, Any]) -> Any:
    """Answer at once, or make a task."""
    context = server.request_context
    note(f"call {name} {context.experimental.is_task}")
    context.experimental.validate_task_mode(SUPPORT.get(name))
    if name == "seen":
        return text("\n".join(seen))
    if not context.experimental.is_task:
        return text(f"at once: {json.dumps(arguments)}")

    async def work(task: Any) -> types.CallToolResult:
        await task.update_status("busy", notify=True)
        if name == "confirm":
            answer = await task.elicit("Sure?", FORM)
            return text(json.dumps([answer.action, answer.content]))
        await asyncio.sleep(arguments.get("seconds", 0))
        if name == "failing":
            return text("the job failed", is_error=True)
        return text(f"later: {json.dumps(arguments)}")

    return await context.experimental.run_task(work)


@contextlib.contextmanager
def remembered() -> Any:
    """Note every request and notification of a client."""
    handle = server._handle_message

    async def look(message: Any, *more: Any) -> None:
        root = getattr(getattr(message, "request", message), "root", None)
        method = getattr(root, "method", None)
        if method is not None and (method.startswith("tasks/") or method.endswith("/cancelled")):
            note(method)
        await handle(message, *more)

    server._handle_message = look
    yield


async def over_stdio() -> None:
    """Serve one client."""
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def over_http(port: int) -> None:
    """Serve at /mcp."""
    manager = StreamableHTTPSessionManager(server)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> Any:
        async with manager.run():
            yield

    app = Starlette(routes=[Mount("/mcp", app=manager.handle_request)], lifespan=lifespan)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    with remembered():
        if sys.argv[1] == "stdio":
            asyncio.run(over_stdio())
        else:
            over_http(int(sys.argv[2]))
