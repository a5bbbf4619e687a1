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
    step = Limit(lambda principal, counted: seen.append((principal, counted)))
    assert await step(call, passes) == text("passed")
    assert seen == [(alice, tool)]


async def test_one_too_many_goes_no_further() -> None:
    def refuse(_principal: Principal, _tool: str) -> None:
        raise RateLimitedError(1)

    with pytest.raises(RateLimitedError):
        await Limit(refuse)(make_call("tools/call", {"name": "x"}), passes)
