"""When Redis is asked, and what happens to calls while it is not there."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from waygate_mcp.errors import StorageError
from waygate_mcp.model.ports import Bucket, Shortage
from waygate_mcp.model.rate import parse_rate
from waygate_mcp.policy import redis_counters
from waygate_mcp.policy.counters import LocalCounters
from waygate_mcp.policy.limits import buckets_of
from waygate_mcp.policy.redis_counters import RedisCounters
from waygate_mcp.runtime.tasks import TaskSupervisor

AWAY = StorageError("the Redis at here:1/0 cannot be reached")


class Far:
    """A Link that answers when it is told to."""

    def __init__(self) -> None:
        self.is_there = True
        self.hangs = False
        self.members = 2
        self.left: list[str] = []
        self.batches: list[int] = []
        self.says = b""
        self.gate = asyncio.Event()
        self.gate.set()

    async def take(self, keys: Sequence[str], numbers: Sequence[int | float]) -> Sequence[bytes]:
        calls = len(numbers) - 2 * len(keys)
        self.batches.append(calls)
        await self.gate.wait()
        self._check()
        return [self.says] * calls

    async def beat(self, member: str) -> int:
        self._check()
        return self.members

    async def warm(self, lanes: int) -> None:
        self._check()

    async def leave(self, member: str) -> None:
        self._check()
        self.left.append(member)

    async def reset(self) -> None:
        """Nothing to drop."""

    def _check(self) -> None:
        if not self.is_there:
            raise AWAY


class Counted:
    """Counters over a Far, and what they counted by themselves."""

    def __init__(self, far: Far, supervisor: TaskSupervisor, wait_s: float) -> None:
        self.far = far
        self.alone = 0
        self.counters = RedisCounters(
            far, LocalCounters(lambda: 0.0), supervisor, self._note, wait_s=wait_s
        )

    def _note(self) -> None:
        self.alone += 1

    def begin(self, *buckets: Bucket) -> asyncio.Future[Shortage | None]:
        said = self.counters.take(buckets)
        assert isinstance(said, asyncio.Future)
        return said

    async def take(self, *buckets: Bucket) -> Shortage | None:
        said = self.counters.take(buckets)
        return await said if inspect.isawaitable(said) else said


@asynccontextmanager
async def counted(far: Far | None = None, wait_s: float = 5.0) -> AsyncIterator[Counted]:
    async with asyncio.timeout(10), TaskSupervisor() as supervisor:
        found = Counted(far or Far(), supervisor, wait_s)
        async with found.counters:
            yield found


async def until(is_so: Callable[[], bool]) -> None:
    """Let others run until something is so."""
    for _ in range(200_000):
        if is_so():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


def bucket(text: str = "100/day") -> Bucket:
    (one,) = buckets_of("key", "key:a", (parse_rate(text),))
    return one


async def test_calls_that_arrive_meanwhile_are_asked_about_together() -> None:
    async with counted() as here:
        here.far.gate.clear()
        first = [here.begin(bucket()) for _ in range(100)]
        await until(lambda: len(here.far.batches) == redis_counters.LANES)
        here.far.gate.set()
        assert await asyncio.gather(*first) == [None] * 100
        assert here.far.batches == [64, 36]
        assert here.alone == 0
    assert len(here.far.left) == 1


async def test_a_bucket_that_is_short_is_told_with_its_numbers() -> None:
    async with counted() as here:
        here.far.says = b"1 2.5 7.25"
        wide, narrow = bucket(), bucket("2/minute")
        assert await here.take(wide, narrow) == Shortage(narrow, 2.5, 7.25)


async def test_one_that_waits_no_longer_is_in_nobodys_way() -> None:
    async with counted() as here:
        here.far.gate.clear()
        gone = here.begin(bucket())
        await until(lambda: bool(here.far.batches))
        gone.cancel()
        here.far.gate.set()
        assert await here.take(bucket()) is None


async def test_all_that_wait_are_counted_here_when_it_goes_and_no_more_ask(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with counted() as here:
        here.far.gate.clear()
        waiting = [here.begin(bucket()) for _ in range(300)]
        await until(lambda: len(here.far.batches) == redis_counters.LANES)
        here.far.is_there = False
        here.far.gate.set()
        said = await asyncio.gather(*waiting)
        assert said.count(None) == 50, "two processes were known: half of it each"
        shortage = next(each for each in said if each is not None)
        assert shortage.bucket.count == 50
        assert here.alone == 300
        assert isinstance(here.counters.take((bucket(),)), Shortage)
        assert here.counters.problem == str(AWAY)
        assert [each.levelname for each in caplog.records] == ["WARNING"]
        assert "one part in 2" in caplog.text


async def test_one_that_hangs_is_lost_after_the_wait() -> None:
    async with counted(wait_s=0.01) as here:
        here.far.gate.clear()
        assert await here.take(bucket()) is None
        assert here.alone == 1
        assert not here.counters.is_up
        assert "within 0.01 s" in here.counters.problem


async def test_a_flood_is_counted_here_beyond_what_may_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_counters, "MAX_QUEUE", 3)
    async with counted() as here:
        said = [here.counters.take((bucket(),)) for _ in range(5)]
        assert [inspect.isawaitable(each) for each in said] == [True] * 3 + [False] * 2
        assert here.alone == 2
        for each in said[:3]:
            assert inspect.isawaitable(each)
            assert await each is None


async def test_one_that_was_never_there_is_told_once_and_found_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(redis_counters, "FIRST_S", 0.001)
    caplog.set_level(logging.INFO)
    far = Far()
    far.is_there = False
    async with counted(far) as here:
        assert not here.counters.is_up
        passed = [await here.take(bucket()) for _ in range(60)].count(None)
        assert passed == 25, "who never learnt how many there are takes them for four"
        far.is_there = True
        await until(lambda: here.counters.is_up)
        assert await here.take(bucket()) is None
        assert here.alone == 60
        assert here.counters.problem == ""
    assert [each.levelname for each in caplog.records] == ["WARNING", "INFO"]


async def test_how_many_count_is_learnt_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_counters, "BEAT_S", 0.001)
    async with counted() as here:
        here.far.members = 7
        await until(lambda: here.counters.processes == 7)
        here.far.is_there = False
        await until(lambda: not here.counters.is_up)
    assert here.far.left == []


async def test_what_waits_at_the_end_is_answered() -> None:
    far = Far()
    far.gate.clear()
    async with counted(far) as here:
        waiting = here.begin(bucket())
        await until(lambda: bool(far.batches))
    assert await waiting is None
    assert here.alone == 1


async def test_a_rate_that_is_smaller_than_its_parts_lets_one_through() -> None:
    far = Far()
    far.is_there = False
    async with counted(far) as here:
        assert await here.take(bucket("1/day")) is None
        shortage = await here.take(bucket("1/day"))
        assert shortage is not None
        assert shortage.retry_after_s == pytest.approx(4 * 86_400)
