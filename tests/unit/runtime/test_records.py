"""What a process tells of itself is in the database it used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.support.house import open_house, settings_in, write_document
from waygate_mcp.storage import tables
from waygate_mcp.storage.engine import Database, database_url


async def rows(folder: Path, table: sa.Table) -> list[Any]:
    async with Database(database_url(None, folder)) as database, database.reading() as connection:
        return list((await connection.execute(sa.select(table).order_by(table.c.id))).mappings())


async def test_start_reloads_and_stop_are_events(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, {})
    async with open_house(settings) as house:
        await house.reload("asked")
        write_document(tmp_path / "waygate.yaml", {"nonsense": 1})
        await house.reload("file changed")
    events = await rows(settings.data_dir, tables.system_events)
    told = [(one["kind"], one["severity"]) for one in events]
    assert told == [("start", "info"), ("reload", "info"), ("reload", "error"), ("stop", "info")]
    assert "nonsense" in events[2]["data"]["problems"][0]
    assert events[1]["data"]["generation"] == 2


async def test_figures_are_measured(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, {})
    async with open_house(settings) as house:
        house.metrics.observe_call("default", "tools/call", "x", "ok", 0.5)
        house.records.measure()
    found = {one["name"]: one["value"] for one in await rows(settings.data_dir, tables.metrics)}
    assert (found["mcp_calls_total"], found["mcp_calls_seconds_total"]) == (1, 0.5)
    assert (found["errors_total"], found["config_generation"]) == (0, 1)
