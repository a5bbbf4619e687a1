"""An API key as it is kept: everything but its text."""

from __future__ import annotations

from datetime import datetime

import msgspec

from waygate_mcp.model.permissions import Narrowing

__all__ = ["StoredKey"]


class StoredKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key. `id` is its public id; `digest` the keyed hash of its text, 32 bytes.

    While it is rotated `previous_digest` is that of the text before, good until `previous_until`.
    `limits` are rates such as `100/minute`. `version` grows with every change of any key.
    """

    id: str
    digest: bytes = msgspec.field(default=b"")
    previous_digest: bytes | None = None
    previous_until: datetime | None = None
    name: str
    roles: tuple[str, ...]
    narrowing: Narrowing = Narrowing()
    limits: tuple[str, ...] = ()
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    version: int = 0

    def __repr__(self) -> str:
        """Leave the hashes out."""
        return f"StoredKey(id={self.id!r}, name={self.name!r}, roles={self.roles!r})"

    def state(self, now: datetime) -> str:
        """Tell how it is at a moment: `active`, `rotating`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        is_rotating = self.previous_until is not None and self.previous_until > now
        return "rotating" if is_rotating else "active"
