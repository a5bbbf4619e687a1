"""Servers of other makers, mounted in this process: every feature, for clients of both eras."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import MCPServer
from mcp.shared._httpx_utils import create_mcp_http_client

from tests.integration.gateway_process import Gateway, serving
from tests.support.mounted_servers import fastmcp_server, sdk_server
from tests.support.providers import (
    ALICE,
    BOB,
    LEGACY,
    Announced,
    FakeCaller,
    TaskGroupSupervisor,
    make_call,
    viewer,
)
from waygate_mcp.errors import RpcError
from waygate_mcp.model.call import Answer, InputRequired, Question, Reply
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import ListChanged, ResourceUpdated
from waygate_mcp.model.ports import Provider
from waygate_mcp.plugins.mounted import mount
from waygate_mcp.protocol.versions import MODERN, Revision
from waygate_mcp.upstreams.streamable_http import connect

# Logging is deprecated in the modern era; both libraries say so whenever a tool logs.
pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")


@asynccontextmanager
async def mounted(
    obj: object, announced: Announced | None = None, **config: Any
) -> AsyncIterator[Provider]:
    """Mount an object as the runtime does, and find nothing left behind."""
    supervisor = TaskGroupSupervisor()
    context = mount(
        "other",
        obj,
        config,
        announced or Announced(),
        connect=partial(connect, supervisor=supervisor),
    )
    assert context is not None
    async with context as provider:
        yield provider
    await supervisor.close()


MAKERS: list[Callable[[], object]] = [sdk_server, fastmcp_server]
ERAS = [MODERN, LEGACY]
both_makers = pytest.mark.parametrize("make", MAKERS)
both_eras = pytest.mark.parametrize("revision", ERAS, ids=lambda revision: revision.text)


def text_of(outcome: object) -> str:
    """Give the text of a tool's result."""
    assert isinstance(outcome, Reply), outcome
    return str(json.loads(outcome.result)["content"][0]["text"])


def accept(**content: Any) -> Callable[[Question], Answer]:
    """Answer every elicitation with `content`."""
    return lambda _question: Answer(json.dumps({"action": "accept", "content": content}).encode())


@both_makers
async def test_tools_prompts_resources_and_templates_are_listed(make: Callable[[], object]) -> None:
    async with mounted(make()) as provider:
        names = {
            kind: {entry.name for entry in (await provider.listing(kind, viewer())).entries}
            for kind in Kind
        }
        assert {"greet", "fail", "count", "pushy"} <= names[Kind.TOOL]
        assert names[Kind.PROMPT] == {"advise"}
        assert names[Kind.RESOURCE] == {"memo://today"}
        assert names[Kind.TEMPLATE] == {"memo://{day}"}
        assert provider.instructions == "Be kind."
        assert provider.features.tools


@both_makers
@both_eras
async def test_a_tool_answers(make: Callable[[], object], revision: Revision) -> None:
    async with mounted(make()) as provider:
        call = make_call(
            "tools/call", {"name": "greet", "arguments": {"name": "Ada"}}, revision=revision
        )
        reply = await provider.call(call)
        assert text_of(reply) == "Hello Ada"
        assert isinstance(reply, Reply)
        assert not reply.is_error
        for era_member in (b"resultType", b"ttlMs", b"cacheScope", b"serverInfo"):
            assert era_member not in reply.result + (reply.meta or b"")


@both_makers
@both_eras
async def test_a_tools_own_failure_is_a_reply(
    make: Callable[[], object], revision: Revision
) -> None:
    async with mounted(make()) as provider:
        reply = await provider.call(make_call("tools/call", {"name": "fail"}, revision=revision))
        assert isinstance(reply, Reply)
        assert reply.is_error


@both_makers
@both_eras
async def test_progress_and_log_messages_reach_the_caller(
    make: Callable[[], object], revision: Revision
) -> None:
    async with mounted(make()) as provider:
        caller = FakeCaller()
        params = {"name": "count", "arguments": {"upto": 3}}
        await provider.call(make_call("tools/call", params, caller=caller, revision=revision))
        assert caller.progress == [1, 2, 3]
        assert [b"counted" in log.data for log in caller.logs] == [True]


@both_makers
@both_eras
async def test_a_question_in_mid_call_is_asked_of_the_caller(
    make: Callable[[], object], revision: Revision
) -> None:
    # These servers push questions in the legacy era only, which is what the pin is for.
    async with mounted(make(), era="legacy") as provider:
        caller = FakeCaller(accept(age=36))
        call = make_call("tools/call", {"name": "pushy"}, caller=caller, revision=revision)
        assert text_of(await provider.call(call)) == "accept"
        assert caller.questions[0].method == "elicitation/create"
        assert b"How old are you?" in caller.questions[0].params


async def test_a_legacy_client_is_asked_without_any_pin() -> None:
    async with mounted(sdk_server()) as provider:
        caller = FakeCaller(accept(age=36))
        call = make_call("tools/call", {"name": "pushy"}, caller=caller, revision=LEGACY)
        assert text_of(await provider.call(call)) == "accept"


async def test_a_modern_servers_question_comes_as_input_required_and_its_retry_ends_the_call() -> (
    None
):
    async with mounted(sdk_server()) as provider:
        first = await provider.call(make_call("tools/call", {"name": "old"}))
        assert isinstance(first, InputRequired)
        (key,) = first.requests
        assert first.requests[key].method == "elicitation/create"
        answer = json.dumps({"action": "accept", "content": {"age": 36}}).encode()
        retry = make_call(
            "tools/call",
            {"name": "old"},
            input_responses={key: answer},
            request_state=first.state,
        )
        assert text_of(await provider.call(retry)) == "You are 36"


@both_eras
async def test_a_cancelled_call_is_cancelled_at_the_server(revision: Revision) -> None:
    started, stopped = asyncio.Event(), asyncio.Event()
    server = MCPServer("sleepy")

    @server.tool()
    async def sleep() -> str:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()
        return "awake"

    async with mounted(server) as provider:
        call = make_call("tools/call", {"name": "sleep"}, revision=revision)
        task = asyncio.get_running_loop().create_task(_outcome(provider, call))
        async with asyncio.timeout(5):
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await stopped.wait()


async def _outcome(provider: Provider, call: Any) -> object:
    return await provider.call(call)


@both_makers
@both_eras
async def test_resources_are_read_also_by_template(
    make: Callable[[], object], revision: Revision
) -> None:
    async with mounted(make()) as provider:
        for uri, text in (("memo://today", "rain"), ("memo://monday", "weather of monday")):
            call = make_call("resources/read", {"uri": uri}, revision=revision)
            reply = await provider.call(call)
            assert isinstance(reply, Reply)
            assert json.loads(reply.result)["contents"][0]["text"] == text


@both_eras
async def test_a_missing_resource_has_the_code_of_the_readers_era(revision: Revision) -> None:
    async with mounted(sdk_server(), era="modern") as provider:
        call = make_call("resources/read", {"uri": "nowhere://x"}, revision=revision)
        with pytest.raises(RpcError) as caught:
            await provider.call(call)
        assert caught.value.rpc_code == (-32602 if revision.is_modern else -32002)


@both_makers
@both_eras
async def test_prompts_are_got(make: Callable[[], object], revision: Revision) -> None:
    async with mounted(make()) as provider:
        params = {"name": "advise", "arguments": {"topic": "tea"}}
        reply = await provider.call(make_call("prompts/get", params, revision=revision))
        assert isinstance(reply, Reply)
        assert b"Advise on tea" in reply.result


@both_eras
async def test_completions_are_given(revision: Revision) -> None:
    async with mounted(sdk_server()) as provider:
        assert provider.features.completions
        params = {
            "ref": {"type": "ref/prompt", "name": "advise"},
            "argument": {"name": "topic", "value": "walk"},
        }
        call = make_call("completion/complete", params, revision=revision)
        call.target = "advise"
        reply = await provider.call(call)
        assert isinstance(reply, Reply)
        assert json.loads(reply.result)["completion"]["values"] == ["walking"]


async def test_changes_are_announced_to_whom_they_concern() -> None:
    announced = Announced()
    async with mounted(sdk_server(), announced) as provider:
        assert provider.features.subscribe
        await provider.call(make_call("resources/subscribe", {"uri": "memo://today"}))
        await provider.call(make_call("tools/call", {"name": "touch"}))
        await announced.wait_for(ResourceUpdated("other", "memo://today"))
        await announced.wait_for(ListChanged("other", Kind.TOOL))


async def test_a_low_level_server_keeps_what_nobody_knows() -> None:
    async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
        tool = types.Tool(name="raw", input_schema={"type": "object", "x-vendor": {"deep": [1.50]}})
        return types.ListToolsResult(tools=[tool])

    async def call_tool(context: Any, params: Any) -> types.CallToolResult:
        text = types.TextContent(type="text", text="ok", meta={"vendor/key": [1, {"a": None}]})
        return types.CallToolResult(content=[text], meta={"vendor/result": True})

    server = Server("low", on_list_tools=list_tools, on_call_tool=call_tool)
    async with mounted(server) as provider:
        (entry,) = (await provider.listing(Kind.TOOL, viewer())).entries
        assert b'"x-vendor":{"deep":[1.5]}' in entry.definition
        for revision in ERAS:
            reply = await provider.call(make_call("tools/call", {"name": "raw"}, revision=revision))
            assert isinstance(reply, Reply)
            assert b'"vendor/key":[1,{"a":null}]' in reply.result
            assert json.loads(reply.meta or b"{}") == {"vendor/result": True}


async def test_any_asgi_application_that_speaks_mcp_is_served() -> None:
    app = sdk_server().streamable_http_app(streamable_http_path="/deep/mcp")
    async with mounted(app, path="/deep/mcp") as provider:
        call = make_call("tools/call", {"name": "greet", "arguments": {"name": "Ada"}})
        assert text_of(await provider.call(call)) == "Hello Ada"


async def test_the_same_object_can_be_mounted_again_while_it_is_still_served() -> None:
    server = sdk_server()
    call = make_call("tools/call", {"name": "greet", "arguments": {"name": "Ada"}})
    async with mounted(server) as old, mounted(server) as new:
        assert text_of(await old.call(call)) == text_of(await new.call(call)) == "Hello Ada"


async def test_two_principals_never_share_a_session() -> None:
    async with mounted(sdk_server(), era="legacy") as provider:
        params = {"name": "greet", "arguments": {"name": "Ada"}}
        for principal in (ALICE, BOB, ALICE):
            await provider.call(make_call("tools/call", params, principal=principal))
        # One for each of them, and the gateway's own.
        assert len(provider._pool) == 3  # type: ignore[attr-defined]


async def test_an_object_of_another_kind_is_not_taken() -> None:
    for obj in (object(), "text", 3, sdk_server, lambda a, b, c: None, MCPServer):
        assert mount("other", obj, {"unknown": 1}, Announced(), connect=connect) is None  # type: ignore[arg-type]


# --- through the real door

DOCUMENT = {
    "version": 1,
    "plugins": {
        "official": {"use": "tests.support.mounted_servers:official"},
        "fast": {"use": "tests.support.mounted_servers:fast", "config": {"era": "legacy"}},
        "app": {
            "use": "tests.support.mounted_servers:application",
            "config": {"path": "/deep/mcp"},
        },
    },
}
MODES = ["auto", "legacy"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that serves three servers of other makers."""
    root = str(Path(__file__).parents[2])
    with serving(
        tmp_path_factory.mktemp("mounted"), DOCUMENT, environment={"PYTHONPATH": root}
    ) as served:
        yield served


class Person:
    """Answers the client's questions; counts them."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, context: Any, params: Any) -> types.ElicitResult:
        self.asked.append(params.message)
        return types.ElicitResult(action="accept", content={"age": 36})


@asynccontextmanager
async def client_of(gateway: Gateway, mode: str, person: Person) -> AsyncIterator[Client]:
    """Connect the official SDK's client."""
    async with (
        create_mcp_http_client(dict(gateway.headers)) as http,
        Client(
            streamable_http_client(gateway.url, http_client=http),
            mode=mode,
            elicitation_callback=person,
        ) as client,
    ):
        yield client


def words_of(result: Any) -> str:
    """Give the text of a client's result."""
    blocks = result.content if isinstance(result.content, list) else [result.content]
    return "".join(block.text for block in blocks)


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_uses_what_is_mounted(gateway: Gateway, mode: str) -> None:
    person = Person()
    async with asyncio.timeout(60), client_of(gateway, mode, person) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert {"official__greet", "fast__greet", "app__greet"} <= names
        for name in ("official__greet", "fast__greet", "app__greet"):
            assert words_of(await client.call_tool(name, {"name": "Ada"})) == "Hello Ada"
        assert (await client.call_tool("official__fail", {})).is_error
        assert (await client.call_tool("fast__fail", {})).is_error
        assert words_of(await client.call_tool("official__count", {"upto": 2})) == "done"
        prompt = await client.get_prompt("fast__advise", {"topic": "tea"})
        assert words_of(prompt.messages[0]) == "Advise on tea"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["official__old", "fast__pushy"])
async def test_a_question_of_a_mounted_server_reaches_the_client(
    gateway: Gateway, mode: str, name: str
) -> None:
    person = Person()
    async with asyncio.timeout(60), client_of(gateway, mode, person) as client:
        words = words_of(await client.call_tool(name, {}))
    assert words == ("You are 36" if name == "official__old" else "accept")
    assert person.asked == ["How old are you?"]


@pytest.mark.parametrize("mode", MODES)
async def test_progress_of_a_mounted_server_reaches_the_client(gateway: Gateway, mode: str) -> None:
    seen: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    async with asyncio.timeout(60), client_of(gateway, mode, Person()) as client:
        for name in ("official__count", "fast__count"):
            seen.clear()
            await client.call_tool(name, {"upto": 3}, progress_callback=note)
            assert seen == [1, 2, 3], name
