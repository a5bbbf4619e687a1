from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from waygate_mcp.model.keys import StoredKey

NOW = datetime(2026, 11, 28, tzinfo=UTC)
KEY = StoredKey(
    id="abc", digest=b"hash", name="n", roles=("viewer",), created_at=NOW, created_by="local"
)


def test_a_key_is_what_its_times_say() -> None:
    later, earlier = NOW + timedelta(hours=1), NOW - timedelta(hours=1)

    def state(**changes: datetime) -> str:
        return msgspec.structs.replace(KEY, **changes).state(NOW)

    assert state() == "active"
    assert state(expires_at=later) == "active"
    assert state(expires_at=NOW) == "expired"
    assert state(previous_until=later) == "rotating"
    assert state(previous_until=earlier) == "active"
    assert state(revoked_at=earlier, expires_at=later, previous_until=later) == "revoked"


def test_its_hash_is_not_shown() -> None:
    assert "hash" not in repr(KEY)
