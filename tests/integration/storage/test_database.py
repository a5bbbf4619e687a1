"""What every repository builds on, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import StatementError

from tests.support.postgres import Cluster
from waygate_mcp.errors import StorageError
from waygate_mcp.storage import tables
from waygate_mcp.storage.engine import Database, database_url, next_version
from waygate_mcp.storage.upgrade import HEAD

NOW = datetime(2026, 11, 28, tzinfo=UTC)
WRITER = """
import asyncio, sys
from pathlib import Path
from waygate_mcp.storage.engine import Database, database_url, next_version
from waygate_mcp.storage.tables import config
from datetime import UTC, datetime
import sqlalchemy as sa

async def main(url, name):
    async with Database(database_url(url, Path("."))) as database:
        for number in range(40):
            async with database.writing() as connection:
                version = await next_version(connection)
                await connection.execute(sa.insert(config).values(
                    name=f"{name}-{number}", value=number,
                    changed_at_utc=datetime.now(UTC), version=version))

asyncio.run(main(*sys.argv[1:]))
"""


def row(name: str, version: int, value: object = 1) -> dict[str, object]:
    return {"name": name, "value": value, "changed_at_utc": NOW, "version": version}


async def names(database: Database) -> set[str]:
    async with database.reading() as connection:
        return set((await connection.execute(sa.select(tables.config.c.name))).scalars())


async def test_the_tables_are_those_the_program_knows_and_the_views_can_be_read(
    database: Database,
) -> None:
    def compare(connection: sa.Connection) -> list[object]:
        from alembic.autogenerate import compare_metadata
        from alembic.migration import MigrationContext

        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, tables.metadata))

    assert await database.revision() == HEAD
    async with database.reading() as connection:
        assert await connection.run_sync(compare) == []
        for view in ("v_active_api_keys", "v_plugin_performance"):
            assert (await connection.execute(sa.text(f"SELECT * FROM {view}"))).all() == []


async def test_what_was_written_is_there_after_it_was_opened_anew(
    database: Database, address: str, tmp_path: Path
) -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    moment = datetime(2026, 11, 28, 1, 2, 3, 456789, east)
    async with database.writing() as connection:
        version = await next_version(connection)
        values = row("one", version, {"deep": [1, None, "é"]}) | {"changed_at_utc": moment}
        await connection.execute(sa.insert(tables.config).values(values))
    await database.close()
    async with (
        Database(database_url(address, tmp_path)) as again,
        again.reading() as connection,
    ):
        found = (await connection.execute(sa.select(tables.config))).one()
    assert (found.value, found.version) == ({"deep": [1, None, "é"]}, version)
    assert found.changed_at_utc == moment
    assert found.changed_at_utc.tzinfo is UTC


async def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    values = row("one", 1) | {"changed_at_utc": NOW.replace(tzinfo=None)}
    async with database.reading() as connection:
        with pytest.raises(StatementError, match="time without a time zone"):
            await connection.execute(sa.insert(tables.config).values(values))


async def test_what_is_left_by_an_error_was_never_written(database: Database) -> None:
    async def write_and_fail() -> None:
        async with database.writing() as connection:
            await connection.execute(sa.insert(tables.config).values(row("gone", 1)))
            raise LookupError

    with pytest.raises(LookupError):
        await write_and_fail()
    assert await names(database) == set()


async def test_an_error_says_neither_statement_nor_value(database: Database) -> None:
    async with database.writing() as connection:
        await connection.execute(sa.insert(tables.config).values(row("one", 1)))

    async def write_again() -> None:
        async with database.writing() as connection:
            values = row("one", 1, "my secret value")
            await connection.execute(sa.insert(tables.config).values(values))

    with pytest.raises(StorageError) as caught:
        await write_again()
    for text in (str(caught.value), caught.value.safe_message):
        assert "my secret value" not in text
        assert "INSERT" not in text


async def test_versions_grow_by_one_and_are_seen_in_order(database: Database) -> None:
    async def change(number: int) -> None:
        async with database.writing() as connection:
            version = await next_version(connection)
            await asyncio.sleep(0)
            await connection.execute(sa.insert(tables.config).values(row(f"n{number}", version)))

    await asyncio.gather(*(change(number) for number in range(20)))
    async with database.reading() as connection:
        found = (await connection.execute(sa.select(tables.config.c.version))).scalars()
        assert sorted(found) == list(range(1, 21))


async def test_two_processes_that_write_at_once_lose_nothing(
    database: Database, address: str
) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, address, name, stderr=subprocess.PIPE
        )
        for name in ("a", "b")
    ]
    for process in processes:
        async with asyncio.timeout(60):
            _, said = await process.communicate()
        assert process.returncode == 0, said.decode()
    assert await names(database) == {f"{name}-{number}" for name in "ab" for number in range(40)}


async def test_several_that_open_an_empty_database_at_once_make_its_tables_once(
    address: str, tmp_path: Path
) -> None:
    async def open_one() -> str | None:
        async with Database(database_url(address, tmp_path)) as database:
            return await database.revision()

    assert await asyncio.gather(*(open_one() for _ in range(4))) == [HEAD] * 4


async def test_tables_of_a_newer_version_are_left_alone(
    database: Database, address: str, tmp_path: Path
) -> None:
    async with database.writing() as connection:
        await connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageError, match="written by a newer one"):
        async with Database(database_url(address, tmp_path)):
            pass
    assert await database.revision() == "9999"


async def test_a_postgresql_that_dies_is_told_and_served_again_once_it_is_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with Database(database_url(cluster.make(), tmp_path)) as database:
        async with database.writing() as connection:
            await connection.execute(sa.insert(tables.config).values(row("kept", 1)))
        await asyncio.to_thread(cluster.kill)
        async with asyncio.timeout(20):
            with pytest.raises(StorageError):
                await names(database)
        await asyncio.to_thread(cluster.start)
        assert await names(database) == {"kept"}


async def test_an_address_nobody_answers_at_is_told_in_time(tmp_path: Path) -> None:
    url = "postgresql+asyncpg://somebody:hunter2secret@127.0.0.1:1/nothing"
    async with asyncio.timeout(20):
        with pytest.raises(StorageError) as caught:
            async with Database(database_url(url, tmp_path)):
                pass
    assert "hunter2secret" not in str(caught.value)
