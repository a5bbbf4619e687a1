"""Counters that all processes of all machines share, in Redis; and what counts while it is away.

Knows when Redis is asked and when it is not. Refuses to know its words; `redis_link.py` does. Calls that
arrive while a question is on its way are asked about together in the next, so that one connection serves
many calls; a call waits for one round trip, and never longer than two times `WAIT_S`. A Redis that fails or is
slow is not asked again before it has answered to this process's keeper. Meanwhile the process counts by itself
and allows its share: what a rate allows, divided by the number of processes that counted together.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Protocol, Self

from waygate_mcp.errors import StorageError
from waygate_mcp.model.ports import Bucket, CounterStore, Shortage, Supervisor

__all__ = ["LANES", "Link", "RedisCounters"]

WAIT_S = 0.1
"""How long one question may take."""

LANES = 2
"""Questions on their way at once."""

MAX_BATCH = 64
MAX_QUEUE = 4_096
"""Calls that wait to be asked about; those beyond are counted by this process."""

BEAT_S = 5.0
OPEN_S = 2.0
FIRST_S = 0.1
MOST_S = 5.0
QUIET_S = 60.0
"""A loss within so many seconds of the last one that was logged is not logged again."""

UNKNOWN = 4
"""For how many machines a process takes them to be where it never learnt it."""

_Waiting = tuple[Sequence[Bucket], "asyncio.Future[Shortage | None]"]

_log = logging.getLogger(__name__)


class Link(Protocol):
    """What the counters need of Redis. Whoever calls bounds the wait."""

    async def take(self, keys: Sequence[str], numbers: Sequence[int | float]) -> Sequence[bytes]:
        """Run the script; `numbers` are, for each call, how many buckets, then interval and window of each.

        Gives one text for each call: empty, or `NUMBER RETRY_S RESET_S` of the bucket that is short.

        Raises:
            StorageError: Redis cannot be reached, or refuses; so do all methods here.
        """

    async def beat(self, member: str) -> int:
        """Say that this process is there, and give how many are."""

    async def warm(self, lanes: int) -> None:
        """Have so many connections open and let in."""

    async def leave(self, member: str) -> None:
        """Say that this process goes."""

    async def reset(self) -> None:
        """Drop all connections; the next one is new."""


class RedisCounters:
    """The FarCounterStore; use it with `async with`. It opens whether Redis is there or not.

    `alone` counts while Redis is away, and `on_alone` is told of each call it counted. `workers` is the
    number of processes of this machine.
    """

    def __init__(
        self,
        link: Link,
        alone: CounterStore,
        supervisor: Supervisor,
        on_alone: Callable[[], None],
        *,
        workers: int = 1,
        wait_s: float = WAIT_S,
    ) -> None:
        self.is_up = False
        self.problem = ""
        self.processes = UNKNOWN * workers
        self._link = link
        self._alone = alone
        self._supervisor = supervisor
        self._on_alone = on_alone
        self._wait_s = wait_s
        self._member = os.urandom(8).hex()
        self._queue: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._lost = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._quiet_until_s = float("-inf")

    async def __aenter__(self) -> Self:
        await self.look()
        self._tasks = [
            self._supervisor.start(self._serve(), name=f"redis-lane-{number}")
            for number in range(LANES)
        ]
        self._tasks.append(self._supervisor.start(self._keep(), name="redis-keeper"))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        was_up, self.is_up = self.is_up, False
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=OPEN_S)
        self._settle_alone()
        if was_up:
            try:
                async with asyncio.timeout(self._wait_s):
                    await self._link.leave(self._member)
            except (StorageError, TimeoutError):
                pass  # it is forgotten after MEMBER_S

    def take(self, buckets: Sequence[Bucket]) -> Shortage | Awaitable[Shortage | None] | None:
        """Take one out of every bucket, or none and say which was empty. See `FarCounterStore`."""
        if not self.is_up or len(self._queue) >= MAX_QUEUE:
            return self._take_alone(buckets)
        future: asyncio.Future[Shortage | None] = asyncio.get_running_loop().create_future()
        self._queue.append((buckets, future))
        self._wake.set()
        return future

    def _take_alone(self, buckets: Sequence[Bucket]) -> Shortage | None:
        self._on_alone()
        return self._alone.take([_share(bucket, self.processes) for bucket in buckets])

    # --- asking

    async def _serve(self) -> None:
        """Ask about what waits, all of it that fits into one question."""
        while True:
            while not self._queue:
                self._wake.clear()
                await self._wake.wait()
            size = min(len(self._queue), MAX_BATCH)
            await self._ask([self._queue.popleft() for _ in range(size)])

    async def _ask(self, batch: Sequence[_Waiting]) -> None:
        keys: list[str] = []
        numbers: list[int | float] = []
        for buckets, _ in batch:
            numbers.append(len(buckets))
            for bucket in buckets:
                keys.append(bucket.key)
                numbers += (bucket.interval_s, bucket.window_s)
        said: Sequence[bytes] | None = None
        try:
            async with asyncio.timeout(self._wait_s):
                said = await self._link.take(keys, numbers)
        except (StorageError, TimeoutError) as exc:
            self._lose(exc)
        finally:
            if said is None:
                self._settle_alone(batch)
        for (buckets, future), text in zip(batch, said or (), strict=False):
            if not future.done():
                future.set_result(_read(buckets, text))

    def _settle_alone(self, batch: Sequence[_Waiting] = ()) -> None:
        """Count here what Redis was to count: these, and all that wait."""
        waiting = [*batch, *self._queue]
        self._queue.clear()
        for buckets, future in waiting:
            if not future.done():
                future.set_result(self._take_alone(buckets))

    # --- losing and finding it

    def _lose(self, exc: Exception) -> None:
        self.problem = str(exc) or f"Redis did not answer within {self._wait_s:g} s"
        if not self.is_up and self._tasks:
            return
        self.is_up = False
        self._settle_alone()
        self._lost.set()
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._quiet_until_s:
            self._quiet_until_s = now_s + QUIET_S
            _log.warning(
                "rates are counted by this process alone, which allows one part in %d of each: %s",
                self.processes,
                self.problem,
            )

    async def _keep(self) -> None:
        """Say that we are there while Redis is; look for it while it is not, ever more seldom."""
        tries = 0
        while True:
            pause_s = BEAT_S if self.is_up else min(FIRST_S * 2**tries, MOST_S)
            try:
                async with asyncio.timeout(pause_s * random.uniform(0.8, 1.0)):  # noqa: S311 - jitter
                    await self._lost.wait()
            except TimeoutError:
                tries = 0 if await self.look() else min(tries + 1, 16)
            else:
                self._lost.clear()
                tries = 0

    async def look(self) -> bool:
        """Ask Redis for nothing, and take note of whether it answers."""
        was_up = self.is_up
        try:
            async with asyncio.timeout(OPEN_S):
                if not was_up:
                    await self._link.reset()
                    await self._link.warm(LANES)
                processes = await self._link.beat(self._member)
        except (StorageError, TimeoutError) as exc:
            self._lose(exc)
            return False
        if was_up and not self.is_up:
            return False  # lost by a call meanwhile
        self.processes = max(processes, 1)
        self.problem = ""
        if not was_up:
            self.is_up = True
            _log.info("rates are counted in Redis, by %d processes", self.processes)
        return True


def _share(bucket: Bucket, parts: int) -> Bucket:
    """Give a bucket that allows one part of so many; one at least in a row."""
    interval_s = bucket.interval_s * parts
    return replace(
        bucket,
        count=max(bucket.count // parts, 1),
        interval_s=interval_s,
        window_s=max(bucket.window_s, interval_s),
    )


def _read(buckets: Sequence[Bucket], text: bytes) -> Shortage | None:
    if not text:
        return None
    number, retry_s, reset_s = text.split()
    return Shortage(buckets[int(number)], float(retry_s), float(reset_s))
