"""Secrets in the database, on both databases."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from waygate_mcp.errors import StorageError
from waygate_mcp.storage.engine import Database, database_url
from waygate_mcp.storage.envelope import Envelope
from waygate_mcp.storage.secrets import Fetched, SecretStore
from waygate_mcp.storage.tables import secrets

OLD, NEW = b"o" * 40, b"n" * 40


def store(database: Database, master: bytes = OLD, previous: bytes | None = None) -> SecretStore:
    return SecretStore(database, Envelope(master, previous), lambda: 1_800_000_000.0)


async def test_what_is_set_is_fetched_and_what_is_not_there_is_left_out(database: Database) -> None:
    kept = store(database)
    version = await kept.set("A", "text of a")
    assert await kept.fetch(["A", "B"]) == Fetched({"A": "text of a"}, {})
    [row] = await kept.stored()
    assert (row.name, row.version, row.is_current) == ("A", version, True)


async def test_no_version_comes_back_not_even_after_it_was_removed(database: Database) -> None:
    kept = store(database)
    first = await kept.set("A", "one")
    assert await kept.remove("A")
    assert not await kept.remove("A")
    second = await kept.set("A", "two")
    third = await kept.set("A", "three")
    assert first < second < third
    assert (await kept.fetch(["A"])).texts == {"A": "three"}


async def test_the_first_date_stays_where_a_text_is_replaced(database: Database) -> None:
    await store(database).set("A", "one")
    later = SecretStore(database, Envelope(OLD), lambda: 1_900_000_000.0)
    await later.set("A", "two")
    [row] = await later.stored()
    assert row.created_at_utc < row.updated_at_utc


async def test_a_row_put_in_anothers_place_is_a_problem_and_hinders_no_other(
    database: Database,
) -> None:
    kept = store(database)
    await kept.set("A", "text of a")
    await kept.set("B", "text of b")
    async with database.writing() as connection:
        [a] = (await connection.execute(sa.select(secrets).where(secrets.c.name == "A"))).all()
        await connection.execute(
            sa.update(secrets)
            .where(secrets.c.name == "B")
            .values(wrapped_key=a.wrapped_key, nonce=a.nonce, ciphertext=a.ciphertext)
        )
    fetched = await kept.fetch(["A", "B"])
    assert fetched.texts == {"A": "text of a"}
    assert "damaged" in fetched.problems["B"]


async def test_two_that_set_at_once_leave_one_of_the_two_texts(database: Database) -> None:
    kept = store(database)
    versions = await asyncio.gather(*(kept.set("A", f"text {n}") for n in range(4)))
    assert len(set(versions)) == 4
    [row] = await kept.stored()
    winner = versions.index(row.version)
    assert row.version == max(versions)
    assert (await kept.fetch(["A"])).texts == {"A": f"text {winner}"}


async def test_a_new_master_key_takes_over_while_both_are_known(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waygate_mcp.storage.secrets._BATCH", 3)
    old = store(database)
    texts = {f"S{n:02}": f"text {n}" for n in range(8)}
    for name, text in texts.items():
        await old.set(name, text)
    both = store(database, NEW, OLD)
    assert (await both.fetch(texts)).texts == texts
    await both.set("S03", "new under the new key")
    texts["S03"] = "new under the new key"
    assert [one.is_current for one in await both.stored()].count(True) == 1
    assert (await both.rewrap()).count == 7
    assert (await both.rewrap()).count == 0
    assert (await store(database, NEW).fetch(texts)).texts == texts
    assert set((await old.fetch(texts)).problems) == set(texts)


async def test_broken_off_it_goes_on_where_it_was(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waygate_mcp.storage.secrets._BATCH", 2)
    for n in range(6):
        await store(database).set(f"S{n}", f"text {n}")
    both = store(database, NEW, OLD)
    real, calls = both._envelope.rewrap, 0

    def failing(sealed: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise RuntimeError("killed here")
        return real(sealed)  # type: ignore[arg-type]  # what rewrap is given

    monkeypatch.setattr(both._envelope, "rewrap", failing)
    with pytest.raises(RuntimeError):
        await both.rewrap()
    assert [one.is_current for one in await both.stored()].count(True) == 2
    assert len((await both.fetch([f"S{n}" for n in range(6)])).texts) == 6
    monkeypatch.setattr(both._envelope, "rewrap", real)
    assert (await both.rewrap()).count == 4


async def test_what_cannot_be_wrapped_anew_is_named_and_hinders_no_other(
    database: Database,
) -> None:
    await store(database, b"x" * 40).set("LOST", "text")
    await store(database).set("A", "text of a")
    result = await store(database, NEW, OLD).rewrap()
    assert result.count == 1
    assert list(result.problems) == ["LOST"]


async def test_the_text_is_in_no_byte_of_the_file(tmp_path: Path) -> None:
    async with Database(database_url(None, tmp_path)) as database:
        await store(database).set("A", "canary-in-the-database")
        await store(database).set("A", "canary-in-the-database")
        data = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    data += b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"A" in data
    assert b"canary-in-the-database" not in data


async def test_a_database_that_is_closed_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="not open"):
        await store(Database(database_url(None, tmp_path))).fetch(["A"])
