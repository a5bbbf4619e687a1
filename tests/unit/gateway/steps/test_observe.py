"""Every call is counted once, with its outcome, however it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.providers import make_call
from tests.support.scripted import form, text
from waygate_mcp.errors import RpcError, UnknownNameError
from waygate_mcp.gateway.steps.observe import Observe
from waygate_mcp.model.call import Call, InputRequired, Outcome


class Counted:
    """As much of the metrics as the step uses."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str, str]] = []
        self.errors: list[str] = []

    def observe_call(
        self, endpoint: str, method: str, upstream: str, outcome: str, seconds: float
    ) -> None:
        assert 0 <= seconds < 60
        self.calls.append((endpoint, method, upstream, outcome))

    def count_error(self, code: str) -> None:
        self.errors.append(code)


async def count(handler: Any) -> Counted:
    counted = Counted()
    step: Any = Observe(counted)  # type: ignore[arg-type]
    call = make_call("tools/call", {"name": "x"})

    async def routed(call: Call) -> Outcome:
        call.provider = "box"
        outcome: Outcome = await handler(call)
        return outcome

    try:
        await step(call, routed)
    finally:
        assert len(counted.calls) == 1
        assert counted.calls[0][:3] == ("default", "tools/call", "box")
    return counted


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (text("done"), "ok"),
        (text("no", is_error=True), "tool_error"),
        (InputRequired({"a": form()}), "input_required"),
    ],
)
async def test_an_outcome_is_counted_by_its_word(outcome: Outcome, word: str) -> None:
    async def answers(call: Call) -> Outcome:
        return outcome

    counted = await count(answers)
    assert counted.calls[0][3] == word
    assert counted.errors == []


@pytest.mark.parametrize(
    ("error", "word", "codes"),
    [
        (UnknownNameError("tool", "x"), "failed", ["unknown_name"]),
        (ZeroDivisionError(), "failed", []),
        (asyncio.CancelledError(), "cancelled", []),
    ],
)
async def test_an_error_is_counted_and_passes(
    error: BaseException, word: str, codes: list[str]
) -> None:
    counted = Counted()
    step: Any = Observe(counted)  # type: ignore[arg-type]

    async def fails(call: Call) -> Outcome:
        raise error

    with pytest.raises(type(error)):
        await step(make_call("tools/call", {"name": "x"}), fails)
    assert [call[3] for call in counted.calls] == [word]
    assert counted.errors == codes


class Hides:
    """Hides one word."""

    def hide(self, text: str) -> str:
        return text.replace("canary", "***")

    def hide_in_json(self, data: bytes) -> bytes:
        return data.replace(b"canary", b"***")


@pytest.mark.parametrize(
    ("error", "message", "data"),
    [
        (RpcError(-32000, "it said canary", b'"and canary"'), "it said ***", b'"and ***"'),
        (RpcError(-32000, "it said canary"), "it said ***", None),
        (RpcError(-32000, "fine", b'"canary"'), "fine", b'"***"'),
        (RpcError(-32000, "fine", b'"fine"'), "fine", b'"fine"'),
    ],
)
async def test_credentials_that_an_upstream_repeats_in_an_error_are_hidden(
    error: RpcError, message: str, data: bytes | None
) -> None:
    step: Any = Observe(Counted(), Hides())  # type: ignore[arg-type]

    async def fail(_: Any) -> Any:
        raise error

    with pytest.raises(RpcError) as caught:
        await step(make_call("tools/call", {"name": "x"}), fail)
    assert (caught.value.rpc_code, caught.value.safe_message, caught.value.data) == (
        -32000, message, data,
    )  # fmt: skip


class Log:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, str, Any]] = []

    def note(self, call: Call, result: str, seconds: float, failure: Any) -> None:
        assert 0 <= seconds < 60
        self.noted.append((call.name, result, failure and failure.code))


async def test_a_call_is_noted_however_it_ends() -> None:
    log = Log()
    step: Any = Observe(Counted(), log=log)  # type: ignore[arg-type]
    call = make_call("tools/call", {"name": "x"})

    async def answers(call: Call) -> Outcome:
        return text("done")

    async def fails(call: Call) -> Outcome:
        raise UnknownNameError("tool", "x")

    await step(call, answers)
    with pytest.raises(UnknownNameError):
        await step(call, fails)
    assert log.noted == [(call.name, "ok", None), (call.name, "failed", "unknown_name")]
