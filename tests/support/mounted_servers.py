"""Servers of other makers, as somebody has them already: to be mounted by `use: module:object`."""

from __future__ import annotations

from typing import Annotated, Any

import mcp_types as types
from fastmcp import Context as FastContext
from fastmcp import FastMCP
from fastmcp.exceptions import ToolError as FastToolError
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError as OfficialToolError
from mcp.server.mcpserver.resolve import Elicit, Resolve
from pydantic import BaseModel


class Age(BaseModel):
    age: int


def ask_age() -> Elicit[Age]:
    return Elicit("How old are you?", Age)


def sdk_server() -> MCPServer:
    """An official SDK server with one of everything."""
    server = MCPServer("official", instructions="Be kind.")

    @server.tool()
    def greet(name: str) -> str:
        """Greets."""
        return f"Hello {name}"

    @server.tool()
    def fail() -> str:
        raise OfficialToolError("out of order")

    @server.tool()
    async def count(upto: int, ctx: Context) -> str:
        for step in range(1, upto + 1):
            await ctx.report_progress(step, upto, f"step {step}")
        await ctx.info("counted")
        return "done"

    @server.tool()
    async def old(answer: Annotated[Age, Resolve(ask_age)]) -> str:
        return f"You are {answer.age}"

    @server.tool()
    async def pushy(ctx: Context) -> str:
        answer = await ctx.elicit("How old are you?", Age)
        return f"{answer.action}"

    @server.tool()
    async def touch(ctx: Context) -> str:
        await ctx.notify_resource_updated("memo://today")
        await ctx.notify_tools_changed()
        return "touched"

    add_sdk_entries(server)
    return server


def add_sdk_entries(server: MCPServer) -> None:
    """Give an SDK server prompts, resources and completions."""

    @server.resource("memo://today")
    def today() -> str:
        return "rain"

    @server.resource("memo://{day}")
    def day(day: str) -> str:
        return f"weather of {day}"

    @server.prompt()
    def advise(topic: str) -> str:
        return f"Advise on {topic}"

    async def complete(ref: Any, argument: Any, context: Any) -> types.Completion:
        return types.Completion(values=[f"{argument.value}ing"])

    server.completion()(complete)  # type: ignore[no-untyped-call]


def fastmcp_server() -> FastMCP:
    """The same with FastMCP."""
    server = FastMCP("fast", instructions="Be kind.")

    @server.tool
    def greet(name: str) -> str:
        """Greets."""
        return f"Hello {name}"

    @server.tool
    def fail() -> str:
        raise FastToolError("out of order")

    @server.tool
    async def count(upto: int, ctx: FastContext) -> str:
        for step in range(1, upto + 1):
            await ctx.report_progress(step, upto, f"step {step}")
        await ctx.info("counted")
        return "done"

    @server.tool
    async def pushy(ctx: FastContext) -> str:
        answer = await ctx.elicit("How old are you?", Age)
        return f"{answer.action}"

    @server.resource("memo://today")
    def today() -> str:
        return "rain"

    @server.resource("memo://{day}")
    def day(day: str) -> str:
        return f"weather of {day}"

    @server.prompt
    def advise(topic: str) -> str:
        return f"Advise on {topic}"

    return server


official = sdk_server()
fast = fastmcp_server()
application = sdk_server().streamable_http_app(streamable_http_path="/deep/mcp")
