"""The contract of pin stores over both databases, and what only a database can do wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.contracts.pin_store import PinStoreContract, decision, sighting
from waygate_mcp.errors import StorageError
from waygate_mcp.model.ports import PinStore
from waygate_mcp.storage.engine import Database, database_url
from waygate_mcp.storage.tables import tool_pins
from waygate_mcp.storage.tool_pins import ToolPins

NOW = 1_700_000_000.123456789


class TestToolPins(PinStoreContract):
    @pytest.fixture
    def store(self, database: Database) -> PinStore:
        return ToolPins(database, lambda: NOW)

    @pytest.fixture
    async def another(self, database: Database, tmp_path: Path) -> AsyncIterator[PinStore]:
        """Another process: it has connections of its own."""
        address = database.url.render_as_string(hide_password=False)
        async with Database(database_url(address, tmp_path)) as opened:
            yield ToolPins(opened, lambda: NOW)


async def test_more_pins_than_one_statement_may_ask_for(database: Database) -> None:
    store = ToolPins(database, lambda: NOW)
    many = [sighting(name=f"t{number}", trusted=True) for number in range(1_000)]
    assert len(await store.see(many)) == 1_000
    assert len(await store.see(many)) == 1_000
    pins = await store.load()
    assert [pin.state for pin in pins] == ["approved"] * 1_000
    assert list(await store.load(max(pin.version for pin in pins))) == []


@pytest.mark.parametrize(
    "damage",
    [
        {"definition": "{"},
        {"state": "trusted"},
        {"state": "approved", "seen_digest": "1" * 64},
        {"state": "approved", "seen_digest": None, "definition": None},
    ],
)
async def test_a_row_nobody_of_us_wrote_is_an_error(
    database: Database, damage: dict[str, str | None]
) -> None:
    store = ToolPins(database, lambda: NOW)
    await store.see([sighting()])
    async with database.writing() as connection:
        await connection.execute(sa.update(tool_pins).values(damage))
    with pytest.raises(StorageError, match="the pin of files tool"):
        await store.load()


async def test_a_decision_outlives_the_process(database: Database, tmp_path: Path) -> None:
    store = ToolPins(database, lambda: NOW)
    await store.see([sighting()])
    await store.approve([decision()], "admin")
    await database.close()
    async with Database(database.url) as again:
        (pin,) = await ToolPins(again, lambda: NOW).load()
    assert (pin.state, pin.approved_by) == ("approved", "admin")
