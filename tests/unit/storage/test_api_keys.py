"""On SQLite alone, and quickly; `tests/integration/storage` has the contract, on both databases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.keys import START, stored
from waygate_mcp.storage import tables
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


@pytest.mark.parametrize(
    ("column", "value"), [("narrowing", {"names": 7}), ("roles", "admin"), ("limits", None)]
)
async def test_a_row_that_cannot_be_read_is_a_key_that_is_refused_and_stops_nobody(
    column: str, value: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Database(database_url(None, tmp_path)) as database:
        keys = ApiKeys(database)
        bad = await keys.add(stored("a" * 12))
        good = await keys.add(stored("b" * 12))
        async with database.writing() as connection:
            await connection.execute(
                sa.update(tables.api_keys)
                .where(tables.api_keys.c.id == bad.id)
                .values({column: sa.cast(sa.literal(json.dumps(value)), sa.Text)})
            )
        found = {key.id: key for key in await keys.changed_since(0)}
        assert found[good.id] == good
        assert found[bad.id].state(START) == "revoked"
        assert "cannot be read" in caplog.text
