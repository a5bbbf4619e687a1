"""What is recorded beside calls reaches the database from here, and no call waits for it.

Knows a bounded queue, batches, and what to do while the database does not answer: keep, try again, say
so. Refuses to know what a record is: whoever adds one names the function that writes it.

    add() ──▶ queue ──gather──▶ batch ──one transaction──▶ written
                ▲                 │ cannot be reached: kept, tried again, later each time
                └ full: callers   │ cannot be stored: halved until the bad record is alone
                  are slowed      ▼ and is dropped, counted and named in the log

A record is lost where the process is killed before its batch was written (a fraction of a second of
them), where the queue is full while the database is away, and where the process stops meanwhile. What
must not be lost does not come here: it is written before it is acknowledged.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError, StatementError
from sqlalchemy.ext.asyncio import AsyncConnection

from waygate_mcp.errors import StorageError
from waygate_mcp.model.ports import Supervisor
from waygate_mcp.storage.engine import Database
from waygate_mcp.telemetry.logs import get_logger

__all__ = ["BackgroundWriter", "Sink"]

Sink = Callable[[AsyncConnection, Sequence[Any]], Awaitable[None]]
"""Writes records of one kind, in their order, inside a transaction it is given."""

CAPACITY = 20_000
BATCH = 1_000
GATHER_S = 0.2
"""Seconds in which records gather, so that one transaction takes many."""
PATIENCE_S = 1.0
"""How long a caller is slowed at most, once."""
FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 10.0
CLOSE_S = 5.0

_log = get_logger("storage.writer")


class BackgroundWriter:
    """Opens with `async with`; on leaving, what is queued is written, within `close_s` seconds.

    `on_dropped` is told of each record that is given up: `queue_full`, `refused` or `stopped`.
    """

    def __init__(
        self,
        database: Database,
        supervisor: Supervisor,
        on_dropped: Callable[[str], None],
        *,
        capacity: int = CAPACITY,
        gather_s: float = GATHER_S,
        close_s: float = CLOSE_S,
    ) -> None:
        self.outage: str | None = None
        self._database = database
        self._supervisor = supervisor
        self._on_dropped = on_dropped
        self._capacity = capacity
        self._gather_s = gather_s
        self._close_s = close_s
        self._queue: deque[tuple[Sink, Any]] = deque()
        self._taken = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """The number of records that are not written yet."""
        return len(self._queue) + self._taken

    @property
    def is_full(self) -> bool:
        """Tell whether a caller should `wait_for_room` before it makes another record."""
        return len(self._queue) >= self._capacity

    async def __aenter__(self) -> Self:
        self._task = self._supervisor.start(self._run(), name="background-writer")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def add(self, sink: Sink, record: Any) -> bool:
        """Hand over one record; never blocks, never raises.

        Gives False where there was no room; it is counted, and gone unless the caller keeps it.
        """
        if len(self._queue) >= self._capacity:
            self._on_dropped("queue_full")
            return False
        self._queue.append((sink, record))
        if not self._wake.is_set():
            self._wake.set()
        return True

    async def wait_for_room(self) -> None:
        """Wait until the queue is not full, a second at most; not at all while the database is away.

        A database that is slower than the calls slows them to its own speed; one that is not there
        stops nobody.
        """
        if not self.is_full or self.outage is not None:
            return
        self._room.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await self._room.wait()

    async def flush(self) -> None:
        """Wait until all that was added before now is written or given up; unbounded, for tests."""
        while len(self):
            self._wake.set()
            self._room.clear()
            await self._room.wait()

    async def close(self) -> None:
        """Write what is left, as far as it goes within the bound, and end. Safe to call twice."""
        task, self._task = self._task, None
        if task is None:
            return
        self._closing.set()
        self._wake.set()
        await asyncio.wait({task}, timeout=self._close_s)
        if not task.done():
            task.cancel("the server stops")
            await asyncio.wait({task}, timeout=self._close_s)
        if left := len(self):
            _log.error("records_lost", count=left, reason=self.outage or "not written in time")
            for _ in range(left):
                self._on_dropped("stopped")
            self._queue.clear()
            self._taken = 0

    async def _run(self) -> None:
        while not (self._closing.is_set() and not self._queue):
            await self._wake.wait()
            if not self.is_full:
                await self._pause(self._gather_s)
            self._wake.clear()
            while self._queue:
                count = min(BATCH, len(self._queue))
                batch = [self._queue.popleft() for _ in range(count)]
                self._taken = count
                await self._write(batch)
                self._taken = 0
                self._room.set()

    async def _write(self, batch: Sequence[tuple[Sink, Any]]) -> None:
        """Write a batch to its end: written, or each record that cannot be stored given up."""
        parts = [batch]
        while parts:
            part = parts.pop()
            failure = await self._try_until_answered(part)
            if failure is None:
                continue
            if len(part) == 1:
                sink = getattr(part[0][0], "__qualname__", "unknown")
                _log.error("record_refused", sink=sink, reason=failure)
                self._on_dropped("refused")
                continue
            middle = len(part) // 2
            parts += [part[middle:], part[:middle]]

    async def _try_until_answered(self, part: Sequence[tuple[Sink, Any]]) -> str | None:
        """Write in one transaction, again and again while the database is away.

        Gives None where it is written, else why it never will be.
        """
        delay_s = FIRST_DELAY_S
        while True:
            try:
                await self._write_once(part)
            except (StorageError, ValueError, TypeError, OverflowError) as exc:
                if _is_fault_of_records(exc):
                    return f"{type(exc.__cause__ or exc).__name__}"
                self._away(str(exc))
            else:
                self._back()
                return None
            await self._pause(delay_s)
            delay_s = min(delay_s * 2, LONGEST_DELAY_S)

    async def _write_once(self, part: Sequence[tuple[Sink, Any]]) -> None:
        kinds: dict[Sink, list[Any]] = {}
        for sink, record in part:
            kinds.setdefault(sink, []).append(record)
        async with self._database.writing() as connection:
            for sink, records in kinds.items():
                await sink(connection, records)

    async def _pause(self, seconds: float) -> None:
        """Wait; where the process stops meanwhile, only as long as is needed not to be a burden."""
        if self._closing.is_set():
            await asyncio.sleep(min(seconds, FIRST_DELAY_S) if self.outage else 0)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    def _away(self, reason: str) -> None:
        if self.outage is None:
            _log.error(
                "records_wait", reason=reason, waiting=len(self),
                mend="bring the database back; records are kept and tried again",
            )  # fmt: skip
        self.outage = reason
        self._room.set()

    def _back(self) -> None:
        if self.outage is not None:
            self.outage = None
            _log.info("records_are_written_again", waiting=len(self))


def _is_fault_of_records(error: Exception) -> bool:
    """Tell records that can never be stored from a database that cannot be reached now."""
    if not isinstance(error, StorageError):
        return True
    cause = error.__cause__
    if isinstance(cause, DBAPIError):
        # Classes of SQL's own codes: data that does not fit, a rule broken, a table that is not there.
        state = getattr(cause.orig, "sqlstate", None) or ""
        is_fault = isinstance(cause, (IntegrityError, DataError, ProgrammingError))
        return is_fault or state[:2] in ("22", "23", "42")
    return isinstance(cause, StatementError)
