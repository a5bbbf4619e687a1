from __future__ import annotations

import asyncio

import pytest

from waygate_mcp.errors import LimitError
from waygate_mcp.upstreams.breaker import Breaker, Bulkhead, Pauses


class Clock:
    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def state_of(breaker: Breaker) -> str:
    return breaker.state


def tripped(clock: Clock) -> Breaker:
    breaker = Breaker(clock, failures=3)
    for _ in range(3):
        assert breaker.admit()
        assert not breaker.note_failure()
    return breaker


def test_failures_in_a_row_open_it_and_a_success_between_does_not() -> None:
    clock = Clock()
    breaker = Breaker(clock, failures=2)
    breaker.note_failure()
    breaker.note_success()
    breaker.note_failure()
    assert state_of(breaker) == "closed"
    breaker.note_failure()
    assert state_of(breaker) == "open"
    assert not breaker.admit()
    assert 0.5 <= breaker.wait_s <= 1.0


def test_after_the_pause_one_call_tries_and_closes_it() -> None:
    clock = Clock()
    breaker = tripped(clock)
    clock.s += 1.0
    assert breaker.admit()
    assert state_of(breaker) == "half-open"
    assert not breaker.admit()
    breaker.note_success()
    assert state_of(breaker) == "closed"
    assert breaker.wait_s == 0


def test_a_trial_that_fails_makes_the_pause_longer_up_to_its_limit() -> None:
    clock = Clock()
    breaker = tripped(clock)
    pauses = []
    for _ in range(12):
        clock.s += breaker.wait_s
        assert breaker.admit()
        assert breaker.note_failure()
        pauses.append(breaker.wait_s)
    assert 1.0 <= pauses[0] <= 2.0
    assert 30.0 <= pauses[-1] <= 60.0


def test_a_trial_that_takes_long_keeps_the_others_out_for_a_while_only() -> None:
    clock = Clock()
    breaker = tripped(clock)
    clock.s += 1.0
    assert breaker.admit()
    clock.s += 9.9
    assert not breaker.admit()
    clock.s += 0.1
    assert breaker.admit()
    assert not breaker.admit(), "one at a time"
    breaker.note_success()
    assert state_of(breaker) == "closed"


def test_a_trial_that_says_nothing_lets_the_next_one_try() -> None:
    clock = Clock()
    breaker = tripped(clock)
    clock.s += 1.0
    assert breaker.admit()
    breaker.note_nothing()
    assert breaker.admit()


async def test_calls_wait_in_their_order_and_too_many_are_refused() -> None:
    bulkhead = Bulkhead("up", 1, 1)
    gate, order = asyncio.Event(), []

    async def work(name: str) -> None:
        if not bulkhead.take():
            await bulkhead.wait()
        order.append(name)
        await gate.wait()
        bulkhead.leave()

    async with asyncio.TaskGroup() as group:
        group.create_task(work("a"))
        group.create_task(work("b"))
        await asyncio.sleep(0)
        assert (bulkhead.in_flight, bulkhead.waiting) == (1, 1)
        with pytest.raises(LimitError):
            await work("c")
        gate.set()
    assert order == ["a", "b"]
    assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)


async def test_nobody_slips_in_before_those_who_wait_and_a_cancelled_one_passes_its_turn_on() -> (
    None
):
    bulkhead = Bulkhead("up", 1, 4)
    assert bulkhead.take()
    waiting = [asyncio.get_running_loop().create_task(bulkhead.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not bulkhead.take()
    waiting[0].cancel()
    await asyncio.sleep(0)
    assert (bulkhead.in_flight, bulkhead.waiting) == (1, 2)
    bulkhead.leave()
    assert not bulkhead.take(), "it is the second one's, though that did not run yet"
    waiting[1].cancel()  # in the step in which its turn came
    await asyncio.wait(waiting)
    assert [one.cancelled() for one in waiting] == [True, True, False]
    assert (bulkhead.in_flight, bulkhead.waiting) == (1, 0)
    bulkhead.leave()
    assert bulkhead.in_flight == 0


def test_one_that_is_well_is_looked_at_on_an_interval_with_jitter() -> None:
    pauses = Pauses(30.0)
    found = {pauses.next_s(0.0, is_well=True) for _ in range(50)}
    assert len(found) > 10
    assert all(24.0 <= pause_s <= 36.0 for pause_s in found)


def test_one_that_is_not_is_tried_soon_then_more_seldom_and_never_while_left_alone() -> None:
    pauses = Pauses(30.0)
    found = [pauses.next_s(0.0, is_well=False) for _ in range(100)]
    for wanted_s, pause_s in zip((1, 2, 4, 8, 16, 30, 30), found, strict=False):
        assert 0.8 * wanted_s <= pause_s <= 1.2 * wanted_s
    assert pauses.next_s(50.0, is_well=False) == 50.0
    pauses.next_s(0.0, is_well=True)
    assert pauses.next_s(0.0, is_well=False) <= 1.2
