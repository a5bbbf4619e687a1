from __future__ import annotations

import asyncio

import pytest

from waygate_mcp.runtime.pulse import Pulse


class Time:
    """A clock that a test moves; sleeping takes what is asked and what a test adds."""

    def __init__(self, *late_s: float) -> None:
        self.now = 100.0
        self.late_s = list(late_s)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if not self.late_s:
            await asyncio.Event().wait()
        self.now += seconds + self.late_s.pop(0)


async def beat(time: Time, pulse: Pulse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "sleep", time.sleep)
    task = asyncio.get_running_loop().create_task(pulse.run())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.shield(task)
    task.cancel()


async def test_the_worst_lag_of_the_last_beats_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time(0.0, 0.3, 0.1)
    pulse = Pulse(time)
    await beat(time, pulse, monkeypatch)
    assert pulse.worst_lag_s == pytest.approx(0.3)


async def test_what_is_long_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time(9.0, 0.1, 0.2)
    pulse = Pulse(time, window=2)
    await beat(time, pulse, monkeypatch)
    assert pulse.worst_lag_s == pytest.approx(0.2)


def test_a_loop_that_stands_still_now_is_late_already() -> None:
    time = Time()
    pulse = Pulse(time, interval_s=0.5)
    assert pulse.worst_lag_s == 0
    time.now += 7.5
    assert pulse.worst_lag_s == pytest.approx(7.0)
