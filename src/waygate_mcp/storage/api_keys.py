"""API keys in the database.

Knows rows. Refuses to know the text of a key, and whether one is good now.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from waygate_mcp.model.keys import StoredKey
from waygate_mcp.model.permissions import Narrowing
from waygate_mcp.storage.engine import Database, next_version
from waygate_mcp.storage.tables import api_keys

__all__ = ["ApiKeys"]

_c = api_keys.c
_log = logging.getLogger(__name__)


class ApiKeys:
    """The repository of keys. Fulfils `model.ports.KeyStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def changed_since(self, version: int) -> Sequence[StoredKey]:
        """Give the keys that changed after a version, in the order they did; all for 0."""
        statement = sa.select(api_keys).where(_c.version > version).order_by(_c.version)
        async with self._database.reading() as connection:
            return [_key(row) for row in (await connection.execute(statement)).mappings()]

    async def find(self, id_: str) -> StoredKey | None:
        """Give one key by its public id."""
        async with self._database.reading() as connection:
            row = (
                (await connection.execute(sa.select(api_keys).where(_c.id == id_)))
                .mappings()
                .one_or_none()
            )
        return None if row is None else _key(row)

    async def add(self, key: StoredKey) -> StoredKey:
        """Keep a new key; gives it with its version."""
        async with self._database.writing() as connection:
            version = await next_version(connection)
            values = {
                "id": key.id,
                "digest": key.digest,
                "name": key.name,
                "roles": list(key.roles),
                "narrowing": msgspec.to_builtins(key.narrowing),
                "limits": list(key.limits),
                "created_at_utc": key.created_at,
                "created_by": key.created_by,
                "expires_at_utc": key.expires_at,
                "changed_at_utc": key.created_at,
                "version": version,
            }
            await connection.execute(sa.insert(api_keys).values(values))
        return msgspec.structs.replace(key, version=version)

    async def rotate(
        self, id_: str, digest: bytes, previous_until: datetime, now: datetime
    ) -> StoredKey | None:
        """Give a key a new text; the one before is good until `previous_until`.

        None where there is no such key that is not revoked.
        """
        return await self._change(
            id_,
            now,
            previous_digest=_c.digest,
            previous_until_utc=previous_until,
            digest=digest,
        )

    async def revoke(self, id_: str, now: datetime) -> StoredKey | None:
        """Take a key back, both texts of it. None where there is no such key that is not revoked."""
        return await self._change(
            id_, now, revoked_at_utc=now, previous_digest=None, previous_until_utc=None
        )

    async def note_use(self, used: Mapping[str, datetime]) -> None:
        """Keep when keys were last used; changes no version."""
        async with self._database.writing() as connection:
            for id_, moment in used.items():
                statement = sa.update(api_keys).where(_c.id == id_).values(last_used_at_utc=moment)
                await connection.execute(statement)

    async def _change(self, id_: str, now: datetime, **values: Any) -> StoredKey | None:
        async with self._database.writing() as connection:
            version = await next_version(connection)
            statement = (
                sa.update(api_keys)
                .where(_c.id == id_, _c.revoked_at_utc.is_(None))
                .values(**values, changed_at_utc=now, version=version)
                .returning(*api_keys.c)
            )
            row = (await connection.execute(statement)).mappings().one_or_none()
        return None if row is None else _key(row)


def _key(row: Mapping[Any, Any]) -> StoredKey:
    """Read a row. One that says what no key of ours does is a key that is good no more.

    It was written by a newer version of us, or by somebody else; to stop at it would be to hear of no
    revocation after it.
    """
    try:
        return _read(row)
    except (msgspec.ValidationError, TypeError, ValueError) as exc:
        _log.error("the key %s cannot be read and is refused: %s", row["id"], exc)
        return StoredKey(
            id=str(row["id"]),
            name=str(row["name"]),
            roles=(),
            created_at=row["created_at_utc"],
            created_by=str(row["created_by"]),
            revoked_at=row["changed_at_utc"],
            version=row["version"],
        )


def _read(row: Mapping[Any, Any]) -> StoredKey:
    return StoredKey(
        id=row["id"],
        digest=row["digest"],
        previous_digest=row["previous_digest"],
        previous_until=row["previous_until_utc"],
        name=row["name"],
        roles=msgspec.convert(row["roles"], tuple[str, ...]),
        narrowing=msgspec.convert(row["narrowing"], Narrowing),
        limits=msgspec.convert(row["limits"], tuple[str, ...]),
        created_at=row["created_at_utc"],
        created_by=row["created_by"],
        expires_at=row["expires_at_utc"],
        revoked_at=row["revoked_at_utc"],
        last_used_at=row["last_used_at_utc"],
        version=row["version"],
    )
