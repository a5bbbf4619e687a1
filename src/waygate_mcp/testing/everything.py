"""The fixture: every feature of the protocol behind fixed names, in every era.

A plugin like any other: `use: waygate_mcp.testing.everything`. The names, arguments and texts are those
the official conformance suite documents for its test server; what asks the client is in `asking.py`.
Not for production: it exists to be called by tests.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from pydantic import Field

from waygate_mcp import (
    Audio,
    Context,
    EmbeddedResource,
    Image,
    Message,
    MirroredHeader,
    ResourceText,
    Text,
    Toolbox,
    ToolError,
)
from waygate_mcp.testing.asking import asking

__all__ = ["box", "lifespan"]

_STEP_S = 0.05
_SLOW_STEP_S = 0.02
_WATCHED = "test://watched-resource"
_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQD3A0FDAAAAAElFTkSuQmCC"
)
_WAV = (
    b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data\0\0\0\0"
)
_SCHEMA_2020_12 = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {
        "properties": {"contactMethod": {"const": "phone"}},
        "required": ["contactMethod"],
    },
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}

box = Toolbox(instructions="A fixture for tests: every feature, nothing useful.")
box.include(asking)


class Watch:
    """What the fixture remembers while it is open: how many calls were cancelled."""

    def __init__(self) -> None:
        self.cancellations = 0
        self.updates = 0


@asynccontextmanager
async def lifespan() -> AsyncIterator[Watch]:
    """Keep the counters as long as the plugin is open."""
    yield Watch()


# ---------------------------------------------------------------------- tools


@box.tool(structured=False)
async def test_simple_text() -> str:
    """Answer a text."""
    return "This is a simple text response for testing."


@box.tool
async def test_image_content() -> Image:
    """Answer an image."""
    return Image(_PNG, "image/png")


@box.tool
async def test_audio_content() -> Audio:
    """Answer a sound."""
    return Audio(_WAV, "audio/wav")


@box.tool
async def test_embedded_resource() -> EmbeddedResource:
    """Answer an embedded resource."""
    text = "This is an embedded resource content."
    return EmbeddedResource(ResourceText(text, "test://embedded-resource", "text/plain"))


@box.tool
async def test_multiple_content_types() -> list[Text | Image | EmbeddedResource]:
    """Answer a text, an image and a resource at once."""
    data = '{"test":"data","value":123}'
    resource = ResourceText(data, "test://mixed-content-resource", "application/json")
    return [
        Text("Multiple content types test:"),
        Image(_PNG, "image/png"),
        EmbeddedResource(resource),
    ]


@box.tool
async def test_error_handling() -> str:
    """Fail, always."""
    raise ToolError("This tool intentionally returns an error for testing")


@box.tool(structured=False)
async def test_tool_with_progress(ctx: Context) -> str:
    """Report progress three times."""
    await ctx.report_progress(0, 100)
    await asyncio.sleep(_STEP_S)
    await ctx.report_progress(50, 100)
    await asyncio.sleep(_STEP_S)
    await ctx.report_progress(100, 100)
    return "Tool with progress executed successfully"


@box.tool(structured=False)
async def test_tool_with_logging(ctx: Context) -> str:
    """Log three messages."""
    await ctx.info("Tool execution started")
    await asyncio.sleep(_STEP_S)
    await ctx.info("Tool processing data")
    await asyncio.sleep(_STEP_S)
    await ctx.info("Tool execution completed")
    return "Tool with logging executed successfully"


@box.tool(structured=False)
async def test_logging_tool(ctx: Context) -> str:
    """Log a message, which only those get who asked for messages."""
    await ctx.info("This is a log message of a diagnostic tool")
    return "Logging tool executed"


@box.tool(structured=False)
async def test_reconnection(ctx: Context) -> str:
    """Close the client's stream in the middle of the call, and finish behind its back."""
    await ctx.info("Closing the stream in the middle of the call")
    await ctx.close_stream()
    await asyncio.sleep(2 * _STEP_S)
    await ctx.info("Finishing after the stream was closed")
    return "Reconnection test completed successfully"


@box.tool(input_schema=_SCHEMA_2020_12, structured=False)
async def json_schema_2020_12_tool(**arguments: Any) -> str:
    """Tool with JSON Schema 2020-12 features."""
    return f"JSON Schema 2020-12 tool called with: {', '.join(sorted(arguments))}"


@box.tool(structured=False)
async def test_custom_header(
    region: Annotated[str, MirroredHeader("Region"), "A region, mirrored in a header."],
) -> str:
    """Answer an argument that is mirrored in `Mcp-Param-Region`."""
    return f"Region: {region}"


@box.tool(structured=False)
async def test_trigger_tool_change() -> str:
    """Add a tool, or remove it again."""
    if "test_dynamic_tool" in box.tools:
        box.remove_tool("test_dynamic_tool")
        return "Tool removed"
    box.add_tool(
        test_simple_text,
        name="test_dynamic_tool",
        description="A tool that comes and goes.",
        structured=False,
    )
    return "Tool added"


@box.tool(structured=False)
async def test_trigger_prompt_change() -> str:
    """Add a prompt, or remove it again."""
    if "test_dynamic_prompt" in box.prompts:
        box.remove_prompt("test_dynamic_prompt")
        return "Prompt removed"
    box.add_prompt(
        test_simple_prompt, name="test_dynamic_prompt", description="A prompt that comes and goes."
    )
    return "Prompt added"


@box.tool(structured=False)
async def slow_cancellable(seconds: Annotated[float, Field(ge=0, le=3600)], ctx: Context) -> str:
    """Wait in small steps, and count when cancelled meanwhile."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + seconds
    try:
        while (left_s := end_s - loop.time()) > 0:  # noqa: ASYNC110 - each step can be interrupted
            await asyncio.sleep(min(left_s, _SLOW_STEP_S))
    except asyncio.CancelledError:
        ctx.lifespan.cancellations += 1
        raise
    return f"Waited {seconds:g} s"


@box.tool(structured=False)
async def cancellations_seen(ctx: Context) -> str:
    """Answer how many calls of slow_cancellable were cancelled."""
    return str(ctx.lifespan.cancellations)


@box.tool(structured=False)
async def update_watched_resource(ctx: Context) -> str:
    """Change the watched resource and tell its subscribers."""
    ctx.lifespan.updates += 1
    box.notify_updated(_WATCHED)
    return "Updated"


# ---------------------------------------------------------------------- resources


@box.resource("test://static-text", name="Static text", mime_type="text/plain")
async def static_text() -> str:
    """A text that never changes."""
    return "This is the content of the static text resource."


@box.resource("test://static-binary", name="Static image", mime_type="image/png")
async def static_binary() -> bytes:
    """An image that never changes."""
    return _PNG


@box.resource(_WATCHED, name="Watched resource", mime_type="text/plain")
async def watched_resource(ctx: Context) -> str:
    """A text that changes when `update_watched_resource` is called."""
    return f"This is the watched resource, updated {ctx.lifespan.updates} times."


@box.resource("test://template/{id}/data", name="Template", mime_type="application/json")
async def template_data(id: str) -> Mapping[str, Any]:
    """Data about an id."""
    return {"id": id, "templateTest": True, "data": f"Data for ID: {id}"}


# ---------------------------------------------------------------------- prompts


@box.prompt
async def test_simple_prompt() -> str:
    """A prompt without arguments."""
    return "This is a simple prompt for testing."


@box.prompt
async def test_prompt_with_arguments(
    arg1: Annotated[str, "First test argument"], arg2: Annotated[str, "Second test argument"]
) -> str:
    """A prompt with two arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@box.completion(test_prompt_with_arguments, "arg1")
async def complete_arg1(value: str) -> list[str]:
    """Complete the first argument."""
    return [word for word in ("paris", "park", "party") if word.startswith(value)]


@box.completion("test://template/{id}/data", "id")
async def complete_id(value: str, arguments: Mapping[str, str]) -> list[str]:
    """Complete the id of the template."""
    return [one for one in ("123", "124", "200") if one.startswith(value) and one not in arguments]


@box.prompt
async def test_prompt_with_embedded_resource(
    resourceUri: Annotated[str, "URI of the resource to embed"],  # noqa: N803 - the suite's name
) -> list[Message]:
    """A prompt that embeds a resource."""
    text = "Embedded resource content for testing."
    return [
        Message(EmbeddedResource(ResourceText(text, resourceUri, "text/plain"))),
        Message("Please process the embedded resource above."),
    ]


@box.prompt
async def test_prompt_with_image() -> list[Message]:
    """A prompt with an image."""
    return [Message(Image(_PNG, "image/png")), Message("Please analyze the image above.")]
