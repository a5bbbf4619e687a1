"""The smallest useful plugin: `use: waygate_mcp.plugins.builtin.hello`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel

from waygate_mcp import Context, Toolbox

box = Toolbox()


class Config(BaseModel):
    """What `config:` of this plugin may say."""

    greeting: str = "Hello"


@box.tool
async def greet(ctx: Context, name: Annotated[str, "Whom to greet."] = "world") -> str:
    """Greet somebody."""
    return f"{ctx.config.greeting}, {name}!"


@box.tool(structured=False)
async def echo(text: str) -> str:
    """Answer the text unchanged."""
    return text
