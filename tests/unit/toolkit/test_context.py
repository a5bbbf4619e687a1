from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from waygate_mcp.errors import CallTimeoutError, CapabilityMissingError, InterruptedCallError
from waygate_mcp.model.call import Answer, LogEvent, Progress, Question
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES
from waygate_mcp.protocol.versions import LATEST_LEGACY
from waygate_mcp.testing.fakes import (
    RecordingCaller,
    accepted,
    call_of,
    call_tool,
    provider_of,
    sampled,
    text_of,
)
from waygate_mcp.toolkit.context import Context
from waygate_mcp.toolkit.failures import QuestionRefusedError, ToolError
from waygate_mcp.toolkit.questions import Root
from waygate_mcp.toolkit.toolbox import Toolbox


class Name(BaseModel):
    name: str


ROOTS = {"roots": [{"uri": "file:///a", "name": "A"}]}


def context_of(caller: RecordingCaller | None = None, **more: Any) -> Context:
    return Context(call_of("tools/call", "t", caller=caller or RecordingCaller(), **more))


# ---------------------------------------------------------------------- towards the client


async def test_progress_and_log_messages_reach_the_caller_in_order() -> None:
    caller = RecordingCaller()
    ctx = context_of(caller)
    await ctx.report_progress(1, 2, "half")
    await ctx.report_progress(2)
    await ctx.log("critical", {"a": 1}, "db")
    for level in ("debug", "info", "notice", "warning", "error"):
        await getattr(ctx, level)(level)
    assert caller.progress == [Progress(1, 2, "half"), Progress(2)]
    assert caller.events[2] == LogEvent("critical", b'{"a":1}', "db")
    assert [log[0] for log in caller.logs] == [
        "critical", "debug", "info", "notice", "warning", "error",
    ]  # fmt: skip


async def test_a_log_level_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="no log level 'loud'"):
        await context_of().log("loud", "x")


async def test_a_form_is_asked_and_its_model_comes_back() -> None:
    caller = RecordingCaller([accepted({"name": "Ada"})])
    answer = await context_of(caller).elicit("Who?", Name, key="who")
    assert answer.data == Name(name="Ada")
    (question,) = caller.questions
    assert (question.method, question.key) == ("elicitation/create", "who")


async def test_a_form_by_hand_gives_its_content() -> None:
    caller = RecordingCaller([accepted({"x": 1}), {"action": "decline"}])
    ctx = context_of(caller)
    assert (await ctx.elicit("m", {"type": "object"})).content == {"x": 1}
    assert (await ctx.elicit("m", {"type": "object"})).action == "decline"


async def test_an_answer_that_is_none_is_a_tool_error() -> None:
    answers: list[Any] = [{"action": "maybe"}, []]
    for answer in answers:
        with pytest.raises(ToolError, match="cannot be read"):
            await context_of(RecordingCaller([answer])).elicit("m", Name)


async def test_a_url_is_asked_with_an_id_for_legacy_clients() -> None:
    caller = RecordingCaller([accepted(), accepted(), accepted()])
    assert (await context_of(caller).elicit_url("Sign", "https://x")).is_accepted
    legacy = context_of(caller, revision=LATEST_LEGACY)
    await legacy.elicit_url("Sign", "https://x")
    await legacy.elicit_url("Sign", "https://x", elicitation_id="e1")
    modern, made_up, given = (json.loads(question.params) for question in caller.questions)
    assert "elicitationId" not in modern
    assert len(made_up["elicitationId"]) == 16
    assert given["elicitationId"] == "e1"


async def test_a_sampling_is_asked_with_one_or_several_messages() -> None:
    caller = RecordingCaller([sampled("Hi"), sampled("Ho")])
    ctx = context_of(caller)
    assert (await ctx.sample("Greet", max_tokens=5, key="k")).text == "Hi"
    answer = await ctx.sample(
        ["a", "b"], max_tokens=5, system_prompt="s", temperature=1.0, stopSequences=["."]
    )
    assert (answer.text, answer.model, answer.stop_reason) == ("Ho", "fake-model", "endTurn")
    first, second = caller.questions
    assert first.key == "k"
    params = json.loads(second.params)
    assert len(params["messages"]) == 2
    assert params["stopSequences"] == ["."]


async def test_roots_are_listed() -> None:
    assert await context_of(RecordingCaller([ROOTS])).list_roots() == [Root("file:///a", "A")]


async def test_a_client_may_refuse_a_question() -> None:
    caller = RecordingCaller([Answer(None, -1, "User rejected")])
    with pytest.raises(QuestionRefusedError, match="User rejected"):
        await context_of(caller).sample("x", max_tokens=1)


async def test_what_the_client_cannot_answer_is_the_callers_to_say() -> None:
    ctx = context_of(RecordingCaller(capabilities=NO_CAPABILITIES))
    with pytest.raises(CapabilityMissingError):
        await ctx.list_roots()


async def test_the_stream_can_be_closed() -> None:
    caller = RecordingCaller()
    await context_of(caller).close_stream()
    assert caller.streams_closed == 1


# ---------------------------------------------------------------------- facts


def test_the_request_is_known() -> None:
    ctx = context_of(session_id="s", progress_token=5)
    request = ctx.request
    assert request is ctx.request
    assert (request.request_id, request.endpoint) == ("test-request", "default")
    assert (request.principal_id, request.principal_name) == ("local", "local process")
    assert (request.client_name, request.revision) == ("test-client", "2026-07-28")
    assert (request.session_id, request.progress_token) == ("s", 5)
    assert request.capabilities.form
    assert request.meta == {}


def test_the_deadline_is_known_in_seconds_left() -> None:
    assert 0 < context_of().remaining_s <= 30
    assert context_of(deadline_s=0.0).remaining_s == 0.0


def test_answers_and_state_of_an_earlier_round_are_read() -> None:
    responses = {
        "form": json.dumps(accepted({"name": "Ada"})).encode(),
        "model": json.dumps(sampled("Hi")).encode(),
        "roots": json.dumps(ROOTS).encode(),
        "wrong": b"12345",
        "misfit": json.dumps(accepted({})).encode(),
    }
    ctx = context_of(input_responses=responses, request_state="s")
    assert ctx.state == "s"
    assert ctx.input_responses["wrong"] == 12345
    form = ctx.elicited("form", Name)
    assert form is not None
    assert form.data == Name(name="Ada")
    assert ctx.elicited("form") is not None
    assert ctx.elicited("wrong") is None
    assert ctx.elicited("absent") is None
    assert (sampling := ctx.sampled("model")) is not None
    assert sampling.text == "Hi"
    assert ctx.sampled("wrong") is None
    assert ctx.roots("roots") == [Root("file:///a", "A")]
    assert ctx.roots("wrong") is None
    with pytest.raises(ToolError, match="does not fit the form"):
        ctx.elicited("misfit", Name)


def test_the_first_round_has_neither() -> None:
    ctx = context_of()
    assert ctx.input_responses == {}
    assert ctx.state is None
    assert not ctx.is_cancelled


# ---------------------------------------------------------------------- in threads


def sync_box(function: Callable[[Context], str]) -> Toolbox:
    box = Toolbox()
    box.add_tool(function, name="t", structured=False)
    return box


async def test_every_verb_has_a_blocking_twin() -> None:
    def everything(ctx: Context) -> str:
        ctx.sync.report_progress(1, 2)
        ctx.sync.log("critical", "x", "db")
        for level in ("debug", "info", "notice", "warning", "error"):
            getattr(ctx.sync, level)(level)
        name = ctx.sync.elicit("m", Name).data
        assert name is not None
        assert ctx.sync.elicit_url("m", "https://x").is_accepted
        text = ctx.sync.sample("m", max_tokens=1, system_prompt="s").text
        roots = ctx.sync.list_roots()
        ctx.sync.close_stream()
        return f"{name.name} {text} {len(roots)}"

    caller = RecordingCaller([accepted({"name": "Ada"}), accepted(), sampled("Hi"), ROOTS])
    reply = await call_tool(provider_of(sync_box(everything)), "t", caller=caller)
    assert text_of(reply) == "Ada Hi 1"
    assert len(caller.progress) == 1
    assert len(caller.logs) == 6
    assert caller.streams_closed == 1


async def test_errors_of_a_verb_reach_the_thread() -> None:
    def ask(ctx: Context) -> str:
        try:
            ctx.sync.sample("m", max_tokens=1)
        except QuestionRefusedError as exc:
            return f"refused: {exc.reason}"
        return "answered"

    caller = RecordingCaller([Answer(None, -1, "no")])
    assert text_of(await call_tool(provider_of(sync_box(ask)), "t", caller=caller)) == "refused: no"


async def test_a_timeout_of_the_verb_itself_is_not_taken_for_the_deadline() -> None:
    async def time_out(_: Question) -> Answer:
        raise TimeoutError("its own")

    def ask(ctx: Context) -> str:
        try:
            ctx.sync.list_roots()
        except TimeoutError as exc:
            return str(exc)
        return "answered"

    caller = RecordingCaller([time_out])
    assert text_of(await call_tool(provider_of(sync_box(ask)), "t", caller=caller)) == "its own"


async def until(time_s: float) -> None:
    while time.monotonic() < time_s:  # noqa: ASYNC110 - time has to pass, and nothing else
        await asyncio.sleep(0)


async def never(_: Question) -> Answer:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_thread_waits_no_longer_than_the_deadline() -> None:
    def ask(ctx: Context) -> str:
        ctx.sync.list_roots()
        return "answered"

    caller = RecordingCaller([never])
    with pytest.raises(CallTimeoutError):
        await call_tool(
            provider_of(sync_box(ask)), "t", caller=caller, deadline_s=time.monotonic() + 0.05
        )


async def test_a_deadline_that_moves_while_a_question_is_open_is_obeyed() -> None:
    call = call_of("tools/call", "t", deadline_s=time.monotonic() + 0.15)

    async def move(_: Question) -> Answer:
        first_s = call.deadline_s
        await until(first_s - 0.05)  # by now the thread waits for the first deadline
        call.deadline_s += 20
        await until(first_s + 0.05)
        return Answer(json.dumps(ROOTS).encode())

    call.caller = RecordingCaller([move])

    def ask(ctx: Context) -> str:
        return f"{len(ctx.sync.list_roots())}"

    assert text_of(await provider_of(sync_box(ask)).call(call)) == "1"


async def test_a_cancelled_call_frees_a_thread_that_waits_and_tells_it() -> None:
    asked, done = asyncio.Event(), threading.Event()
    seen: list[Any] = []

    async def note(_: Question) -> Answer:
        await until(time.monotonic() + 0.05)  # by now the thread waits for the answer
        asked.set()
        return await never(_)

    def ask(ctx: Context) -> str:
        try:
            ctx.sync.list_roots()
        except InterruptedCallError:
            seen.append(ctx.is_cancelled)
            with pytest.raises(InterruptedCallError):
                ctx.sync.info("too late")
        finally:
            done.set()
        return ""

    task = asyncio.ensure_future(  # noqa: TID251 - a test's own
        call_tool(provider_of(sync_box(ask)), "t", caller=RecordingCaller([note]))
    )
    await asyncio.wait_for(asked.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(done.wait, 5)
    assert seen == [True]


async def test_a_cancellation_between_the_check_and_the_wait_is_not_missed() -> None:
    ctx = context_of(RecordingCaller([never]))
    ctx.enter_thread(asyncio.get_running_loop())

    class Late(set[Any]):
        def add(self, wait: Any) -> None:
            ctx._cancelled = True
            super().add(wait)

    ctx._waits = Late()
    with pytest.raises(InterruptedCallError):
        await asyncio.wait_for(asyncio.to_thread(ctx.sync.list_roots), 5)


def test_the_blocking_twins_are_for_threads_only() -> None:
    with pytest.raises(RuntimeError, match="functions without `async`"):
        context_of().sync.info("x")
