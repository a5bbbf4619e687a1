"""Each request is counted before anything is done for it."""

from __future__ import annotations

import pytest

from tests.support.dialogues import person
from tests.support.providers import make_call
from tests.support.scripted import text
from waygate_mcp.errors import RateLimitedError
from waygate_mcp.gateway.steps.limit import Limit
from waygate_mcp.model.call import Call, Outcome
from waygate_mcp.model.principal import Principal


async def passes(call: Call) -> Outcome:
    return text("passed")


@pytest.mark.parametrize(
    ("method", "name", "tool"),
    [("tools/call", "x", "x"), ("prompts/get", "x", ""), ("ping", "", "")],
)
async def test_a_request_is_counted_with_its_caller_and_its_tool(
    method: str, name: str, tool: str
) -> None:
    seen: list[tuple[Principal, str]] = []
    alice = person("alice", "*")
    call = make_call(method, {"name": name}, principal=alice)

    def admit(principal: Principal, counted: str) -> None:
        seen.append((principal, counted))

    step = Limit(admit)
    assert await step(call, passes) == text("passed")
    assert seen == [(alice, tool)]


async def test_one_too_many_goes_no_further() -> None:
    def refuse(_principal: Principal, _tool: str) -> None:
        raise RateLimitedError(1)

    with pytest.raises(RateLimitedError):
        await Limit(refuse)(make_call("tools/call", {"name": "x"}), passes)


@pytest.mark.parametrize("is_refused", [False, True])
async def test_what_has_to_be_awaited_is_awaited_first(is_refused: bool) -> None:
    order: list[str] = []

    async def count() -> None:
        order.append("counted")
        if is_refused:
            raise RateLimitedError(1)

    async def handle(call: Call) -> Outcome:
        order.append("called")
        return text("passed")

    answer = Limit(lambda _principal, _tool: count())(make_call("ping", {}), handle)
    if is_refused:
        with pytest.raises(RateLimitedError):
            await answer
    else:
        assert await answer == text("passed")
    assert order == ["counted", "called"][: 1 + (not is_refused)]
