"""A store of keys in memory, which can be made to fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from waygate_mcp.errors import StorageError
from waygate_mcp.model.keys import StoredKey

START = datetime(2026, 11, 28, tzinfo=UTC)


def stored(id_: str = "abcdefghijkl", **more: Any) -> StoredKey:
    """A key as a store has it."""
    values: dict[str, Any] = {
        "digest": b"d" * 32, "name": "a name", "roles": ("viewer",), "created_at": START, "created_by": "local",
    }  # fmt: skip
    return StoredKey(id=id_, **(values | more))


class MemoryKeys:
    """Fulfils `model.ports.KeyStore`; `is_down` makes every method fail."""

    def __init__(self) -> None:
        self.keys: dict[str, StoredKey] = {}
        self.is_down = False
        self.version = 0

    async def changed_since(self, version: int) -> Sequence[StoredKey]:
        self._check()
        found = [key for key in self.keys.values() if key.version > version]
        return sorted(found, key=lambda key: key.version)

    async def find(self, id_: str) -> StoredKey | None:
        self._check()
        return self.keys.get(id_)

    async def add(self, key: StoredKey) -> StoredKey:
        self._check()
        return self._keep(key)

    async def rotate(
        self, id_: str, digest: bytes, previous_until: datetime, now: datetime
    ) -> StoredKey | None:
        self._check()
        known = self.keys.get(id_)
        if known is None or known.revoked_at is not None:
            return None
        return self._keep(
            msgspec.structs.replace(
                known, digest=digest, previous_digest=known.digest, previous_until=previous_until
            )
        )

    async def revoke(self, id_: str, now: datetime) -> StoredKey | None:
        self._check()
        known = self.keys.get(id_)
        if known is None or known.revoked_at is not None:
            return None
        return self._keep(
            msgspec.structs.replace(
                known, revoked_at=now, previous_digest=None, previous_until=None
            )
        )

    async def note_use(self, used: Mapping[str, datetime]) -> None:
        self._check()
        for id_, moment in used.items():
            if id_ in self.keys:
                self.keys[id_] = msgspec.structs.replace(self.keys[id_], last_used_at=moment)

    def _keep(self, key: StoredKey) -> StoredKey:
        self.version += 1
        self.keys[key.id] = msgspec.structs.replace(key, version=self.version)
        return self.keys[key.id]

    def _check(self) -> None:
        if self.is_down:
            raise StorageError("the store does not answer")
