"""A small server on the official Python SDK (2.x) with what the client programs of this folder use.

It tells whose fault a failing client test is: the same program against this server, without the gateway.

    python -m tests.peers.reference_server http PORT      both eras on http://127.0.0.1:PORT/mcp
    python -m tests.peers.reference_server stdio

`WAYGATE_PEERS_REFERENCE=1` lets tests/integration/peers run against it. Tools that ask do so by server requests in
the handshake era and by `input_required` in the stateless one, as the project's own fixture does.
"""

from __future__ import annotations

import asyncio
import json
import sys
import warnings
from typing import Any

import mcp_types as types
from mcp.server import ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABXvMqOgAAAABJRU5ErkJggg=="
WATCHED = "test://watched-resource"

warnings.filterwarnings("ignore")
server = MCPServer("reference", version="1.0.0")
cancellations: list[str] = []
subscribers: dict[str, list[Any]] = {}

Asking = types.CallToolResult | types.InputRequiredResult


def text(words: str) -> types.CallToolResult:
    """A plain text result."""
    return types.CallToolResult(content=[types.TextContent(type="text", text=words)])


def form(message: str, **fields: str) -> types.ElicitRequest:
    """A form whose fields have these JSON types, all required."""
    properties = {name: {"type": kind} for name, kind in fields.items()}
    schema = {"type": "object", "properties": properties, "required": list(fields)}
    return types.ElicitRequest(
        params=types.ElicitRequestFormParams(message=message, requested_schema=schema)
    )


def sampling(prompt: str) -> types.CreateMessageRequest:
    """A request for the client's model."""
    message = types.SamplingMessage(
        role="user", content=types.TextContent(type="text", text=prompt)
    )
    return types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(messages=[message], max_tokens=100)
    )


class InputNeededError(Exception):
    """Raised in the stateless era: what must be asked before this call can go on."""

    def __init__(self, requests: types.InputRequests, state: str) -> None:
        self.result = types.InputRequiredResult(input_requests=requests, request_state=state)


async def ask(ctx: Context, key: str, request: Any, known: dict[str, Any]) -> Any:
    """The client's answer to `request`, in whichever way its era has; `known` are earlier answers."""
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        answers = {
            "elicitation/create": types.ElicitResult,
            "sampling/createMessage": types.CreateMessageResult,
            "roots/list": types.ListRootsResult,
        }
        return await ctx.session.send_request(request, answers[request.method])
    if key in known:
        return known[key]
    raise InputNeededError({key: request}, json.dumps({"asked": key}))


def answers_so_far(ctx: Context) -> dict[str, Any]:
    """The answers of this round."""
    return dict(ctx.input_responses or {})


@server.tool()
def test_simple_text() -> types.CallToolResult:
    """A text."""
    return text("This is a simple text response for testing.")


@server.tool()
def test_multiple_content_types() -> types.CallToolResult:
    """A text, an image and a resource."""
    resource = types.TextResourceContents(
        uri="test://mixed-content-resource", mime_type="application/json", text="{}"
    )
    return types.CallToolResult(
        content=[
            types.TextContent(type="text", text="Three kinds:"),
            types.ImageContent(type="image", data=PIXEL, mime_type="image/png"),
            types.EmbeddedResource(type="resource", resource=resource),
        ]
    )


@server.tool()
def test_error_handling() -> types.CallToolResult:
    """A failure of the tool's own."""
    failed = text("This tool intentionally returns an error for testing")
    failed.is_error = True
    return failed


@server.tool()
async def test_tool_with_progress(ctx: Context) -> types.CallToolResult:
    """Three steps."""
    for step in (0, 50, 100):
        await ctx.report_progress(step, 100)
        await asyncio.sleep(0.02)
    return text("done")


@server.tool()
async def test_tool_with_logging(ctx: Context) -> types.CallToolResult:
    """Three log messages."""
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(line)
        await asyncio.sleep(0.02)
    return text("logged")


@server.tool()
async def test_elicitation(message: str, ctx: Context) -> Asking:
    """A form with two fields."""
    question = form(message, username="string", email="string")
    try:
        answer = await ask(ctx, "user", question, answers_so_far(ctx))
    except InputNeededError as needed:
        return needed.result
    return text(
        f"User response: action={answer.action}, content={json.dumps(answer.content or {})}"
    )


@server.tool()
async def test_sampling(prompt: str, ctx: Context) -> Asking:
    """A question to the client's model."""
    try:
        answer = await ask(ctx, "story", sampling(prompt), answers_so_far(ctx))
    except InputNeededError as needed:
        return needed.result
    return text(f"LLM response: {answer.content.text}")


@server.tool()
async def test_input_required_result_list_roots(ctx: Context) -> Asking:
    """The client's roots."""
    try:
        answer = await ask(ctx, "roots", types.ListRootsRequest(), answers_so_far(ctx))
    except InputNeededError as needed:
        return needed.result
    return text(f"Client exposed {len(answer.roots)} root(s): {answer.roots[0].uri}")


@server.tool()
async def test_input_required_result_multi_round(ctx: Context) -> Asking:
    """Two forms, one after the other."""
    known = answers_so_far(ctx)
    if ctx.request_state:
        known |= {"name": types.ElicitResult(action="accept", content={"name": "Ada"})}
    try:
        name = await ask(ctx, "name", form("Your name?", name="string"), known)
        color = await ask(ctx, "color", form("Your colour?", color="string"), known)
    except InputNeededError as needed:
        return needed.result
    return text(f"{name.content['name']} likes {color.content['color']}.")


@server.tool()
async def slow_cancellable(seconds: float) -> types.CallToolResult:
    """A long sleep that notices when it is given up."""
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        cancellations.append("slow_cancellable")
        raise
    return text("slept")


@server.tool()
def cancellations_seen() -> types.CallToolResult:
    """How often a call was given up."""
    return text(str(len(cancellations)))


@server.tool()
async def update_watched_resource(ctx: Context) -> types.CallToolResult:
    """Tell everybody that the watched resource changed."""
    await ctx.notify_resource_updated(WATCHED)
    for session in subscribers.get(WATCHED, []):
        await session.send_resource_updated(WATCHED)
    return text("told")


@server.tool()
async def test_trigger_tool_change(ctx: Context) -> types.CallToolResult:
    """Tell everybody that the list of tools changed."""
    await ctx.notify_tools_changed()
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        await ctx.session.send_tool_list_changed()
    return text("told")


@server.resource("test://static-text", mime_type="text/plain")
def static_text() -> str:
    """A text."""
    return "This is the content of the static text resource."


@server.resource("test://static-binary", mime_type="image/png")
def static_binary() -> bytes:
    """An image."""
    return PIXEL.encode()


@server.resource("test://template/{id}/data")
def from_template(id: str) -> str:
    """A text that names its id."""
    return f"Data for ID: {id}"


@server.resource(WATCHED, mime_type="text/plain")
def watched() -> str:
    """A resource that changes."""
    return "Watched resource content"


@server.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """Shows its arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@server.prompt()
async def test_input_required_result_prompt(ctx: Context) -> Any:
    """Asks before it answers."""
    question = form("What context?", context="string")
    try:
        answer = await ask(ctx, "context", question, answers_so_far(ctx))
    except InputNeededError as needed:
        return needed.result
    return f"Use the following context: {answer.content['context']}"


@server.completion()  # type: ignore[no-untyped-call, untyped-decorator]  # the SDK leaves it untyped
async def complete(reference: Any, argument: Any, context: Any) -> types.Completion:
    """Values for every argument."""
    return types.Completion(values=["alpha", "atlas"], total=2, has_more=False)


async def subscribe(
    ctx: ServerRequestContext[Any, Any], params: types.SubscribeRequestParams
) -> types.EmptyResult:
    """Remember who wants to be told."""
    subscribers.setdefault(str(params.uri), []).append(ctx.session)
    return types.EmptyResult()


async def unsubscribe(
    ctx: ServerRequestContext[Any, Any], params: types.UnsubscribeRequestParams
) -> types.EmptyResult:
    """Forget everybody who wanted to be told: one client at a time is enough here."""
    subscribers.pop(str(params.uri), None)
    return types.EmptyResult()


async def set_level(
    ctx: ServerRequestContext[Any, Any], params: types.SetLevelRequestParams
) -> types.EmptyResult:
    """All levels are sent."""
    return types.EmptyResult()


low_level = server._lowlevel_server
low_level.add_request_handler("resources/subscribe", types.SubscribeRequestParams, subscribe)
low_level.add_request_handler("resources/unsubscribe", types.UnsubscribeRequestParams, unsubscribe)
low_level.add_request_handler("logging/setLevel", types.SetLevelRequestParams, set_level)

if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", port=int(sys.argv[2]))
