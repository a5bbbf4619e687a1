"""The documents that were put in force: the table `config_history`.

Knows rows, and that the newest are kept. Refuses to be the configuration: the file is.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from waygate_mcp.model.applied import AppliedDocument
from waygate_mcp.storage.engine import Database, next_version
from waygate_mcp.storage.tables import config_history

__all__ = ["KEPT", "ConfigHistory"]

KEPT: Final = 200
"""Entries that are kept; older ones go when another is added."""


class ConfigHistory:
    """The repository. `now` gives seconds since 1970."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now

    async def add(
        self, digest: str, text: str, by: str, reason: str, *, unless_last: bool = False
    ) -> AppliedDocument | None:
        """Add an entry and give it; None where, `unless_last`, the last entry has that digest already.

        Raises:
            StorageError: it was not added.
        """
        at = datetime.fromtimestamp(self._now(), UTC)
        row = {"digest": digest, "text": text, "applied_by": by, "reason": reason}
        async with self._database.writing() as connection:
            await next_version(connection)  # first: of several processes one adds it
            newest = sa.select(config_history.c.digest).order_by(config_history.c.id.desc())
            last = (await connection.execute(newest.limit(1))).scalar()
            if unless_last and last == digest:
                return None
            statement = sa.insert(config_history).values(**row, applied_at_utc=at)
            added = await connection.execute(statement.returning(config_history.c.id))
            number = int(added.scalar_one())
            newest = sa.select(config_history.c.id).order_by(config_history.c.id.desc())
            last_kept = (await connection.execute(newest.offset(KEPT - 1).limit(1))).scalar()
            if last_kept is not None:
                await connection.execute(
                    sa.delete(config_history).where(config_history.c.id < last_kept)
                )
        return AppliedDocument(number, digest, text, at, by, reason)

    async def remove(self, number: int) -> None:
        """Take an entry back whose document was not put in force after all.

        Raises:
            StorageError: it is still there.
        """
        async with self._database.writing() as connection:
            await connection.execute(sa.delete(config_history).where(config_history.c.id == number))

    async def find(self, number: int) -> AppliedDocument | None:
        """Give one entry, None where there is none of that number.

        Raises:
            StorageError: the database cannot be asked.
        """
        statement = sa.select(config_history).where(config_history.c.id == number)
        async with self._database.reading() as connection:
            row = (await connection.execute(statement)).mappings().first()
        return None if row is None else _entry(row)

    async def page(self, *, skip: int, limit: int) -> tuple[int, list[AppliedDocument]]:
        """Give how many entries there are, and some of them, newest first.

        Raises:
            StorageError: the database cannot be asked.
        """
        count = sa.select(sa.func.count()).select_from(config_history)
        rows = (
            sa.select(config_history).order_by(config_history.c.id.desc()).offset(skip).limit(limit)
        )
        async with self._database.reading() as connection:
            total = (await connection.execute(count)).scalar_one()
            found = (await connection.execute(rows)).mappings().all()
        return total, [_entry(row) for row in found]


def _entry(row: Any) -> AppliedDocument:
    return AppliedDocument(
        number=row["id"],
        digest=row["digest"],
        text=row["text"],
        applied_at=row["applied_at_utc"],
        applied_by=row["applied_by"],
        reason=row["reason"],
    )
