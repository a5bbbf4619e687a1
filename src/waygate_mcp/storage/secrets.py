"""The secrets that are kept in the database, encrypted.

Knows the table and when a version is new: each `set` takes the next number of the database's counter, so
that no version of a name ever comes back, not even after `remove`. Refuses to know where else a secret may
lie. What is encrypted how stands in `envelope.py`.
Spec: threat model rules 31 and 32.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from waygate_mcp.errors import StorageError
from waygate_mcp.storage.engine import Database, next_version
from waygate_mcp.storage.envelope import Envelope, SealedSecret
from waygate_mcp.storage.tables import secrets

__all__ = ["Fetched", "Rewrapped", "SecretStore", "StoredSecret"]

_BATCH = 100
"""Secrets read, or wrapped anew, in one transaction."""

_SEALED = (
    secrets.c.name,
    secrets.c.version,
    secrets.c.key_id,
    secrets.c.wrapped_key,
    secrets.c.nonce,
    secrets.c.ciphertext,
)


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """What may be told of a secret. `is_current`: it is wrapped under the master key in force."""

    name: str
    version: int
    is_current: bool
    created_at_utc: datetime
    updated_at_utc: datetime


@dataclass(frozen=True, slots=True)
class Fetched:
    """Texts by name, and why others that are stored could not be read."""

    texts: dict[str, str]
    problems: dict[str, str]

    def __repr__(self) -> str:
        """Leave the texts out."""
        return f"Fetched({sorted(self.texts)}, problems={self.problems})"


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """How many were wrapped anew, and what is wrong with those that could not be."""

    count: int
    problems: dict[str, str]


class SecretStore:
    """Keeps secrets in a database. `now` gives seconds since 1970."""

    def __init__(self, database: Database, envelope: Envelope, now: Callable[[], float]) -> None:
        self._database = database
        self._envelope = envelope
        self._now = now

    async def fetch(self, names: Collection[str]) -> Fetched:
        """Read and decrypt those of `names` that are stored.

        Raises:
            StorageError: the database did not answer.
        """
        fetched = Fetched({}, {})
        wanted = sorted(set(names))
        for start in range(0, len(wanted), _BATCH):
            chosen = sa.select(*_SEALED).where(secrets.c.name.in_(wanted[start : start + _BATCH]))
            async with self._database.reading() as connection:
                rows = (await connection.execute(chosen)).all()
            for row in rows:
                try:
                    fetched.texts[row.name] = self._envelope.open(_sealed(row))
                except StorageError as exc:
                    fetched.problems[row.name] = str(exc)
        return fetched

    async def stored(self) -> list[StoredSecret]:
        """Give all that is stored, by name, without a text.

        Raises:
            StorageError: the database did not answer.
        """
        chosen = sa.select(
            secrets.c.name,
            secrets.c.version,
            secrets.c.key_id,
            secrets.c.created_at_utc,
            secrets.c.updated_at_utc,
        ).order_by(secrets.c.name)
        async with self._database.reading() as connection:
            rows = (await connection.execute(chosen)).all()
        return [
            StoredSecret(
                row.name,
                row.version,
                row.key_id == self._envelope.key_id,
                row.created_at_utc,
                row.updated_at_utc,
            )
            for row in rows
        ]

    async def set(self, name: str, text: str) -> int:
        """Keep a text under a name, in place of what was there; gives its version. Durable when it returns.

        Raises:
            StorageError: nothing was written.
        """
        now = datetime.fromtimestamp(self._now(), UTC)
        async with self._database.writing() as connection:
            sealed = self._envelope.seal(name, await next_version(connection), text)
            values = {
                "version": sealed.version,
                "key_id": sealed.key_id,
                "wrapped_key": sealed.wrapped_key,
                "nonce": sealed.nonce,
                "ciphertext": sealed.ciphertext,
                "updated_at_utc": now,
            }
            changed = await connection.execute(
                sa.update(secrets).where(secrets.c.name == name).values(**values)
            )
            if changed.rowcount == 0:
                await connection.execute(
                    sa.insert(secrets).values(name=name, created_at_utc=now, **values)
                )
        return sealed.version

    async def remove(self, name: str) -> bool:
        """Forget a secret; gives whether there was one.

        Raises:
            StorageError: nothing was removed.
        """
        async with self._database.writing() as connection:
            gone = await connection.execute(sa.delete(secrets).where(secrets.c.name == name))
        return gone.rowcount > 0

    async def rewrap(self) -> Rewrapped:
        """Wrap anew whatever is not wrapped under the master key in force.

        Done in batches, each durable: broken off, it goes on where it was when it is run again. Beside
        it, others may read and write; what they store meanwhile is left as they stored it.

        Raises:
            StorageError: the database did not answer; what was done before stays done.
        """
        count, last = 0, ""
        problems: dict[str, str] = {}
        while True:
            done, last = await self._rewrap_batch(last, problems)
            count += done
            if not last:
                return Rewrapped(count, problems)

    async def _rewrap_batch(self, after: str, problems: dict[str, str]) -> tuple[int, str]:
        """Wrap the next ones by name; gives how many were, and the last name, empty at the end."""
        chosen = (
            sa.select(*_SEALED)
            .where(secrets.c.key_id != self._envelope.key_id, secrets.c.name > after)
            .order_by(secrets.c.name)
            .limit(_BATCH)
        )
        count = 0
        async with self._database.writing() as connection:
            rows = (await connection.execute(chosen)).all()
            for row in rows:
                old = _sealed(row)
                try:
                    new = self._envelope.rewrap(old)
                except StorageError as exc:
                    problems[old.name] = str(exc)
                    continue
                changed = await connection.execute(
                    sa.update(secrets)
                    .where(
                        secrets.c.name == old.name,
                        secrets.c.version == old.version,
                        secrets.c.key_id == old.key_id,
                    )
                    .values(key_id=new.key_id, wrapped_key=new.wrapped_key)
                )
                count += changed.rowcount
        return count, rows[-1].name if rows else ""


def _sealed(row: Any) -> SealedSecret:
    return SealedSecret(
        row.name, row.version, row.key_id, row.wrapped_key, row.nonce, row.ciphertext
    )
