"""From every revision there ever was to the newest one, with a row in every table, on both databases."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from waygate_mcp.storage import tables
from waygate_mcp.storage.engine import Database, database_url
from waygate_mcp.storage.upgrade import FOLDER, HEAD, _walk

MOMENT = datetime.datetime(2026, 11, 28, 1, 2, 3, tzinfo=datetime.UTC)


def revisions() -> list[str]:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    return [one.revision for one in ScriptDirectory.from_config(config).walk_revisions()][::-1]


def fill(connection: sa.Connection) -> dict[str, Any]:
    """Put a row into each table that has none, whatever its columns are; gives all rows."""
    found = sa.MetaData()
    found.reflect(connection)
    for table in found.sorted_tables:
        if not connection.execute(sa.select(table)).first():
            row = {column.name: _value(column) for column in table.columns}
            connection.execute(sa.insert(table).values(row))
    return rows(connection)


def _value(column: sa.Column[Any]) -> Any:
    if isinstance(column.type, sa.JSON):
        return {"a": [1, "é"]}
    kind = column.type.python_type
    if kind is datetime.datetime:
        return MOMENT if column.type.timezone else MOMENT.replace(tzinfo=None)  # type: ignore[attr-defined]
    values: dict[type, Any] = {
        str: "text é", bytes: b"\0bytes", int: 7, float: 2.5, decimal.Decimal: decimal.Decimal(2),
    }  # fmt: skip
    return values[kind]


def rows(connection: sa.Connection) -> dict[str, Any]:
    found = sa.MetaData()
    found.reflect(connection)
    return {
        table.name: [dict(row) for row in connection.execute(sa.select(table)).mappings()]
        for table in found.sorted_tables
        if table.name != "alembic_version"
    }


@pytest.mark.parametrize("revision", revisions())
async def test_rows_of_every_earlier_revision_are_there_after_the_upgrade(
    address: str, tmp_path: Path, revision: str
) -> None:
    async with Database(database_url(address, tmp_path / "unused")) as made:
        pass
    database = Database(made.url)
    await database.open(upgrade_tables=False)
    try:
        async with database.writing() as connection:
            await connection.run_sync(_empty)
            await connection.run_sync(_walk, None, revision)
        assert await database.revision() == revision
        async with database.writing() as connection:
            before = await connection.run_sync(fill)
        assert await database.upgrade() is (revision != HEAD)
        async with database.reading() as connection:
            after = await connection.run_sync(rows)
            assert await connection.run_sync(_differences) == []
        assert set(before) >= set(tables.metadata.tables) if revision == HEAD else before
        for table, old in before.items():
            (new,) = after[table]
            assert {name: new[name] for name in old[0]} == old[0], table
    finally:
        await database.close()


def _empty(connection: sa.Connection) -> None:
    for view in tables.VIEWS:
        connection.execute(sa.text(f"DROP VIEW {view}"))
    found = sa.MetaData()
    found.reflect(connection)
    found.drop_all(connection)


def _differences(connection: sa.Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, tables.metadata))


def test_the_newest_revision_is_the_one_the_program_wants() -> None:
    assert revisions()[-1] == HEAD
