from __future__ import annotations

import json

import pytest

from waygate_mcp.errors import UpstreamTimeoutError, UpstreamUnavailableError
from waygate_mcp.upstreams.breaker import LeftAloneError
from waygate_mcp.upstreams.lines import Backoff, Lines
from waygate_mcp.upstreams.multiplex import Line, Multiplex


class FakeLine:
    is_closed = False

    async def send(self, message: bytes) -> None:
        return

    async def close(self) -> None:
        self.is_closed = True


class House:
    def __init__(self) -> None:
        self.s = 0.0
        self.opened: list[Multiplex] = []
        self.lines = Lines("up", self.open_line, Backoff(lambda: self.s))

    async def open_line(self, channel: Multiplex) -> Line:
        self.opened.append(channel)
        return FakeLine()

    async def ask(self, *, result: bool) -> None:
        message = json.dumps({"id": "a", "method": "server/discover"}).encode()
        async with self.lines.modern.request(message):
            if result:
                self.opened[-1].take(b'{"id": "a", "result": {}}')


async def test_a_session_takes_the_line_a_probe_failed_on() -> None:
    house = House()
    await house.ask(result=False)
    session = await house.lines.open_session()
    assert [session] == house.opened
    assert not session.cancels
    assert await house.lines.open_session() is not session


async def test_a_line_that_serves_the_modern_era_is_never_given_away() -> None:
    house = House()
    await house.ask(result=True)
    assert await house.lines.open_session() is not house.opened[0]
    await house.ask(result=True)
    assert len(house.opened) == 2
    await house.lines.close()
    assert house.opened[0].is_closed


async def test_lines_that_break_are_opened_again_at_once_then_later_and_later() -> None:
    house = House()
    pauses = []
    for _ in range(10):
        await house.ask(result=True)
        house.opened[-1].fail(UpstreamTimeoutError("up"))
        wait_s = house.lines._backoff.wait_s
        pauses.append(wait_s)
        if wait_s:
            with pytest.raises(UpstreamUnavailableError):
                await house.ask(result=True)
        house.s += wait_s
    assert pauses[0] == 0
    assert 0.25 <= pauses[1] <= 0.5
    assert 15 <= pauses[-1] <= 30
    await house.ask(result=True)
    house.s += 60
    house.opened[-1].fail(UpstreamTimeoutError("up"))
    assert house.lines._backoff.wait_s == 0, "it held for long"


async def test_an_outage_that_breaks_many_lines_is_one_failure() -> None:
    house = House()
    for _ in range(20):
        await house.lines.open_session()
    house.s += 5
    for line in house.opened:
        line.fail(UpstreamTimeoutError("up"))
        house.s += 0.001
    assert house.lines._backoff.wait_s == 0, "the first failure costs nothing"
    sessions = [await house.lines.open_session() for _ in range(20)]
    house.s += 1
    for line in sessions:
        line.fail(UpstreamTimeoutError("up"))
    assert 0 < house.lines._backoff.wait_s <= 0.5, "the second one costs what a second one does"
    with pytest.raises(LeftAloneError):
        await house.lines.open_session()
