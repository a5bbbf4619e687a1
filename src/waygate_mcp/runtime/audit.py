"""The journal's life in a process: begun, anchored, copied into the database, pruned, closed.

Knows when. Refuses to know what is recorded (`audit/trail.py`) and how it is kept (`audit/journal.py`).
Nothing here is on a call's path: the copy follows the files, remembers in the database how far it is, and
loses nothing when the process dies.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import msgspec

from waygate_mcp import __version__
from waygate_mcp.audit.files import FOLDER, Head, write_beside
from waygate_mcp.audit.journal import Journal, JournalOptions
from waygate_mcp.audit.keys import AuditKeys
from waygate_mcp.audit.leftovers import Leftover, find_leftovers, settle
from waygate_mcp.audit.pruning import prune
from waygate_mcp.audit.reading import Follower, parse
from waygate_mcp.audit.ring import RING_BYTES
from waygate_mcp.audit.trail import Trail, TrailRules
from waygate_mcp.config.audit import AuditSection
from waygate_mcp.config.file_lock import locked
from waygate_mcp.config.settings import Settings
from waygate_mcp.errors import StorageError
from waygate_mcp.runtime.clock import Clock
from waygate_mcp.runtime.tasks import TaskSupervisor
from waygate_mcp.storage.audit_log import AuditLog
from waygate_mcp.storage.engine import Database
from waygate_mcp.telemetry.logs import Logs, get_logger
from waygate_mcp.telemetry.timestamps import Stamp

__all__ = ["AuditRoom"]

TICK_S = 1.0
STOP_S = 3.0
ANCHOR_S = 5.0
PRUNE_S = 3600.0
COPY_RECORDS = 1000
"""Records read in each second for the copy: a burst is caught up with later, so that calls have the
processor."""

_MARK_AT_ONCE = 200
_DAY_S = 86_400.0
_ALL = 2**62

_log = get_logger("runtime.audit")


class AuditRoom:
    """The journal of this process. It writes nothing before `follow` is told that it is wanted.

    `behind` is the number of records that are not yet copied into the database.
    """

    def __init__(
        self,
        settings: Settings,
        master: bytes,
        logs: Logs,
        clock: Clock,
        supervisor: TaskSupervisor,
        database: Database,
    ) -> None:
        self.keys = AuditKeys(master)
        self.folder = settings.data_dir / FOLDER
        self.journal = Journal(self.folder, self.keys, clock.now, ring_bytes=RING_BYTES)
        self.trail = Trail(self.journal, logs.redactor, clock.now, clock.monotonic)
        self.log = AuditLog(database)
        self._clock = clock
        self._stamp = Stamp(clock.now).now
        self._supervisor = supervisor
        self._section = AuditSection()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._follower = Follower(self.folder, self.journal.chain)
        self._copied = 0
        self._anchored = 0
        self._uncopied: list[bytes] = []
        self._anchor_at_s = 0.0
        self._prune_at_s = 0.0

    @property
    def behind(self) -> int:
        """How many records of this process are not yet copied."""
        return self.journal.tip.sequence - self._copied

    def follow(self, section: AuditSection) -> None:
        """Take over what the document says; the first that wants a journal begins it."""
        self._section = section
        self.journal.options = JournalOptions(
            sync_s=section.sync_ms / 1000, rotate_bytes=section.rotate_mb * 1024 * 1024
        )
        self.trail.rules = TrailRules(
            clear=section.clear_arguments, refusals_per_s=section.door_refusals_per_s
        )
        if section.enabled and not self._tasks:
            self._try_note("started", version=__version__, durability=section.durability)
            start = self._supervisor.start
            self._tasks = [
                start(self._run(), name="audit"),
                start(self._settle_leftovers(), name="audit-leftovers"),
            ]

    async def close(self) -> None:
        """End the chain: everything on the disk, its head closed and anchored."""
        # Cut off in the middle, a write may leave the database locked for the last one below.
        self._stopping.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks or self.journal.tip.sequence:
            self.trail.sum_refusals()
            self.trail.retry()
            self._try_note("stopped")
        head = await asyncio.to_thread(self.journal.close)
        if head is not None:
            await self._anchor(head)
            await self._copy()
        await asyncio.to_thread(self.journal.release)

    async def _run(self) -> None:
        """Do now and then what has to be done now and then."""
        while not await self._is_stopped(TICK_S):
            now_s = self._clock.monotonic()
            self.trail.sum_refusals()
            if self.journal.problem is not None or self.trail.waiting:
                self.trail.retry()
            self._turn_day()
            if now_s >= self._anchor_at_s:
                self._anchor_at_s = now_s + ANCHOR_S
                if self.journal.durable.sequence > self._anchored:
                    await self._anchor(self.journal.head())
            await self._copy()
            if now_s >= self._prune_at_s:
                self._prune_at_s = now_s + PRUNE_S
                await self._prune()

    async def _is_stopped(self, within_s: float) -> bool:
        """Wait for the end, for so long."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), within_s)
        return self._stopping.is_set()

    def _try_note(self, name: str, **details: Any) -> None:
        try:
            self.trail.note(name, **details)
        except StorageError as exc:
            _log.error("audit_not_written", error=str(exc))

    def _turn_day(self) -> None:
        try:
            self.journal.turn_day()
        except StorageError as exc:
            _log.error("audit_not_written", error=str(exc))

    async def _anchor(self, head: Head) -> None:
        """Keep a head beside its chain and in the database."""
        try:
            await asyncio.to_thread(write_beside, self.folder, head)
            await self.log.put_head(msgspec.to_builtins(head))
        except (OSError, StorageError) as exc:
            _log.error("audit_head_not_anchored", chain=head.chain, error=str(exc))
            return
        if head.chain == self.journal.chain:
            self._anchored = head.sequence

    async def _copy(self) -> None:
        """Copy what is on the disk, so that the copy never knows more than the journal."""
        try:
            if not self._uncopied:
                self._uncopied = await asyncio.to_thread(self._follower.read, COPY_RECORDS)
            rows, last, rest = _rows(self._uncopied, self.journal.durable.sequence)
            await self.log.put(rows)
        except StorageError as exc:
            _log.warning("audit_not_copied", error=str(exc))
            return
        self._copied = max(self._copied, last)
        self._uncopied = rest

    async def _settle_leftovers(self) -> None:
        """Mark calls that processes left open when they died, and close their chains."""
        try:
            with locked(self.folder / "settle", 0):
                await self.settle_leftovers()
        except BlockingIOError:
            return  # another process is at it
        except (OSError, StorageError) as exc:
            _log.error("audit_leftovers_not_settled", error=str(exc))

    async def settle_leftovers(self) -> None:
        """See `_settle_leftovers`, which lets one process of several do it.

        Raises:
            StorageError: something could not be read or recorded.
        """
        for leftover in await asyncio.to_thread(self._find_leftovers):
            await self._mark(leftover)
            self.trail.note(
                "settled",
                of=leftover.chain,
                sequence=leftover.sequence,
                mac=leftover.mac,
                unknown=len(leftover.open_calls),
            )
            await self.journal.wait_durable(self.journal.tip.sequence)
            head = await asyncio.to_thread(settle, self.folder, leftover, self.keys, self._stamp())
            await self._anchor(head)
            await self._copy_chain(leftover.chain)
            _log.warning(
                "audit_chain_settled", chain=leftover.chain, unknown=len(leftover.open_calls)
            )

    def _find_leftovers(self) -> list[Leftover]:
        return find_leftovers(self.folder, self.journal.chain, self.keys)

    async def _mark(self, leftover: Leftover) -> None:
        for count, (start, record) in enumerate(leftover.open_calls.items(), start=1):
            self.trail.mark_unknown(leftover.chain, start, record)
            if count % _MARK_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _copy_chain(self, chain: str) -> None:
        """Copy what a process that died had not copied yet."""
        seen = await self.log.last(chain)
        follower = Follower(self.folder, chain)
        while lines := await asyncio.to_thread(follower.read, COPY_RECORDS):
            rows, _, _ = _rows(lines, _ALL, seen)
            await self.log.put(rows)
            await asyncio.sleep(0.05)

    async def _prune(self) -> None:
        """Let old files go, and old copies; one process of several does it."""
        before_s = self._clock.now() - self._section.keep_days * _DAY_S
        try:
            stones = await asyncio.to_thread(self._prune_files, before_s)
            for stone in stones:
                self.trail.note("pruned", of=stone.chain, sequence=stone.sequence, mac=stone.mac)
            await self.log.prune(before_s)
        except BlockingIOError:
            return  # another process is at it
        except (OSError, StorageError) as exc:
            _log.warning("audit_not_pruned", error=str(exc))

    def _prune_files(self, before_s: float) -> list[Any]:
        with locked(self.folder / "prune", 0):
            return list(prune(self.folder, self.keys, before_s, self._stamp()))


def _rows(
    lines: list[bytes], durable: int, after: int = 0
) -> tuple[list[tuple[dict[str, Any], str]], int, list[bytes]]:
    """Choose what is copied: not the beginnings of calls, whose ends say the same and more.

    Gives the rows, the number of the last record looked at, and the lines that are not on the disk yet.
    """
    rows: list[tuple[dict[str, Any], str]] = []
    last = 0
    for index, line in enumerate(lines):
        record = parse(line)
        if record is None:
            continue
        sequence = int(record["sequence"])
        if sequence > durable:
            return rows, last, lines[index:]
        last = sequence
        if after < sequence and record.get("kind") != "start":
            rows.append((record, line.decode("utf-8", "replace").rstrip("\n")))
    return rows, last, []
