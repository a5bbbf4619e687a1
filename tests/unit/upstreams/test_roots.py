"""News of roots: told in the background, once at a time, and once more where they changed meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.exchange import FakeExchange, Request, Response, result
from tests.support.providers import EVERYTHING, TaskGroupSupervisor
from tests.support.virtual_time import settle, virtual_time
from waygate_mcp.errors import LimitError
from waygate_mcp.upstreams.channel import HttpChannel
from waygate_mcp.upstreams.legacy import LegacyConnector
from waygate_mcp.upstreams.roots import RootsTeller

CHANGED = "notifications/roots/list_changed"


class House:
    """A server that takes the news when the test lets it."""

    def __init__(self) -> None:
        self.may_take = asyncio.Semaphore(0)
        agreed = {"protocolVersion": "2025-11-25", "capabilities": {}}
        self.exchange = FakeExchange(
            initialize=lambda r: result(r, agreed, mcp_session_id="s-1"),
            notifications__initialized=lambda _: Response(202),
            notifications__roots__list_changed=self._take,
        )
        channel = HttpChannel("up", self.exchange, "/mcp")
        self.connector = LegacyConnector("up", channel, lambda: "id-1", {}, lambda _: None)
        self.supervisor = TaskGroupSupervisor()
        self.teller = RootsTeller(self.connector, self.supervisor)

    async def _take(self, _: Request) -> Response:
        await self.may_take.acquire()
        return Response(202)

    @property
    def told(self) -> int:
        return len(self.exchange.asked(CHANGED))


@virtual_time
async def test_a_change_is_told_in_its_session_without_waiting_for_it() -> None:
    house = House()
    session = await house.connector.open(EVERYTHING)
    house.teller.tell(session)
    await settle()
    (request,) = house.exchange.asked(CHANGED)
    assert request.headers["mcp-session-id"] == "s-1"
    assert "id" not in request.message
    house.may_take.release()
    await asyncio.wait(house.supervisor.tasks)
    house.teller.tell(session)
    await settle()
    assert house.told == 2
    await house.supervisor.close()


@virtual_time
async def test_however_often_roots_change_meanwhile_they_are_told_once_more() -> None:
    house = House()
    session = await house.connector.open(EVERYTHING)
    for _ in range(100):
        house.teller.tell(session)
    await settle()
    for _ in range(100):
        house.teller.tell(session)
    assert (house.told, len(house.supervisor.tasks)) == (1, 1)
    house.may_take.release()
    await settle()
    assert house.told == 2
    house.may_take.release()
    await settle()
    assert (house.told, len(house.supervisor.tasks)) == (2, 0)


@virtual_time
async def test_a_session_that_is_lost_meanwhile_is_told_no_more() -> None:
    house = House()
    session = await house.connector.open(EVERYTHING)
    house.teller.tell(session)
    house.teller.tell(session)
    await settle()
    session.is_lost = True
    house.may_take.release()
    await settle()
    assert (house.told, len(house.supervisor.tasks)) == (1, 0)


@virtual_time
async def test_an_upstream_that_does_not_take_it_is_not_waited_for_without_end() -> None:
    house = House()
    session = await house.connector.open(EVERYTHING)
    house.teller.tell(session)
    await asyncio.sleep(6)
    assert not house.supervisor.tasks


async def test_a_house_that_closes_tells_nobody() -> None:
    class Closed(TaskGroupSupervisor):
        def start(self, coroutine: Any, *, name: str) -> Any:
            coroutine.close()
            raise LimitError("the server stops")

    house = House()
    session = await house.connector.open(EVERYTHING)
    RootsTeller(house.connector, Closed()).tell(session)
    house.teller.tell(session)  # another teller knows nothing of it
    house.may_take.release()
    await asyncio.wait(house.supervisor.tasks)
    assert house.told == 1
