from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from waygate_mcp.errors import ConfigError, InterruptedCallError
from waygate_mcp.runtime.generation import Generation
from waygate_mcp.runtime.keeper import Keeper
from waygate_mcp.runtime.tasks import TaskSupervisor


class Opened:
    """What stands for a generation: knows which tasks opened and closed it."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.opened_by = asyncio.current_task()
        self.closed_by: Any = None
        self.hangs = hangs

    async def aclose(self) -> None:
        self.closed_by = asyncio.current_task()
        if self.hangs:
            await asyncio.Event().wait()


async def make() -> Generation[None]:
    return cast("Generation[None]", Opened())


async def test_the_task_that_opens_is_the_one_that_closes() -> None:
    async with TaskSupervisor() as supervisor:
        keeper: Keeper[None] = Keeper(supervisor, 1, make)
        opened = cast("Opened", await keeper.open())
        assert keeper.generation is cast("Any", opened)
        await keeper.close()
        assert opened.closed_by is opened.opened_by is not asyncio.current_task()


async def test_what_cannot_be_opened_is_told_to_who_asked() -> None:
    async def refuse() -> Generation[None]:
        raise ConfigError("no", path="plugins.hello")

    async with TaskSupervisor() as supervisor:
        keeper: Keeper[None] = Keeper(supervisor, 1, refuse)
        with pytest.raises(ConfigError):
            await keeper.open()
        await keeper.close()


async def test_a_fault_of_ours_is_logged_and_nobody_waits_on() -> None:
    async def fail() -> Generation[None]:
        raise RuntimeError("a fault")

    async with TaskSupervisor() as supervisor:
        with capture_logs() as lines, pytest.raises(InterruptedCallError):
            await Keeper(supervisor, 1, fail).open()
        await asyncio.sleep(0)
    assert [line["event"] for line in lines] == ["task_failed"]


async def test_giving_up_ends_the_opening() -> None:
    cancelled = asyncio.Event()

    async def slow() -> Generation[None]:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    async with TaskSupervisor() as supervisor:
        keeper: Keeper[None] = Keeper(supervisor, 1, slow)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await keeper.open()
        async with asyncio.timeout(1):
            await cancelled.wait()


async def test_what_does_not_close_is_cancelled_and_named() -> None:
    async def hanging() -> Generation[None]:
        return cast("Generation[None]", Opened(hangs=True))

    async with TaskSupervisor() as supervisor:
        keeper: Keeper[None] = Keeper(supervisor, 7, hanging)
        await keeper.open()
        with capture_logs() as lines:
            await keeper.close(timeout_s=0)
        assert (lines[0]["event"], lines[0]["generation"]) == ("generation_did_not_close", 7)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(supervisor) == 0


async def test_one_that_was_never_opened_closes_at_once() -> None:
    async with TaskSupervisor() as supervisor:
        await Keeper(supervisor, 1, make).close()
