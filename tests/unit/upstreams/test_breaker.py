from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
            await bulkhead.wait("one")
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
    waiting = [asyncio.get_running_loop().create_task(bulkhead.wait("one")) for _ in range(3)]
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


@asynccontextmanager
async def place(bulkhead: Bulkhead, whom: str) -> AsyncIterator[None]:
    """A place for the length of a context, as the way of a call takes it."""
    if not bulkhead.take():
        await bulkhead.wait(whom)
    try:
        yield
    finally:
        bulkhead.leave()


class Door:
    """Calls at a bulkhead, each by a task of its own, and the order in which they were let in."""

    def __init__(self, most: int, waiting: int, group: asyncio.TaskGroup) -> None:
        self.bulkhead = Bulkhead("up", most, waiting)
        self.order: list[str] = []
        self.refused: list[str] = []
        self.inside: dict[str, asyncio.Event] = {}
        self._group = group

    async def call(self, name: str) -> asyncio.Task[None]:
        """Begin a call; the caller is the first letter of its name."""
        task = self._group.create_task(self._work(name))
        await asyncio.sleep(0)
        return task

    async def _work(self, name: str) -> None:
        try:
            async with place(self.bulkhead, name[0]):
                self.order.append(name)
                self.inside[name] = asyncio.Event()
                try:
                    await self.inside[name].wait()
                finally:
                    del self.inside[name]
        except LimitError:
            self.refused.append(name)

    async def end(self) -> None:
        """Let all end that are inside, one after the other, until nobody is left."""
        while self.inside:
            next(iter(self.inside.values())).set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert (self.bulkhead.in_flight, self.bulkhead.waiting) == (0, 0)


@asynccontextmanager
async def door(most: int, waiting: int) -> AsyncIterator[Door]:
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        found = Door(most, waiting, group)
        yield found
        await found.end()


async def test_a_call_waits_for_one_of_each_other_caller_and_not_for_all_of_theirs() -> None:
    async with door(1, 2_000) as here:
        for number in range(1_001):
            await here.call(f"noisy{number}")
        await here.call("quiet")
        await here.call("other")
        assert here.bulkhead.waiting == 1_002
    assert here.order[:5] == ["noisy0", "noisy1", "quiet", "other", "noisy2"]
    assert here.order[5:] == [f"noisy{number}" for number in range(3, 1_001)]


async def test_callers_take_turns_and_each_ones_calls_keep_their_order() -> None:
    async with door(2, 100) as here:
        for name in ("x", "y", "a1", "a2", "a3", "b1", "b2", "c1"):
            await here.call(name)
        assert here.order == ["x", "y"]
    assert here.order[2:] == ["a1", "b1", "c1", "a2", "b2", "a3"]


async def test_who_has_few_waiting_displaces_the_newest_of_who_has_most() -> None:
    async with door(1, 4) as here:
        for name in ("x", "a1", "a2", "a3", "a4"):
            await here.call(name)
        await here.call("a5")
        assert here.refused == ["a5"], "one caller has no more than all of the places"
        await here.call("b1")
        await here.call("b2")
        await asyncio.sleep(0)
        assert here.refused == ["a5", "a4", "a3"]
        await here.call("a6")
        await here.call("b3")
        await asyncio.sleep(0)
        assert here.refused == ["a5", "a4", "a3", "a6", "b3"], "both have their fair part"
        await here.call("c1")
        await asyncio.sleep(0)
        assert here.bulkhead.waiting == 4
    assert sorted(here.order) in (["a1", "b1", "b2", "c1", "x"], ["a1", "a2", "b1", "c1", "x"])


async def test_where_nobody_may_wait_one_too_many_is_refused() -> None:
    async with door(1, 0) as here:
        await here.call("a1")
        await here.call("b1")
        assert here.refused == ["b1"]


async def test_one_that_is_cancelled_leaves_its_place_in_the_row_or_in_the_upstream() -> None:
    async with door(1, 10) as here:
        await here.call("x")
        waiting = await here.call("a1")
        await here.call("a2")
        given = await here.call("b1")
        waiting.cancel()
        await asyncio.sleep(0)
        assert here.bulkhead.waiting == 2
        here.inside["x"].set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert list(here.inside) == ["a2"]
        here.inside["a2"].set()
        await asyncio.sleep(0)  # its place is b1's now, which does not know yet
        given.cancel()
        await asyncio.sleep(0)
        assert here.bulkhead.in_flight == 0
        last = await here.call("c1")
        both = await here.call("d1")
        both.cancel()
        last.cancel()  # leaves while the next in the row is gone and does not know yet
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert here.order == ["x", "a2", "c1"]


async def test_one_that_is_displaced_and_cancelled_at_once_is_in_nobodys_way() -> None:
    async with door(1, 2) as here:
        for name in ("x", "a1"):
            await here.call(name)
        displaced = await here.call("a2")
        await here.call("b1")
        displaced.cancel()
    assert here.order == ["x", "a1", "b1"]


@settings(max_examples=80, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.sampled_from("abc").map(lambda who: ("call", who)),
            st.integers(0, 9).map(lambda number: ("end", str(number))),
            st.integers(0, 9).map(lambda number: ("cancel", str(number))),
            st.just(("turn", "")),
        ),
        max_size=60,
    ),
    most=st.integers(1, 3),
    waiting=st.integers(0, 5),
)
def test_no_place_is_lost_and_none_is_given_twice(
    steps: list[tuple[str, str]], most: int, waiting: int
) -> None:
    async def run() -> None:
        async with door(most, waiting) as here:
            tasks: list[asyncio.Task[None]] = []
            for number, (what, text) in enumerate(steps):
                if what == "call":
                    tasks.append(await here.call(f"{text}{number}"))
                elif what == "end" and here.inside:
                    inside = list(here.inside.values())
                    inside[int(text) % len(inside)].set()
                elif what == "cancel" and tasks:
                    tasks[int(text) % len(tasks)].cancel()
                else:
                    await asyncio.sleep(0)
                assert len(here.inside) <= here.bulkhead.in_flight <= most
                assert 0 <= here.bulkhead.waiting <= waiting
            for _ in range(4):
                await asyncio.sleep(0)

    asyncio.run(run())
