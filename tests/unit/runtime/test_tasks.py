from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from waygate_mcp.errors import LimitError
from waygate_mcp.runtime.tasks import TaskSupervisor


async def for_ever() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise RuntimeError("a fault")


async def test_a_task_runs_under_its_name_and_is_forgotten_at_its_end() -> None:
    ran = asyncio.Event()

    async def work() -> None:
        ran.set()

    async with TaskSupervisor() as supervisor:
        task = supervisor.start(work(), name="work")
        assert task.get_name() == "work"
        assert len(supervisor) == 1
        await task
        assert ran.is_set()
        await asyncio.sleep(0)
        assert len(supervisor) == 0


async def test_a_failure_is_logged_with_an_id_and_hurts_nobody_else() -> None:
    async with TaskSupervisor() as supervisor:
        other = supervisor.start(for_ever(), name="other")
        with capture_logs() as lines:
            await supervisor.start(fail(), name="bad")
        assert not other.done()
    (line,) = lines
    assert (line["event"], line["task"]) == ("task_failed", "bad")
    assert len(line["failure_id"]) == 12
    assert isinstance(line["exc_info"], RuntimeError)


async def test_leaving_cancels_and_awaits_what_runs() -> None:
    ended = asyncio.Event()

    async def tidy() -> None:
        try:
            await for_ever()
        finally:
            await asyncio.sleep(0)
            ended.set()

    async with TaskSupervisor() as supervisor:
        task = supervisor.start(tidy(), name="tidy")
        await asyncio.sleep(0)
    assert ended.is_set()
    assert task.cancelled()


async def test_a_task_that_will_not_end_is_named_and_not_waited_for() -> None:
    go = asyncio.Event()

    async def stubborn() -> None:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue

    supervisor = TaskSupervisor(close_s=0)
    task = supervisor.start(stubborn(), name="stubborn")
    await asyncio.sleep(0)
    with capture_logs() as lines:
        await supervisor.close()
    assert [(line["event"], line["task"]) for line in lines] == [("task_did_not_end", "stubborn")]
    where = [step.rpartition(":")[0].rpartition(".")[2] for step in lines[0]["at"].split(" > ")]
    assert where == ["_watched", "stubborn", "wait"]
    go.set()
    await task


async def test_nothing_starts_once_closed() -> None:
    supervisor = TaskSupervisor()
    await supervisor.close()
    with pytest.raises(LimitError, match="the server stops"):
        supervisor.start(for_ever(), name="late")


async def test_the_number_of_tasks_is_bounded() -> None:
    async with TaskSupervisor(max_tasks=1) as supervisor:
        supervisor.start(for_ever(), name="first")
        with pytest.raises(LimitError, match="too many tasks"):
            supervisor.start(for_ever(), name="second")
        assert len(supervisor) == 1


async def test_a_task_may_be_cancelled_by_whoever_started_it() -> None:
    async with TaskSupervisor() as supervisor:
        task = supervisor.start(for_ever(), name="mine")
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
