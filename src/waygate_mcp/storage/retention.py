"""How long records are kept, and who takes away those that are older.

Knows tables, days and rows. One process among several does it: whoever finds that it is due says so
in the database first. Rows go a few thousand at a time, so that nobody who writes waits for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from waygate_mcp.errors import StorageError
from waygate_mcp.storage.engine import Database, next_version
from waygate_mcp.storage.tables import (
    command_history,
    config,
    execution_logs,
    metrics,
    plugin_metrics,
    system_events,
)
from waygate_mcp.telemetry.logs import get_logger

__all__ = ["DAYS", "MAX_ROWS", "Pruner", "is_mine", "prune"]

DAYS: Final[Mapping[sa.Table, int]] = {
    command_history: 90,
    execution_logs: 60,
    metrics: 30,
    system_events: 365,
}
"""Days that rows are kept."""
PLUGIN_DAYS = 90
MAX_ROWS = 2_000_000
"""Rows that are kept of each of these, however young: a busy gateway must not fill the disk."""
BATCH = 5_000
EVERY_S = 3600.0
FIRST_S = 60.0
"""Seconds after the start: a start has better things to do."""
CLAIM = "retention"
"""Under this name in `config` stands when it was done last."""

_log = get_logger("storage.retention")


class Pruner:
    """Prunes every hour while `run` runs; `now` gives seconds since 1970."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now

    async def run(self) -> None:
        """Go on until cancelled. What fails is tried again at the next turn, and logged."""
        await asyncio.sleep(FIRST_S)
        while True:
            await self.turn()
            await asyncio.sleep(EVERY_S / 4)

    async def turn(self) -> Mapping[str, int]:
        """Prune if it is due and nobody else does; gives the rows taken away, by table."""
        now = datetime.fromtimestamp(self._now(), UTC)
        try:
            if not await is_mine(self._database, now):
                return {}
            taken = await prune(self._database, now)
        except StorageError as exc:
            _log.warning("records_not_pruned", reason=str(exc))
            return {}
        if taken:
            _log.info("records_pruned", **taken)
        return taken


async def is_mine(database: Database, now: datetime) -> bool:
    """Claim this hour's turn; True for one process alone.

    Raises:
        StorageError: nobody can tell.
    """
    due = now - timedelta(seconds=EVERY_S)
    async with database.writing() as connection:
        # The number first: whoever takes one is alone until it is done.
        version = await next_version(connection)
        found = await connection.execute(sa.select(config).where(config.c.name == CLAIM))
        row = found.one_or_none()
        if row is not None and due < row.changed_at_utc <= now:
            return False
        values = {"value": None, "changed_at_utc": now, "version": version}
        if row is None:
            await connection.execute(sa.insert(config).values(name=CLAIM, **values))
        else:
            await connection.execute(sa.update(config).where(config.c.name == CLAIM).values(values))
        return True


async def prune(database: Database, now: datetime, max_rows: int = MAX_ROWS) -> dict[str, int]:
    """Take away what is too old, and the oldest of what is too much; gives the rows by table.

    Raises:
        StorageError: it could not be done to its end.
    """
    taken: dict[str, int] = {}
    for table, days in DAYS.items():
        old = table.c.at_utc < now - timedelta(days=days)
        async with database.reading() as connection:
            newest = (await connection.execute(sa.select(sa.func.max(table.c.id)))).scalar() or 0
        count = await _delete(database, table, sa.or_(old, table.c.id <= newest - max_rows))
        if count:
            taken[table.name] = count
    day = (now - timedelta(days=PLUGIN_DAYS)).date().isoformat()
    async with database.writing() as connection:
        gone = await connection.execute(sa.delete(plugin_metrics).where(plugin_metrics.c.day < day))
        if gone.rowcount:
            taken[plugin_metrics.name] = gone.rowcount
    return taken


async def _delete(database: Database, table: sa.Table, which: sa.ColumnElement[bool]) -> int:
    total = 0
    while True:
        some = sa.select(table.c.id).where(which).order_by(table.c.id).limit(BATCH)
        async with database.writing() as connection:
            gone = await connection.execute(sa.delete(table).where(table.c.id.in_(some)))
        total += gone.rowcount
        if gone.rowcount < BATCH:
            return total
        await asyncio.sleep(0)
