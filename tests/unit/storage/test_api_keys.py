"""On SQLite alone, and quickly; `tests/integration/storage` has the contract, on both databases."""

from __future__ import annotations

from pathlib import Path

from tests.support.keys import START, stored
from waygate_mcp.storage.api_keys import ApiKeys
from waygate_mcp.storage.engine import Database, database_url


async def test_a_key_outlives_the_process_that_made_it(tmp_path: Path) -> None:
    url = database_url(None, tmp_path)
    async with Database(url) as database:
        kept = await ApiKeys(database).add(stored())
    async with Database(url) as database:
        assert await ApiKeys(database).changed_since(0) == [kept]
        await ApiKeys(database).note_use({kept.id: START})
        assert await ApiKeys(database).revoke(kept.id, START) is not None
        assert await ApiKeys(database).rotate(kept.id, b"x", START, START) is None
        found = await ApiKeys(database).find(kept.id)
        assert found is not None
        assert (found.revoked_at, found.last_used_at) == (START, START)
