"""One call from its arrival to its one final answer, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from tests.support.exchanges import ALICE, Front, Scene, call_of
from tests.support.scripted import form, text
from tests.support.virtual_time import now, pass_time, settle, virtual_time
from waygate_mcp.errors import (
    CallTimeoutError,
    InterruptedCallError,
    LimitError,
    RpcError,
    UnknownNameError,
    UpstreamUnavailableError,
    WaygateError,
)
from waygate_mcp.gateway.exchange import Exchange, encode_log, encode_progress, unanswered
from waygate_mcp.model.call import Call, InputRequired, LogEvent, Outcome, Progress, Question, Reply
from waygate_mcp.model.decision import CallResult
from waygate_mcp.protocol.versions import MODERN


async def at_once(call: Call) -> Outcome:
    return text("done")


async def for_ever(call: Call) -> Outcome:
    await asyncio.Event().wait()
    raise AssertionError("nobody wakes it")


# --- the one final message


@virtual_time
async def test_a_call_gets_one_final_message_with_the_id_it_came_with() -> None:
    running = Scene().begin(at_once, identifier="a")
    final = await running.front.over()
    assert final["id"] == "a"
    assert final["result"]["content"][0]["text"] == "done"
    assert running.exchange.result == CallResult.OK


@virtual_time
async def test_events_after_the_final_message_are_dropped() -> None:
    kept: list[Call] = []

    async def leaks(call: Call) -> Outcome:
        kept.append(call)
        return text("done")

    running = Scene().begin(leaks, token="t", level="debug")
    await running.front.over()
    await kept[0].caller.emit(Progress(1))
    await kept[0].caller.emit(LogEvent("error", b'"late"'))
    assert running.front.events == []


@virtual_time
async def test_a_question_after_the_final_message_is_refused() -> None:
    for era in ("modern", "legacy"):
        kept: list[Call] = []

        async def leaks(call: Call, kept: list[Call] = kept) -> Outcome:
            kept.append(call)
            return text("done")

        scene = Scene()
        running = scene.begin(leaks) if era == "modern" else scene.begin_legacy(leaks)
        await running.front.over()
        with pytest.raises(LimitError, match="asked after the end"):
            await kept[0].caller.ask(form())


@pytest.mark.parametrize(
    ("error", "code", "result"),
    [
        (UnknownNameError("tool", "x"), -32602, CallResult.REFUSED),
        (RpcError(1234, "odd"), 1234, CallResult.FAILED),
        (UpstreamUnavailableError("weather"), -32603, CallResult.FAILED),
        (CallTimeoutError(5), 4408, CallResult.TIMEOUT),
        (InterruptedCallError(), -32603, CallResult.CANCELLED),
    ],
)
def test_an_error_raised_on_purpose_is_told_in_its_own_words(
    error: WaygateError, code: int, result: str
) -> None:
    async def fails(call: Call) -> Outcome:
        raise error

    @virtual_time
    async def dialogue() -> None:
        running = Scene().begin(fails)
        final = await running.front.over()
        assert final["error"]["code"] == code
        assert running.exchange.result == result

    dialogue()


@virtual_time
async def test_a_tool_that_says_it_failed_is_a_reply() -> None:
    async def fails(call: Call) -> Outcome:
        return text("no", is_error=True)

    for running in (Scene().begin(fails), Scene().begin_legacy(fails)):
        assert "result" in await running.front.over()
        assert running.exchange.result == CallResult.TOOL_ERROR


def test_a_bug_is_told_by_an_id_that_is_in_the_log_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(call: Call) -> Outcome:
        raise ZeroDivisionError("secret")

    @virtual_time
    async def dialogue() -> None:
        running = Scene().begin(broken)
        final = await running.front.over()
        assert final["error"] == {
            "code": -32603,
            "message": "Internal error",
            "data": {"requestId": "r-1"},
        }
        assert running.exchange.result == CallResult.FAILED

    with caplog.at_level(logging.ERROR):
        dialogue()
    [record] = caplog.records
    assert "r-1" in record.getMessage()
    assert record.exc_info is not None


# --- progress and log


@virtual_time
async def test_progress_must_grow_and_be_a_number() -> None:
    async def counts(call: Call) -> Outcome:
        for step in (1, 1, 0.5, float("nan"), 2, float("inf"), 3):
            await call.caller.emit(Progress(step, total=3))
        return text("done")

    running = Scene().begin(counts, token=7)
    await running.front.over()
    told = [event["params"] for event in running.front.events]
    assert [params["progress"] for params in told] == [1, 2, 3]
    assert {params["progressToken"] for params in told} == {7}


@virtual_time
async def test_progress_nobody_asked_for_is_not_sent() -> None:
    async def counts(call: Call) -> Outcome:
        await call.caller.emit(Progress(1))
        return text("done")

    running = Scene().begin(counts)
    await running.front.over()
    assert running.front.events == []


@virtual_time
async def test_a_modern_request_without_a_log_level_gets_no_log() -> None:
    async def talks(call: Call) -> Outcome:
        assert call.caller.log_level is None
        await call.caller.emit(LogEvent("emergency", b'"help"'))
        return text("done")

    running = Scene().begin(talks)
    await running.front.over()
    assert running.front.events == []


@virtual_time
async def test_a_modern_request_gets_what_its_own_level_lets_through() -> None:
    async def talks(call: Call) -> Outcome:
        for level in ("debug", "notice", "warning", "alert"):
            await call.caller.emit(LogEvent(level, b'"x"'))
        return text("done")

    running = Scene().begin(talks, level="warning")
    await running.front.over()
    assert [event["params"]["level"] for event in running.front.events] == ["warning", "alert"]


@virtual_time
async def test_a_legacy_call_gets_what_its_sessions_level_lets_through_even_if_that_changes() -> (
    None
):
    scene = Scene()
    session = scene.session()

    async def talks(call: Call) -> Outcome:
        await call.caller.emit(LogEvent("debug", b'"before"'))
        await call.caller.emit(LogEvent("info", b'"default"'))
        session.log_level = "debug"
        await call.caller.emit(LogEvent("debug", b'"after"'))
        return text("done")

    running = scene.begin_legacy(talks, session)
    await running.front.over()
    assert [event["params"]["data"] for event in running.front.events] == ["default", "after"]


def test_progress_is_worded_with_what_it_has() -> None:
    assert json.loads(encode_progress(Progress(1), "t"))["params"] == {
        "progressToken": "t",
        "progress": 1,
    }
    assert json.loads(encode_progress(Progress(1, 2.5, "half"), 3))["params"] == {
        "progressToken": 3,
        "progress": 1,
        "total": 2.5,
        "message": "half",
    }


def test_a_total_that_is_no_number_of_json_is_left_out() -> None:
    assert "total" not in json.loads(encode_progress(Progress(1, float("inf")), 1))["params"]


def test_a_log_message_keeps_its_data_and_names_its_logger() -> None:
    plain = json.loads(encode_log(LogEvent("info", b'{"a": [1]}')))
    assert plain == {
        "jsonrpc": "2.0",
        "method": "notifications/message",
        "params": {"level": "info", "data": {"a": [1]}},
    }
    named = json.loads(encode_log(LogEvent("info", b"1", 'we"ather')))
    assert named["params"]["logger"] == 'we"ather'


# --- the end from outside


@virtual_time
async def test_a_cancelled_call_is_stopped_and_its_client_gets_nothing_more() -> None:
    running = Scene().begin(for_ever)
    await settle()
    running.exchange.cancel("the client is gone")
    assert await running.front.over() is None
    assert running.exchange.result == CallResult.CANCELLED
    await running.task  # the door's task goes on


@virtual_time
async def test_a_call_cancelled_for_a_reason_is_told_it() -> None:
    running = Scene().begin(for_ever)
    await settle()
    running.exchange.cancel("server stops", InterruptedCallError())
    final = await running.front.over()
    assert final["error"]["data"] == {"reason": "interrupted"}


@virtual_time
async def test_a_call_is_cancelled_once() -> None:
    running = Scene().begin(for_ever)
    await settle()
    running.exchange.cancel("first", InterruptedCallError())
    running.exchange.cancel("second")
    assert "error" in await running.front.over()
    running.exchange.cancel("after the end")
    await running.task
    assert running.task.cancelling() == 0


@virtual_time
async def test_a_call_cancelled_before_its_first_step_is_never_begun() -> None:
    begun: list[Call] = []

    async def notes(call: Call) -> Outcome:
        begun.append(call)
        return text("done")

    running = Scene().begin(notes)
    running.exchange.cancel("in the same chunk of input")
    assert await running.front.over() is None
    assert begun == []


@virtual_time
async def test_a_provider_that_swallows_its_cancellation_cannot_answer_after_it() -> None:
    async def stubborn(call: Call) -> Outcome:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return text("I go on")
        raise AssertionError

    for error in (None, InterruptedCallError()):
        running = Scene().begin(stubborn)
        await settle()
        running.exchange.cancel("stop", error)
        final = await running.front.over()
        assert final is None or "error" in final
        await running.task
        assert running.task.cancelling() == 0


@virtual_time
async def test_a_provider_that_fails_while_it_is_cancelled_is_cancelled_all_the_same() -> None:
    async def clumsy(call: Call) -> Outcome:
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError

    running = Scene().begin(clumsy)
    await settle()
    running.exchange.cancel("stop")
    assert await running.front.over() is None
    assert running.exchange.result == CallResult.CANCELLED


@virtual_time
async def test_foreign_cancellation_passes_through() -> None:
    for running in (Scene().begin(for_ever), Scene().begin_legacy(for_ever)):
        running.exchange.arm_deadline()
        await settle()
        running.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running.task
        assert running.exchange.is_settled
        assert running.front.finals == []


# --- its time


@virtual_time
async def test_a_call_over_its_time_is_stopped_and_told() -> None:
    running = Scene().begin(for_ever)
    running.exchange.call_timeout_s = 5
    running.exchange.arm_deadline()
    started = now()
    final = await running.front.over()
    assert now() - started == pytest.approx(5)
    assert final["error"]["code"] == 4408
    assert running.exchange.result == CallResult.TIMEOUT


@virtual_time
async def test_the_time_of_a_call_is_armed_once_and_never_after_its_end() -> None:
    running = Scene().begin(for_ever)
    running.exchange.call_timeout_s = 5
    running.exchange.arm_deadline()
    await pass_time(3)
    running.exchange.arm_deadline()
    await pass_time(2.5)
    assert running.front.finals
    running.exchange.arm_deadline()
    await pass_time(100)


@virtual_time
async def test_the_time_of_a_call_stands_still_while_a_question_is_open() -> None:
    for era in ("modern", "legacy"):

        async def asks(call: Call) -> Outcome:
            await call.caller.ask(form())
            await asyncio.Event().wait()
            raise AssertionError

        scene = Scene()
        running = scene.begin(asks) if era == "modern" else scene.begin_legacy(asks)
        running.exchange.call_timeout_s = 5
        running.exchange.arm_deadline()
        await pass_time(4)
        running.exchange.arm_deadline()  # as the door's watch might
        await pass_time(400)
        assert not running.task.done(), era
        await pass_time(200)  # the question expires, and the call's time runs again
        await pass_time(6)
        assert running.task.done(), era
        assert running.exchange.result == CallResult.TIMEOUT


@virtual_time
async def test_two_open_questions_stop_the_clock_until_both_are_answered() -> None:
    async def asks(call: Call) -> Outcome:
        await asyncio.gather(call.caller.ask(form()), call.caller.ask(form(key="b")))
        return text("done")

    running = Scene().begin(asks)
    running.exchange.call_timeout_s = 5
    running.exchange.arm_deadline()
    await running.front.over()
    assert await running.retry({"w1": {"action": "decline"}}) is not None
    await pass_time(100)
    assert not running.task.done()


def test_silence_is_a_cancelled_elicitation_or_an_error() -> None:
    assert unanswered("elicitation/create").result == b'{"action":"cancel"}'
    for method in ("sampling/createMessage", "roots/list"):
        answer = unanswered(method)
        assert (answer.result, answer.error_code) == (None, -32603)


# --- what the eras fill in


@virtual_time
async def test_the_base_leaves_questions_and_words_to_the_eras() -> None:
    front = Front()
    exchange = Exchange(1, MODERN, front, None, None)
    call_of(exchange, "tools/call", ALICE, {})
    with pytest.raises(NotImplementedError):
        await exchange.ask(Question("roots/list"))
    await exchange.run(at_once)
    assert (await front.over())["error"]["message"] == "Internal error"
    with pytest.raises(NotImplementedError):
        await exchange._resolve(InputRequired({}), at_once)


@virtual_time
async def test_without_a_front_events_and_the_end_reach_nobody() -> None:
    async def counts(call: Call) -> Outcome:
        await call.caller.emit(Progress(1))
        await call.caller.close_stream()
        return Reply(b"{}")

    running = Scene().begin_legacy(counts, token=1)
    running.exchange.front = None
    await running.task
    assert running.front.events == running.front.finals == []


@virtual_time
async def test_a_provider_may_end_the_stream_of_its_client() -> None:
    async def closes(call: Call) -> Outcome:
        await call.caller.close_stream()
        return text("done")

    running = Scene().begin_legacy(closes)
    await running.front.over()
    assert running.front.closed == 1
