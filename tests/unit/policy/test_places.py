"""How many calls may be under way at once, and whose places they take."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.dialogues import person
from tests.support.providers import make_call
from waygate_mcp.errors import RateLimitedError
from waygate_mcp.model.principal import Principal
from waygate_mcp.policy.places import Cap, Caps, Crowd, Places

CAPS = Caps(
    default=5,
    roles={"batch": 9, "slow": 2},
    keys={"key:named": 4},
    tools={"heavy": 1},
    upstreams={"web": 3},
)


def call_of(principal: Principal, tool: str = "x", provider: str = "") -> Any:
    call = make_call("tools/call", {"name": tool}, principal=principal)
    call.provider = provider
    return call


def caller(name: str, *roles: str) -> Principal:
    return replace(person(name), roles=roles)


@pytest.mark.parametrize(
    ("principal", "scope", "most"),
    [
        (caller("other"), "concurrent_default", 5),
        (caller("other", "slow", "batch"), "concurrent_role", 9),
        (caller("other", "unknown"), "concurrent_default", 5),
        (caller("named", "slow"), "concurrent_key", 4),
    ],
)
def test_what_is_said_of_one_caller_outweighs_what_is_said_of_many(
    principal: Principal, scope: str, most: int
) -> None:
    assert CAPS.of_caller(call_of(principal)) == (Cap(("caller", principal.id), scope, most),)


def test_a_tool_has_its_number_for_each_caller_besides_the_callers_own() -> None:
    alice = caller("alice")
    heavy = Cap(("tool", "key:alice", "heavy"), "concurrent_tool", 1)
    assert CAPS.of_caller(call_of(alice, "heavy"))[1:] == (heavy,)
    other = make_call("prompts/get", {"name": "heavy"}, principal=alice)
    assert len(CAPS.of_caller(other)) == 1


def test_an_upstream_has_its_number_for_all_together() -> None:
    assert CAPS.of_upstream(call_of(caller("a"), provider="web"))[0].most == 3
    assert CAPS.of_upstream(call_of(caller("a"), provider="other")) == ()


@pytest.mark.parametrize(
    ("caps", "bind"),
    [
        (Caps(), False),
        (Caps(upstreams={"web": 1}), False),
        (Caps(default=1), True),
        (Caps(tools={"x": 1}), True),
        (Caps(roles={"x": 1}), True),
        (Caps(keys={"x": 1}), True),
    ],
)
def test_nobody_is_counted_where_nothing_is_said(caps: Caps, bind: bool) -> None:
    assert caps.bind_callers is bind
    assert Caps().of_caller(call_of(caller("a"))) == ()


def test_one_too_many_takes_nothing_and_is_told_of_which_number() -> None:
    scopes: list[str] = []
    places = Places()
    crowd = Crowd(CAPS.of_caller, places, scopes.append)
    alice = caller("alice")
    held = crowd.enter(call_of(alice, "heavy"))
    before = dict(places.taken)
    with pytest.raises(RateLimitedError) as caught:
        crowd.enter(call_of(alice, "heavy"))
    assert places.taken == before
    assert scopes == ["concurrent_tool"]
    assert caught.value.limit == "limits.concurrent (tool)"
    assert (caught.value.count, caught.value.retry_after_s) == (None, 1.0)
    crowd.enter(call_of(caller("bob"), "heavy"))
    crowd.leave(held)
    crowd.leave(crowd.enter(call_of(alice, "heavy")))


def test_a_place_may_be_taken_again_where_there_is_none() -> None:
    places = Places()
    refused: list[str] = []
    crowd = Crowd(CAPS.of_upstream, places, refused.append)
    call = call_of(caller("a"), provider="web")
    held = [crowd.enter(call) for _ in range(3)]
    crowd.enter_again(held[0])
    assert places.taken == {("upstream", "web"): 4}
    for one in [*held, held[0]]:
        crowd.leave(one)
    assert places.taken == {}
