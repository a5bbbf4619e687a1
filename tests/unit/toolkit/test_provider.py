from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator
from structlog.testing import capture_logs

from waygate_mcp.errors import (
    CapabilityMissingError,
    InvalidArgumentsError,
    PluginError,
    RpcError,
    UnknownMethodError,
    UnknownNameError,
)
from waygate_mcp.model import call as model
from waygate_mcp.model.call import Reply
from waygate_mcp.model.catalog import Kind, Viewer
from waygate_mcp.model.event import ListChanged, ResourceUpdated
from waygate_mcp.model.principal import LOCAL
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES
from waygate_mcp.protocol.versions import LATEST_LEGACY
from waygate_mcp.testing.fakes import (
    Announcements,
    RecordingCaller,
    call_of,
    call_tool,
    provider_of,
    text_of,
)
from waygate_mcp.toolkit.content import Image, Message
from waygate_mcp.toolkit.context import Context
from waygate_mcp.toolkit.failures import ToolError
from waygate_mcp.toolkit.provider import Completion, ToolboxProvider
from waygate_mcp.toolkit.questions import Elicit, ElicitUrl, InputRequired
from waygate_mcp.toolkit.toolbox import Toolbox

SECRET = "the password is hunter2"


def upper_only(text: str) -> str:
    if not text.isupper():
        raise ValueError("capitals, please")
    return text


def make_box() -> Toolbox:  # noqa: C901 - many small functions, none of them long
    box = Toolbox(instructions="Be kind.")

    @box.tool
    async def add(a: int, b: int = 2) -> int:
        return a + b

    @box.tool(structured=False)
    def in_thread(word: str, ctx: Context) -> str:
        return f"{word} {ctx.config} {ctx.lifespan} {threading.current_thread().name}"

    @box.tool
    async def picky(a: Annotated[str, AfterValidator(upper_only)]) -> str:
        return a

    @box.tool
    async def fail(how: str) -> str:
        raise {
            "tool": ToolError("Out of paper."),
            "rpc": RpcError(-32000, "Busy", b'{"x":1}'),
            "house": CapabilityMissingError({"sampling": {}}),
        }.get(how) or RuntimeError(SECRET)

    @box.tool
    def fail_in_thread() -> str:
        raise RuntimeError(SECRET)

    @box.tool
    async def leave() -> str:
        sys.exit(SECRET)

    @box.tool
    def leave_in_thread() -> str:
        sys.exit(SECRET)

    @box.tool
    async def group(how: str) -> str:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail(how))
            if how == "two":
                tasks.create_task(fail(how))
        return ""

    @box.tool
    async def wrong() -> int:
        return "five"  # type: ignore[return-value]

    @box.tool(structured=False)
    async def ask(ctx: Context) -> str | InputRequired:
        if ctx.state is None:
            return InputRequired({"url": ElicitUrl("Sign", "https://x")}, state="s1")
        return f"state {ctx.state}, answers {dict(ctx.input_responses)}"

    @box.prompt
    async def topic(name: str, level: Literal["low", "high"] = "low") -> str:
        """About a topic."""
        if name == "bad":
            raise RuntimeError(SECRET)
        if name == "tool":
            raise ToolError("No such topic.")
        if name == "rpc":
            raise RpcError(-32000, "Busy")
        return f"{name} {level}"

    @box.prompt
    def picture(ctx: Context) -> list[Message] | InputRequired:
        if not ctx.input_responses:
            return InputRequired({"q": Elicit("m", {"type": "object"})})
        return [Message(Image(b"abc", "image/png"))]

    @box.resource("a://fixed", mime_type="text/x", ttl_ms=5, cache_scope="public")
    async def fixed() -> str:
        return "fixed text"

    @box.resource("a://item/{id}")
    def item(id: int, ctx: Context) -> Any:
        """An item.

        Args:
            id: Which.
            ctx: The call.
        """
        if id == 0:
            raise UnknownNameError("resource", "a://item/0")
        if id == 1:
            raise RuntimeError(SECRET)
        if id == 2 and not ctx.input_responses:
            return InputRequired({"q": Elicit("m", {"type": "object"})})
        return {"id": id}

    @box.completion(topic, "name")
    def complete_name(value: str, arguments: Mapping[str, str]) -> list[str]:
        if value == "bad":
            raise RuntimeError(SECRET)
        if value == "rpc":
            raise RpcError(-32000, "Busy")
        return [f"{value}{arguments.get('level', '')}{number}" for number in range(150)]

    @box.completion("a://item/{id}", "id")
    async def complete_id(value: str) -> Completion:
        return Completion([value], total=7, has_more=True)

    return box


def make_provider() -> ToolboxProvider:
    return provider_of(make_box(), config="the config", lifespan="the lifespan")


def structured(reply: Any) -> Any:
    assert isinstance(reply, Reply)
    return json.loads(reply.result)["structuredContent"]


# ---------------------------------------------------------------------- what it offers


async def test_it_offers_what_the_box_has() -> None:
    provider = make_provider()
    assert provider.name == "plugin"
    assert provider.instructions == "Be kind."
    assert provider.features.tools
    viewer = Viewer(LOCAL, NO_CAPABILITIES)
    listing = await provider.listing(Kind.TOOL, viewer)
    assert [entry.name for entry in listing.entries][:2] == ["add", "in_thread"]
    assert await provider.listing(Kind.TOOL, viewer) is listing


async def test_changes_are_announced_while_attached() -> None:
    box, announced = make_box(), Announcements()
    provider = ToolboxProvider("p", box, announced)
    box.remove_tool("add")
    with provider.attached():
        box.remove_prompt("topic")
        box.notify_updated("a://fixed")
    box.remove_resource("a://fixed")
    assert announced == [ListChanged("p", Kind.PROMPT), ResourceUpdated("p", "a://fixed")]


async def test_changes_made_in_threads_are_announced_on_the_loop() -> None:
    box = make_box()
    heard: asyncio.Queue[tuple[Any, int]] = asyncio.Queue()
    provider = ToolboxProvider(
        "p", box, lambda event: heard.put_nowait((event, threading.get_ident()))
    )
    with provider.attached():
        await asyncio.to_thread(box.notify_updated, "a://fixed")
        event, thread = await asyncio.wait_for(heard.get(), 5)
    assert event == ResourceUpdated("p", "a://fixed")
    assert thread == threading.get_ident()


async def test_a_change_after_the_loop_is_gone_is_told_to_nobody() -> None:
    box, announced = make_box(), Announcements()
    other = asyncio.new_event_loop()

    async def attach() -> Any:
        attached = ToolboxProvider("p", box, announced).attached()
        attached.__enter__()
        return attached

    def elsewhere() -> Any:
        try:
            return other.run_until_complete(attach())
        finally:
            other.close()

    attached = await asyncio.to_thread(elsewhere)
    box.notify_updated("a://fixed")
    assert announced == []
    attached.__exit__(None, None, None)


async def test_a_method_it_does_not_know_is_unknown() -> None:
    with pytest.raises(UnknownMethodError):
        await make_provider().call(call_of("tools/dance", "add"))


# ---------------------------------------------------------------------- tools


async def test_a_tool_answers() -> None:
    provider = make_provider()
    assert structured(await call_tool(provider, "add", {"a": 1, "b": 4})) == {"result": 5}
    assert structured(await call_tool(provider, "add", {"a": 1.0})) == {"result": 3}


async def test_an_unknown_tool_is_named_as_the_client_said_it() -> None:
    call = call_of("tools/call", "alias__nothing")
    call.target = "nothing"
    with pytest.raises(UnknownNameError) as caught:
        await make_provider().call(call)
    assert (caught.value.kind, caught.value.name) == ("tool", "alias__nothing")


async def test_invalid_arguments_are_the_tools_answer_and_the_function_does_not_run() -> None:
    reply = await call_tool(make_provider(), "add", {"a": "x", "c": 1})
    assert isinstance(reply, Reply)
    assert reply.is_error
    head, *faults = text_of(reply).splitlines()
    assert head == "Invalid arguments for add:"
    assert sorted(faults) == [
        '- `a`: expected integer, got "x"',
        "- `c`: unknown argument; known are a, b",
    ]


async def test_arguments_that_are_no_object_are_invalid() -> None:
    reply = await make_provider().call(call_of("tools/call", "add", {"arguments": [1]}))
    assert isinstance(reply, Reply)
    assert reply.is_error


async def test_values_a_validator_refuses_are_invalid_arguments() -> None:
    reply = await call_tool(make_provider(), "picky", {"a": "x"})
    assert isinstance(reply, Reply)
    assert reply.is_error
    assert "capitals, please" in text_of(reply)


async def test_a_function_without_async_runs_in_a_thread_with_its_context() -> None:
    with ThreadPoolExecutor(1, thread_name_prefix="mine") as threads:
        provider = ToolboxProvider(
            "p", make_box(), Announcements(), config="c", lifespan="l", threads=threads
        )
        assert text_of(await call_tool(provider, "in_thread", {"word": "w"})) == "w c l mine_0"


async def test_a_tool_error_is_the_tools_own_answer() -> None:
    reply = await call_tool(make_provider(), "fail", {"how": "tool"})
    assert isinstance(reply, Reply)
    assert reply.is_error
    assert text_of(reply) == "Out of paper."


@pytest.mark.parametrize(("how", "kind"), [("rpc", RpcError), ("house", CapabilityMissingError)])
async def test_errors_of_the_house_pass(how: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        await call_tool(make_provider(), "fail", {"how": how})


async def test_what_is_alone_in_a_group_counts_as_itself() -> None:
    assert text_of(await call_tool(make_provider(), "group", {"how": "tool"})) == "Out of paper."
    with pytest.raises(CapabilityMissingError):
        await call_tool(make_provider(), "group", {"how": "house"})


async def test_a_text_that_cannot_be_utf_8_is_told_with_escapes() -> None:
    box = Toolbox()

    @box.tool
    async def fail() -> str:
        raise ToolError("no file \udcff")

    assert text_of(await call_tool(provider_of(box), "fail")) == "no file \\udcff"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("fail", {"how": "?"}),
        ("fail_in_thread", {}),
        ("wrong", {}),
        ("leave", {}),
        ("leave_in_thread", {}),
        ("group", {"how": "?"}),
        ("group", {"how": "two"}),
    ],
)
async def test_another_exception_gets_an_id_and_says_nothing_else(
    name: str, arguments: dict[str, str]
) -> None:
    with capture_logs() as logs:
        reply = await call_tool(make_provider(), name, arguments)
    assert isinstance(reply, Reply)
    assert reply.is_error
    (line,) = logs
    assert line["plugin"] == "plugin"
    assert line["request_id"] == "test-request"
    assert isinstance(line["exc_info"], BaseException)
    assert text_of(reply) == f"The tool failed by a fault of its own (error {line['error_id']})."
    assert b"hunter2" not in reply.result


async def test_a_returned_question_goes_out_and_its_answers_come_in() -> None:
    provider = make_provider()
    outcome = await call_tool(provider, "ask")
    assert isinstance(outcome, model.InputRequired)
    assert outcome.state == "s1"
    assert json.loads(outcome.requests["url"].params) == {
        "mode": "url",
        "message": "Sign",
        "url": "https://x",
    }
    legacy = await call_tool(provider, "ask", revision=LATEST_LEGACY)
    assert isinstance(legacy, model.InputRequired)
    assert "elicitationId" in json.loads(legacy.requests["url"].params)
    answered = await call_tool(
        provider, "ask", request_state="s1", input_responses={"url": b'{"action":"accept"}'}
    )
    assert text_of(answered) == "state s1, answers {'url': {'action': 'accept'}}"


async def test_a_cancelled_call_is_cancelled_and_not_answered() -> None:
    box = Toolbox()
    started = asyncio.Event()
    seen: list[str] = []

    @box.tool
    async def wait() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    task = asyncio.ensure_future(call_tool(provider_of(box), "wait"))  # noqa: TID251 - a test's own
    await asyncio.wait_for(started.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]


# ---------------------------------------------------------------------- prompts


async def test_a_prompt_answers_with_messages() -> None:
    call = call_of("prompts/get", "topic", {"arguments": {"name": "tea", "level": "high"}})
    reply = await make_provider().call(call)
    assert isinstance(reply, Reply)
    assert json.loads(reply.result) == {
        "messages": [{"role": "user", "content": {"type": "text", "text": "tea high"}}],
        "description": "About a topic.",
    }


async def test_a_prompt_may_ask_first() -> None:
    provider = make_provider()
    assert isinstance(await provider.call(call_of("prompts/get", "picture")), model.InputRequired)
    call = call_of("prompts/get", "picture", input_responses={"q": b"{}"})
    assert isinstance(await provider.call(call), Reply)


@pytest.mark.parametrize(
    ("name", "arguments", "kind"),
    [
        ("nothing", {}, UnknownNameError),
        ("topic", {}, InvalidArgumentsError),
        ("topic", {"name": "x", "level": "other"}, InvalidArgumentsError),
    ],
)
async def test_a_prompt_that_cannot_be_given_is_an_error(
    name: str, arguments: dict[str, str], kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        await make_provider().call(call_of("prompts/get", name, {"arguments": arguments}))


async def test_a_prompts_own_fault_is_contained() -> None:
    with capture_logs() as logs, pytest.raises(PluginError) as caught:
        await make_provider().call(call_of("prompts/get", "topic", {"arguments": {"name": "bad"}}))
    assert caught.value.plugin == "plugin"
    assert caught.value.safe_message == (
        f"The prompt failed by a fault of its own (error {logs[0]['error_id']})."
    )
    assert "hunter2" not in str(caught.value)


async def test_a_prompts_tool_error_is_told_to_the_client() -> None:
    with capture_logs() as logs, pytest.raises(PluginError) as caught:
        await make_provider().call(call_of("prompts/get", "topic", {"arguments": {"name": "tool"}}))
    assert caught.value.safe_message == "No such topic."
    assert logs == []


# ---------------------------------------------------------------------- resources


async def test_a_resource_is_read_with_its_caching_hints() -> None:
    reply = await make_provider().call(call_of("resources/read", "a://fixed"))
    assert isinstance(reply, Reply)
    assert json.loads(reply.result) == {
        "contents": [{"text": "fixed text", "uri": "a://fixed", "mimeType": "text/x"}]
    }
    assert (reply.ttl_ms, reply.cache_scope) == (5, "public")


async def test_a_template_is_read() -> None:
    reply = await make_provider().call(call_of("resources/read", "a://item/7"))
    assert isinstance(reply, Reply)
    (content,) = json.loads(reply.result)["contents"]
    assert content == {"text": '{"id":7}', "uri": "a://item/7", "mimeType": "application/json"}


@pytest.mark.parametrize("uri", ["a://nothing", "a://item/five", "a://item/0", "a://item/1/2"])
@pytest.mark.parametrize("method", ["resources/read"])
async def test_what_no_template_has_is_an_unknown_resource(uri: str, method: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        await make_provider().call(call_of(method, uri))
    assert (caught.value.kind, caught.value.name) == ("resource", uri)


async def test_a_resource_may_ask_first() -> None:
    provider = make_provider()
    outcome = await provider.call(call_of("resources/read", "a://item/2"))
    assert isinstance(outcome, model.InputRequired)
    call = call_of("resources/read", "a://item/2", input_responses={"q": b"{}"})
    assert isinstance(await provider.call(call), Reply)


async def test_a_resources_own_fault_is_contained() -> None:
    with capture_logs(), pytest.raises(PluginError, match="resource a://item"):
        await make_provider().call(call_of("resources/read", "a://item/1"))


@pytest.mark.parametrize("method", ["resources/subscribe", "resources/unsubscribe"])
async def test_subscriptions_are_answered_where_the_resource_exists(method: str) -> None:
    provider = make_provider()
    for uri in ("a://fixed", "a://item/5"):
        assert await provider.call(call_of(method, uri)) == Reply(b"{}")
    with pytest.raises(UnknownNameError):
        await provider.call(call_of(method, "a://nothing"))


# ---------------------------------------------------------------------- completions


async def complete(ref: Any, argument: Any, context: Any = None) -> Any:
    name = ref.get("name") or ref.get("uri") or "" if isinstance(ref, dict) else ""
    params = {"ref": ref, "argument": argument}
    if context is not None:
        params["context"] = context
    reply = await make_provider().call(call_of("completion/complete", name, params))
    assert isinstance(reply, Reply)
    return json.loads(reply.result)["completion"]


TOPIC = {"type": "ref/prompt", "name": "topic"}
ITEM = {"type": "ref/resource", "uri": "a://item/{id}"}


async def test_a_completion_gives_at_most_a_hundred_values() -> None:
    found = await complete(TOPIC, {"name": "name", "value": "t"})
    assert found["values"][:2] == ["t0", "t1"]
    assert len(found["values"]) == 100
    assert (found["total"], found["hasMore"]) == (150, True)


async def test_a_completion_sees_what_is_filled_in() -> None:
    context = {"arguments": {"level": "high"}}
    found = await complete(TOPIC, {"name": "name", "value": "t"}, context)
    assert found["values"][0] == "thigh0"


async def test_a_completion_may_say_how_many_there_are() -> None:
    assert await complete(ITEM, {"name": "id", "value": "5"}) == {
        "values": ["5"],
        "total": 7,
        "hasMore": True,
    }


async def test_choices_complete_themselves_and_other_arguments_have_none() -> None:
    assert (await complete(TOPIC, {"name": "level", "value": "h"}))["values"] == ["high"]
    nothing = {"values": [], "total": 0, "hasMore": False}
    assert await complete(TOPIC, {"name": "other", "value": ""}) == nothing
    fixed = {"type": "ref/resource", "uri": "a://fixed"}
    assert await complete(fixed, {"name": "id", "value": ""}) == nothing


@pytest.mark.parametrize(
    ("ref", "argument", "kind"),
    [
        ({"type": "ref/prompt", "name": "no"}, {"name": "a", "value": ""}, UnknownNameError),
        ({"type": "ref/resource", "uri": "a://no"}, {"name": "a", "value": ""}, UnknownNameError),
        ({"type": "ref/other", "name": "topic"}, {"name": "a", "value": ""}, InvalidArgumentsError),
        (None, {"name": "a", "value": ""}, InvalidArgumentsError),
        (TOPIC, {"name": "name"}, InvalidArgumentsError),
        (TOPIC, None, InvalidArgumentsError),
    ],
)
async def test_a_completion_of_nothing_is_an_error(
    ref: Any, argument: Any, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        await complete(ref, argument)


async def test_a_completers_own_fault_is_contained() -> None:
    with capture_logs(), pytest.raises(PluginError, match="completion of topic"):
        await complete(TOPIC, {"name": "name", "value": "bad"})


async def test_a_caller_that_can_answer_nothing_is_told_so() -> None:
    box = Toolbox()

    @box.tool
    async def sample(ctx: Context) -> str:
        return (await ctx.sample("hi", max_tokens=5)).text

    with pytest.raises(CapabilityMissingError):
        await call_tool(
            provider_of(box), "sample", caller=RecordingCaller(capabilities=NO_CAPABILITIES)
        )


async def test_errors_of_the_house_pass_from_prompts_and_completions_too() -> None:
    with pytest.raises(RpcError):
        await make_provider().call(call_of("prompts/get", "topic", {"arguments": {"name": "rpc"}}))
    with pytest.raises(RpcError):
        await complete(TOPIC, {"name": "name", "value": "rpc"})
