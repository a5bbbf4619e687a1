"""The background writer: batches, outages, bad records and a bounded end, on both databases."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.support.postgres import Cluster
from waygate_mcp.errors import StorageError
from waygate_mcp.runtime.tasks import TaskSupervisor
from waygate_mcp.storage import tables, writer
from waygate_mcp.storage.engine import Database, database_url
from waygate_mcp.storage.writer import BackgroundWriter

NOW = datetime(2026, 11, 28, tzinfo=UTC)


async def write_names(connection: AsyncConnection, records: Sequence[Any]) -> None:
    rows = [{"name": one, "value": 1, "changed_at_utc": NOW, "version": 1} for one in records]
    await connection.execute(sa.insert(tables.config), rows)


async def stored(database: Database) -> set[str]:
    async with database.reading() as connection:
        return set((await connection.execute(sa.select(tables.config.c.name))).scalars())


@asynccontextmanager
async def writing(
    database: Database, **options: Any
) -> AsyncIterator[tuple[BackgroundWriter, Counter[str]]]:
    dropped: Counter[str] = Counter()

    def drop(reason: str) -> None:
        dropped[reason] += 1

    options = {"gather_s": 0.01} | options
    async with (
        asyncio.timeout(60),
        TaskSupervisor() as supervisor,
        BackgroundWriter(database, supervisor, drop, **options) as opened,
    ):
        yield opened, dropped


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not fact():  # noqa: ASYNC110 - what is awaited tells nobody
            await asyncio.sleep(0.01)


async def test_many_records_are_written_in_few_transactions(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    transactions = 0
    original = Database.writing

    def count(self: Database) -> Any:
        nonlocal transactions
        transactions += 1
        return original(self)

    monkeypatch.setattr(Database, "writing", count)
    async with writing(database) as (records, dropped):
        for number in range(2500):
            assert records.add(write_names, f"n{number}")
        await records.flush()
        assert transactions == 3
        assert len(records) == 0
    assert len(await stored(database)) == 2500
    assert not dropped


async def test_what_is_queued_when_it_closes_is_written(database: Database) -> None:
    async with writing(database, gather_s=30) as (records, _):
        records.add(write_names, "late")
    assert await stored(database) == {"late"}


@pytest.mark.parametrize("bad", ["twice", None, object()], ids=["unique", "null", "no text"])
async def test_a_record_that_cannot_be_stored_harms_no_other(database: Database, bad: Any) -> None:
    async with writing(database) as (records, dropped):
        records.add(write_names, "twice")
        await records.flush()
        for number in range(40):
            records.add(write_names, bad if number == 17 else f"n{number}")
        await records.flush()
    assert await stored(database) == {"twice", *(f"n{n}" for n in range(40) if n != 17)}
    assert dropped == {"refused": 1}


async def test_while_the_database_is_away_records_wait_and_calls_do_not(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_away = True
    original = Database.writing

    def maybe(self: Database) -> Any:
        if is_away:
            raise StorageError("nobody there")
        return original(self)

    monkeypatch.setattr(Database, "writing", maybe)
    monkeypatch.setattr(writer, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(writer, "LONGEST_DELAY_S", 0.02)
    async with writing(database, capacity=10) as (records, dropped):
        records.add(write_names, "first")
        await until(lambda: records.outage is not None)
        for number in range(10):
            assert records.add(write_names, f"n{number}")
        assert records.is_full
        async with asyncio.timeout(0.5):
            await records.wait_for_room()
        assert not records.add(write_names, "too much")
        assert dropped == {"queue_full": 1}
        is_away = False
        await records.flush()
        assert records.outage is None
    assert await stored(database) == {"first", *(f"n{number}" for number in range(10))}


async def test_a_database_that_is_slower_than_calls_slows_them_and_loses_nothing(
    database: Database,
) -> None:
    async with writing(database, capacity=20, gather_s=0) as (records, dropped):
        for number in range(500):
            while records.is_full:
                await records.wait_for_room()
            assert records.add(write_names, f"n{number}")
    assert len(await stored(database)) == 500
    assert not dropped


async def test_an_end_without_a_database_is_bounded_and_says_what_was_lost(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: Database) -> Any:
        raise StorageError("nobody there")

    monkeypatch.setattr(Database, "writing", away)
    async with asyncio.timeout(10):
        async with writing(database, close_s=0.3) as (records, dropped):
            records.add(write_names, "a")
            records.add(write_names, "b")
    assert dropped == {"stopped": 2}


async def test_a_postgresql_that_is_killed_and_comes_back_loses_no_record(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LONGEST_DELAY_S", 0.3)
    async with (
        Database(database_url(cluster.make(), tmp_path)) as database,
        writing(database) as (records, dropped),
    ):
        for number in range(300):
            records.add(write_names, f"n{number}")
            if number == 100:
                await records.flush()
                await asyncio.to_thread(cluster.kill)
        await until(lambda: records.outage is not None)
        await asyncio.to_thread(cluster.start)
        await records.flush()
        assert len(await stored(database)) == 300
        assert not dropped
