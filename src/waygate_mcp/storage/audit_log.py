"""The copy of the audit journal that can be asked questions: `audit_log`, and anchored `audit_heads`.

Knows rows. Refuses to be the record: the journal is, and what differs from it is wrong here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from waygate_mcp.storage.engine import Database
from waygate_mcp.storage.tables import audit_heads, audit_log

__all__ = ["AuditLog"]

KEYS = (
    "kind",
    "principal",
    "endpoint",
    "method",
    "upstream",
    "name",
    "outcome",
    "request_id",
)
"""What can be asked for by its exact text."""

_COPIED = (*KEYS, "duration_ms", "arguments_digest")
_KEPT_HEADS = 3
"""Heads kept of each chain: the newest is what counts."""


class AuditLog:
    """The repository."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert = (sqlite if database.is_sqlite else postgresql).insert

    async def last(self, chain: str) -> int:
        """Give the number of the last record copied of a chain, 0 where there is none.

        Raises:
            StorageError: the database cannot be asked.
        """
        statement = sa.select(sa.func.max(audit_log.c.sequence)).where(audit_log.c.chain == chain)
        async with self._database.reading() as connection:
            return (await connection.execute(statement)).scalar() or 0

    async def put(self, records: Sequence[tuple[Mapping[str, Any], str]]) -> None:
        """Copy records, each parsed and as its line; those that are there already stay as they are.

        Raises:
            StorageError: none was copied.
        """
        rows = [_row(record, line) for record, line in records]
        if rows:
            statement = self._insert(audit_log).on_conflict_do_nothing()
            async with self._database.writing() as connection:
                await connection.execute(statement, rows)

    async def put_head(self, head: Mapping[str, Any]) -> None:
        """Anchor a signed head, and let older ones of its chain go.

        Raises:
            StorageError: it was not anchored.
        """
        row = {
            "chain": head["chain"],
            "sequence": head["sequence"],
            "mac": head["mac"],
            "at_utc": datetime.fromisoformat(head["at"]),
            # The whole of what is signed has to be kept: whether it is closed, and the text of its time.
            "signature": f"{head['signature']}:{head['is_closed']:d}:{head['at']}",
        }
        insert = self._insert(audit_heads)
        put = insert.on_conflict_do_update(
            index_elements=["chain", "sequence"],
            set_={key: insert.excluded[key] for key in ("mac", "at_utc", "signature")},
        )
        own = audit_heads.c.chain == head["chain"]
        newest = (
            sa.select(audit_heads.c.sequence)
            .where(own)
            .order_by(audit_heads.c.sequence.desc())
            .limit(_KEPT_HEADS)
        )
        async with self._database.writing() as connection:
            await connection.execute(put, row)
            kept = (await connection.execute(newest)).scalars().all()
            await connection.execute(
                sa.delete(audit_heads).where(own, audit_heads.c.sequence < min(kept))
            )

    async def heads(self) -> list[dict[str, Any]]:
        """Give all anchored heads, with the fields they were given with.

        Raises:
            StorageError: the database cannot be asked.
        """
        statement = sa.select(audit_heads).order_by(audit_heads.c.chain, audit_heads.c.sequence)
        async with self._database.reading() as connection:
            rows = (await connection.execute(statement)).mappings().all()
        heads = []
        for row in rows:
            signature, _, rest = row["signature"].partition(":")
            closed, _, at = rest.partition(":")
            head = {"chain": row["chain"], "sequence": row["sequence"], "mac": row["mac"]}
            heads.append({**head, "at": at, "is_closed": closed == "1", "signature": signature})
        return heads

    async def find(
        self,
        wanted: Mapping[str, str],
        since: datetime | None,
        until: datetime | None,
        *,
        skip: int,
        limit: int,
    ) -> tuple[int, list[str]]:
        """Give how many records fit, and some of them as their lines, newest first.

        Raises:
            StorageError: the database cannot be asked.
        """
        conditions = [audit_log.c[key] == text for key, text in wanted.items() if key in KEYS]
        if since is not None:
            conditions.append(audit_log.c.at_utc >= since)
        if until is not None:
            conditions.append(audit_log.c.at_utc < until)
        count = sa.select(sa.func.count()).select_from(audit_log).where(*conditions)
        order = (audit_log.c.at_utc.desc(), audit_log.c.chain.desc(), audit_log.c.sequence.desc())
        lines = (
            sa.select(audit_log.c.record)
            .where(*conditions)
            .order_by(*order)
            .offset(skip)
            .limit(limit)
        )
        async with self._database.reading() as connection:
            total = (await connection.execute(count)).scalar_one()
            return total, list((await connection.execute(lines)).scalars().all())

    async def prune(self, before_s: float) -> int:
        """Remove copies of records older than that (seconds since 1970); gives how many.

        Raises:
            StorageError: none was removed.
        """
        before = datetime.fromtimestamp(before_s, UTC)
        async with self._database.writing() as connection:
            gone = await connection.execute(sa.delete(audit_log).where(audit_log.c.at_utc < before))
            return gone.rowcount


def _row(record: Mapping[str, Any], line: str) -> dict[str, Any]:
    return {
        "chain": record["chain"],
        "sequence": record["sequence"],
        "at_utc": datetime.fromisoformat(record["at"]),
        **{key: record.get(key) for key in _COPIED},
        "record": line,
    }
