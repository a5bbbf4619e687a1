from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.providers import Announced, TaskGroupSupervisor, make_call, viewer
from tests.support.scripted import Scripted, text
from waygate_mcp.errors import LimitError, RpcError, UpstreamTimeoutError, UpstreamUnavailableError
from waygate_mcp.model.call import Call, Reply
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import ListChanged
from waygate_mcp.upstreams.steady import SteadyLimits, SteadyUpstream

CALL = {"name": "t"}


class Fake(Scripted):
    """A connector that does as `failure` says."""

    eras = ("modern",)
    revision = "2026-07-28"
    is_interactive = False
    refused_questions = 0


class House:
    def __init__(self, **limits: Any) -> None:
        self.s = 1_000.0
        self.fake = Fake("up")
        self.fake.tool("t", self.answer)
        self.failure: Exception | None = None
        self.down: Exception | None = None
        self.opened = self.closed = 0
        self.gate: asyncio.Event | None = None
        self.announced = Announced()
        self.supervisor = TaskGroupSupervisor()
        self.upstream = SteadyUpstream(
            "up",
            self.open,
            self.announced,
            supervisor=self.supervisor,
            limits=SteadyLimits(**{"list_wait_s": 0.01, **limits}),
            now=lambda: self.s,
        )

    @asynccontextmanager
    async def open(self, _announce: Any) -> AsyncIterator[Fake]:
        if self.down is not None:
            raise self.down
        self.opened += 1
        try:
            yield self.fake
        finally:
            self.closed += 1

    async def answer(self, _call: Call) -> Reply:
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return text("fine")

    def health(self) -> str:
        return self.upstream.status.state

    async def call(self) -> Any:
        return await self.upstream.call(make_call("tools/call", CALL))

    async def fail(self, times: int) -> None:
        for _ in range(times):
            with pytest.raises((UpstreamTimeoutError, UpstreamUnavailableError)):
                await self.call()

    async def end(self) -> None:
        await self.upstream.close()
        await self.supervisor.close()
        assert self.opened == self.closed


async def test_it_is_opened_once_for_all_and_its_lists_are_announced() -> None:
    house = House()
    assert house.health() == "new"
    await asyncio.gather(*(house.call() for _ in range(5)))
    assert house.opened == 1
    assert house.announced.events == [ListChanged("up", kind) for kind in Kind]
    assert house.health() == "ready"
    assert house.upstream.status.eras == ("modern",)
    await house.end()


async def test_failures_in_a_row_leave_it_alone_and_a_trial_brings_it_back() -> None:
    house = House(failures=3)
    house.failure = UpstreamTimeoutError("up", "no answer")
    await house.fail(3)
    asked = len(house.fake.calls)
    with pytest.raises(UpstreamUnavailableError) as caught:
        await house.call()
    assert "up" in caught.value.safe_message
    assert len(house.fake.calls) == asked
    assert house.health() == "down"
    house.s += 2
    house.failure = None
    await house.call()
    assert house.health() == "ready"
    await house.end()


async def test_a_trial_that_fails_opens_a_new_connector_for_the_next() -> None:
    house = House(failures=2)
    house.failure = UpstreamTimeoutError("up", "no answer")
    await house.fail(2)
    house.s += 2
    await house.fail(1)
    house.s += 5
    house.failure = None
    await house.call()
    assert house.opened == 2
    await house.end()


async def test_an_answer_the_client_did_not_hope_for_is_an_answer() -> None:
    house = House(failures=1)
    house.failure = RpcError(-32602, "no")
    for _ in range(3):
        with pytest.raises(RpcError):
            await house.call()
    assert house.upstream.status.breaker == "closed"
    await house.end()


async def test_calls_ended_by_their_deadline_count_and_impatient_clients_do_not() -> None:
    house = House(failures=1)
    await house.call()
    house.gate = asyncio.Event()
    for deadline_s, state in ((house.s + 10, "closed"), (house.s - 10, "open")):
        call = make_call("tools/call", CALL)
        call.deadline_s = deadline_s
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await house.upstream.call(call)
        assert house.upstream.status.breaker == state
    await house.end()


async def test_a_slow_upstream_holds_a_bounded_number_of_calls() -> None:
    house = House(calls=1, waiting=0)
    await house.call()
    house.gate = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(house.call())
        await asyncio.sleep(0)
        with pytest.raises(LimitError):
            await house.call()
        assert house.upstream.status.in_flight == 1
        house.gate.set()
    await house.end()


async def test_a_list_is_shown_as_last_read_while_the_upstream_fails_and_no_longer_than_that() -> (
    None
):
    house = House(failures=1, stale_s=1_000)
    listing = await house.upstream.listing(Kind.TOOL, viewer())
    assert [entry.name for entry in listing.entries] == ["t"]
    assert listing.version == 1
    again = await house.upstream.listing(Kind.TOOL, viewer())
    assert (again.version, house.fake.listed) == (1, 1)
    house.failure = UpstreamTimeoutError("up", "no answer")
    await house.fail(1)
    house.s += 0.1
    kept = await house.upstream.listing(Kind.TOOL, viewer())
    assert kept.entries == listing.entries
    house.s += 2_000
    house.upstream._breaker._until_s = house.s + 10
    assert (await house.upstream.listing(Kind.TOOL, viewer())).entries == ()
    await house.end()


async def test_a_list_that_takes_long_is_empty_first_and_announced_when_it_is_there() -> None:
    house = House()
    house.fake.pause = asyncio.Event()
    assert (await house.upstream.listing(Kind.TOOL, viewer())).entries == ()
    house.announced.events.clear()
    house.fake.pause.set()
    await house.announced.wait_for(ListChanged("up", Kind.TOOL))
    assert (await house.upstream.listing(Kind.TOOL, viewer())).entries
    assert house.fake.listed == 1
    await house.end()


async def test_one_that_cannot_be_opened_says_why_and_lists_nothing() -> None:
    house = House()
    house.down = UpstreamUnavailableError("up", "refused\x1b")
    assert (await house.upstream.listing(Kind.TOOL, viewer())).entries == ()
    with pytest.raises(UpstreamUnavailableError):
        await house.call()
    assert house.health() == "failing"
    assert house.upstream.status.last_error == "refused\\x1b"
    house.down = None
    await house.call()
    assert house.upstream.status.last_error == ""
    await house.end()
