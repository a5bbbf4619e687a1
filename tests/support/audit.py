"""Journals for tests: written by the real code, into a folder of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from waygate_mcp.audit.files import Head, write_beside
from waygate_mcp.audit.journal import Journal, JournalOptions
from waygate_mcp.audit.keys import AuditKeys
from waygate_mcp.audit.trail import Trail
from waygate_mcp.errors import StorageError
from waygate_mcp.runtime.clock import Clock
from waygate_mcp.telemetry.redaction import Redactor

MASTER = b"the master key of the audit tests, 0123456789"
KEYS = AuditKeys(MASTER)
CLOCK = Clock()
WAIT_S = 10.0


@contextmanager
def open_journal(
    folder: Path,
    options: JournalOptions | None = None,
    *,
    keys: AuditKeys = KEYS,
    ring_bytes: int = 0,
) -> Iterator[Journal]:
    """A journal that is closed at the end; its head is not written beside it."""
    journal = Journal(folder, keys, CLOCK.now, options, ring_bytes=ring_bytes)
    try:
        yield journal
    finally:
        journal.close()
        journal.release()


@contextmanager
def open_trail(folder: Path, options: JournalOptions | None = None) -> Iterator[Trail]:
    """A trail of a journal of its own."""
    with open_journal(folder, options) as journal:
        yield Trail(journal, Redactor(), CLOCK.now, CLOCK.monotonic)


def write_journal(folder: Path, count: int, *, rotate_bytes: int = 1 << 26) -> Head:
    """Write a closed chain of `count` records, and its head."""
    journal = Journal(folder, KEYS, CLOCK.now, JournalOptions(0.001, rotate_bytes))
    for number in range(count):
        journal.append(b'"at":"2026-07-28T12:00:00.000Z","kind":"outcome","name":"tool%d"' % number)
    head = journal.close()
    journal.release()
    assert head is not None
    assert head.sequence == count
    write_beside(folder, head)
    return head


def lines_in(folder: Path) -> list[bytes]:
    """All lines of all files, in their order."""
    return [
        line
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_bytes().splitlines(keepends=True)
    ]


async def reached(fact: Callable[[], object]) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: it is not in time.
    """
    async with asyncio.timeout(WAIT_S):
        while True:
            if fact():
                return
            await asyncio.sleep(0.01)


class NotedTrail:
    """Keeps what it is told, and fails where it is told to."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str, str]] = []
        self.is_broken = False
        self._details: list[Mapping[str, Any]] = []

    def record(
        self,
        action: str,
        *,
        principal: str,
        outcome: str = "done",
        details: Mapping[str, Any] | None = None,
        request_id: str = "",
    ) -> None:
        """See AuditTrail."""
        if self.is_broken:
            raise StorageError("the journal cannot be written")
        self.records.append((action, principal, outcome))
        self._details.append(details or {})

    def details_of(self, number: int) -> Mapping[str, Any]:
        """What a record held besides."""
        return self._details[number]
