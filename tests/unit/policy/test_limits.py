"""Which rates a caller is counted by, and what it is told when they are spent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest

from tests.support.providers import make_call
from waygate_mcp.errors import RateLimitedError
from waygate_mcp.model.ports import Bucket, Shortage
from waygate_mcp.model.principal import ANONYMOUS, LOCAL, Principal
from waygate_mcp.model.rate import Rate, parse_rate
from waygate_mcp.policy import limits
from waygate_mcp.policy.counters import LocalCounters
from waygate_mcp.policy.limits import Limiter, Rules

USUAL = (parse_rate("5/minute"),)


def rates(text: str) -> tuple[Rate, ...]:
    return (parse_rate(text),)


def caller(
    name: str = "key:a", *, roles: tuple[str, ...] = (), own: tuple[str, ...] = ()
) -> Principal:
    """A caller with what its key gives it."""
    return Principal(name, name, roles=roles, limits=own)


class Counted:
    """A limiter and what it told the metric."""

    def __init__(self, rules: Rules) -> None:
        self.scopes: Counter[str] = Counter()
        store = LocalCounters(lambda: 0.0)
        self.limiter = Limiter(rules, store, lambda scope: self.scopes.update((scope,)))

    def passed(self, principal: Principal, tries: int, tool: str = "") -> int:
        count = 0
        for _ in range(tries):
            try:
                self.limiter.admit(principal, tool)
            except RateLimitedError:
                continue
            count += 1
        return count


@pytest.mark.parametrize(
    ("principal", "allowed", "scope"),
    [
        (caller("key:other"), 5, "default"),
        (caller("key:other", roles=("batch", "slow")), 2, "role"),
        (caller("key:other", roles=("empty",)), 5, "default"),
        (caller("key:other", roles=("slow",), own=("3/minute",)), 3, "key"),
        (caller("key:other", own=("3/minute", "nonsense")), 5, "default"),
        (caller("key:named", roles=("slow",), own=("3/minute",)), 4, "key"),
    ],
)
def test_what_is_said_of_one_caller_outweighs_what_is_said_of_many(
    principal: Principal, allowed: int, scope: str
) -> None:
    rules = Rules(
        USUAL,
        roles={"empty": (), "slow": rates("2/minute"), "batch": rates("9/minute")},
        keys={"key:named": rates("4/minute")},
    )
    counted = Counted(rules)
    assert counted.passed(principal, 12) == allowed
    assert counted.scopes == {scope: 12 - allowed}


@pytest.mark.parametrize("principal", [ANONYMOUS, LOCAL])
def test_who_needs_no_key_has_no_default_rate(principal: Principal) -> None:
    assert Counted(Rules(USUAL)).passed(principal, 100) == 100


def test_a_tool_has_a_rate_for_each_caller_besides_the_callers_own() -> None:
    counted = Counted(Rules(USUAL, tools={"slow": rates("2/minute")}))
    one, two = caller("key:a"), caller("key:b")
    assert counted.passed(one, 4, "slow") == 2
    assert counted.passed(two, 4, "slow") == 2
    assert counted.passed(one, 9, "fast") == 3
    assert counted.scopes == {"tool": 4, "default": 6}


def test_an_upstreams_rate_is_shared_by_all_callers() -> None:
    counted = Counted(Rules(USUAL, upstreams={"web": rates("2/minute")}))
    call: Any = make_call("tools/call", {"name": "x"})
    for provider in ("other", "other", "other", "web", "web"):
        call.provider = provider
        counted.limiter.admit_upstream(call)
    with pytest.raises(RateLimitedError):
        counted.limiter.admit_upstream(call)
    assert counted.scopes == {"upstream": 1}


def test_the_error_says_what_was_allowed_and_when_to_come_back() -> None:
    counted = Counted(Rules(rates("6/minute burst 2")))
    counted.passed(caller(), 2)
    with pytest.raises(RateLimitedError) as caught:
        counted.limiter.admit(caller())
    assert caught.value.count == 6
    assert caught.value.retry_after_s == pytest.approx(10)
    assert caught.value.reset_s == pytest.approx(20)


def test_a_caller_whose_rates_changed_is_counted_by_the_new_ones() -> None:
    counted = Counted(Rules(USUAL))
    assert counted.passed(caller(own=("1/minute",)), 3) == 1
    assert counted.passed(caller(own=("3/minute",)), 9) == 3


def test_decisions_are_kept_for_a_bounded_number_of_callers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_PLANS", 2)
    counted = Counted(Rules(USUAL))
    assert [counted.passed(caller(f"key:{n % 3}"), 1) for n in range(18)].count(1) == 15


@pytest.mark.parametrize("is_short", [False, True])
async def test_counters_that_take_waiting_are_awaited_and_refuse_then(is_short: bool) -> None:
    scopes: list[str] = []

    class Far:
        def take(self, buckets: Sequence[Bucket]) -> Awaitable[Shortage | None]:
            async def answer() -> Shortage | None:
                return Shortage(buckets[0], 2.0, 3.0) if is_short else None

            return answer()

    limiter = Limiter(Rules(USUAL), Far(), scopes.append)
    waits = limiter.admit(caller())
    assert waits is not None
    if not is_short:
        await waits
        return
    with pytest.raises(RateLimitedError) as caught:
        await waits
    assert (caught.value.count, caught.value.retry_after_s, caught.value.reset_s) == (5, 2.0, 3.0)
    assert scopes == ["default"]
