"""Calls that take longer than a moment, found without a timer for each."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.virtual_time import now, pass_time, virtual_time
from waygate_mcp.web.watch import TICK_S, SlowWatch


@virtual_time
async def test_what_is_over_at_once_is_never_handed_on() -> None:
    slow: list[str] = []
    watch = SlowWatch(slow.append)
    for number in range(50):
        bucket = watch.begin(str(number))
        await pass_time(TICK_S / 10)
        del bucket[str(number)]
    await pass_time(1)
    assert slow == []


@virtual_time
async def test_what_takes_longer_is_handed_on_once_after_one_to_two_ticks() -> None:
    found: dict[str, float] = {}
    started = now()
    watch: SlowWatch[str] = SlowWatch(lambda what: found.__setitem__(what, now() - started))
    watch.begin("at the tick")
    await pass_time(TICK_S * 0.9)
    watch.begin("just before the next")
    await pass_time(1)
    assert found == {
        "at the tick": pytest.approx(2 * TICK_S),
        "just before the next": pytest.approx(2 * TICK_S),
    }


@virtual_time
async def test_what_is_under_way_is_known_until_it_is_over() -> None:
    watch: SlowWatch[str] = SlowWatch(lambda _: None)
    assert list(watch.under_way()) == []
    buckets = {}
    for name in ("long", "longer"):
        buckets[name] = watch.begin(name)
        await pass_time(1)
    buckets["young"] = watch.begin("young")
    assert set(watch.under_way()) == {"long", "longer", "young"}
    for name, bucket in buckets.items():
        del bucket[name]
    assert list(watch.under_way()) == []
    watch.begin("next")
    await pass_time(1)
    assert list(watch.under_way()) == ["next"]
    assert len(watch._slow) == 1, "empty buckets are forgotten"


@virtual_time
async def test_it_ticks_only_while_something_is_under_way() -> None:
    slow: list[str] = []
    watch = SlowWatch(slow.append)
    bucket = watch.begin("a")
    await pass_time(TICK_S * 1.5)
    del bucket["a"]
    await pass_time(10)
    timers = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    assert not [handle for handle in timers if not handle.cancelled()]
    watch.begin("b")
    await pass_time(1)
    assert slow == ["b"]


@virtual_time
async def test_one_that_cannot_be_looked_after_does_not_stop_the_watch() -> None:
    seen: list[str] = []

    def on_slow(what: str) -> None:
        seen.append(what)
        if what == "bad":
            raise ZeroDivisionError

    noted: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: noted.append(context))
    watch = SlowWatch(on_slow)
    watch.begin("bad")
    await pass_time(1)
    watch.begin("good")
    await pass_time(1)
    assert seen == ["bad", "good"]
    assert len(noted) == 1


@virtual_time
async def test_what_ends_while_it_grows_old_is_not_handed_on() -> None:
    slow: list[str] = []
    watch = SlowWatch(slow.append)
    first, second = watch.begin("first"), watch.begin("second")
    await pass_time(TICK_S * 1.5)
    del first["first"]
    await pass_time(TICK_S)
    assert slow == ["second"]
    second.pop("second", None)  # as a door does at the end, handed on or not
