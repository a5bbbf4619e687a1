"""What is recorded: the beginning before the effect, the end or the refusal after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from waygate_mcp.errors import ForbiddenError, StorageError
from waygate_mcp.gateway.chain import compose
from waygate_mcp.gateway.steps.audit import started
from waygate_mcp.gateway.steps.observe import Observe
from waygate_mcp.model.call import Call, InputRequired, Outcome, Reply
from waygate_mcp.model.ports import Handler, Step
from waygate_mcp.telemetry.metrics import Metrics
from waygate_mcp.testing.fakes import call_of


class Recorder:
    """Writes down what it is told."""

    def __init__(self, *, broken: bool = False) -> None:
        self.log: list[str] = []
        self.broken = broken

    def begin(self, call: Call) -> None:
        if self.broken:
            raise StorageError("the disk is full")
        self.log.append("begin")
        call.audit_sequence = 7

    async def wait_begun(self, call: Call) -> None:
        await asyncio.sleep(0)
        self.log.append(f"durable {call.audit_sequence}")

    def end(self, call: Call, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.log.append(f"end {call.audit_sequence} {outcome}")

    def refuse(self, call: Call, code: str, seconds: float) -> None:
        assert seconds >= 0
        self.log.append(f"refuse {code}")


def chain(
    recorder: Recorder,
    effect: Callable[[], Outcome],
    *between: Step,
    is_strict: bool = False,
) -> Handler:
    async def last(call: Call) -> Outcome:
        recorder.log.append("effect")
        return effect()

    observe = Observe(Metrics(), recorder=recorder)
    return compose((observe, *between, started(recorder, is_strict=is_strict)), last)


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (Reply(b"{}"), "ok"),
        (Reply(b"{}", is_error=True), "tool_error"),
        (InputRequired({}), "input_required"),
    ],
)
async def test_the_beginning_comes_before_the_effect_and_the_end_after(
    outcome: Outcome, word: str
) -> None:
    recorder = Recorder()
    assert await chain(recorder, lambda: outcome)(call_of("tools/call", "t")) is outcome
    assert recorder.log == ["begin", "effect", f"end 7 {word}"]


async def test_strict_waits_for_the_disk_before_the_effect() -> None:
    recorder = Recorder()
    await chain(recorder, lambda: Reply(b"{}"), is_strict=True)(call_of("tools/call", "t"))
    assert recorder.log == ["begin", "durable 7", "effect", "end 7 ok"]


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (StorageError(), "storage_error"),
        (asyncio.CancelledError(), "cancelled"),
        (ZeroDivisionError(), "failed"),
    ],
)
async def test_however_it_ends_it_is_recorded(error: BaseException, word: str) -> None:
    def fail() -> Outcome:
        raise error

    recorder = Recorder()
    with pytest.raises(type(error)):
        await chain(recorder, fail)(call_of("tools/call", "t"))
    assert recorder.log == ["begin", "effect", f"end 7 {word}"]


async def test_what_is_refused_leaves_one_record_and_never_begins() -> None:
    def refuse(call: Call, call_next: Handler) -> object:
        raise ForbiddenError(permission="tools:call")

    recorder = Recorder()
    handle = chain(recorder, lambda: Reply(b"{}"), refuse)  # type: ignore[arg-type]  # it only raises
    with pytest.raises(ForbiddenError):
        await handle(call_of("tools/call", "t"))
    assert recorder.log == ["refuse forbidden"]


@pytest.mark.parametrize("is_strict", [False, True])
async def test_without_a_record_there_is_no_effect(is_strict: bool) -> None:
    recorder = Recorder(broken=True)
    handle = chain(recorder, lambda: Reply(b"{}"), is_strict=is_strict)
    with pytest.raises(StorageError):
        await handle(call_of("tools/call", "t"))
    assert recorder.log == ["refuse storage_error"]
