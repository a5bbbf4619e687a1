"""A backup is whole, sound, without the master key, and comes back; on both databases."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import tarfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from waygate_mcp.errors import StorageError
from waygate_mcp.storage import backup, tables
from waygate_mcp.storage.backup import back_up, check_backup, restore
from waygate_mcp.storage.engine import Database, database_url

NOW = datetime(2026, 11, 28, 1, 2, 3, tzinfo=UTC)
MASTER = "the-master-key-of-this-test-0123456789"


async def put(database: Database, *names: str) -> None:
    async with database.writing() as connection:
        rows = [{"name": one, "value": 1, "changed_at_utc": NOW, "version": 1} for one in names]
        await connection.execute(sa.insert(tables.config), rows)


async def names(database: Database) -> set[str]:
    async with database.reading() as connection:
        return set((await connection.execute(sa.select(tables.config.c.name))).scalars())


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder with what one has."""
    folder = tmp_path / "data"
    (folder / "run").mkdir(parents=True)
    (folder / "audit").mkdir()
    (folder / "names.json").write_text('{"names": 1}')
    (folder / "audit" / "one.log").write_bytes(b"a line\n")
    (folder / "secret.key").write_text(MASTER)
    (folder / "run" / "socket.json").write_text("{}")
    return folder


@pytest.fixture
async def database(address: str, tmp_path: Path) -> AsyncIterator[Database]:
    """An open database of each kind with two rows; the one of SQLite has an address of its own."""
    async with Database(database_url(address, tmp_path)) as opened:
        await put(opened, "one", "two")
        yield opened


async def make(database: Database, data_dir: Path, target: Path) -> backup.Manifest:
    return await back_up(database, data_dir, target, now=NOW, version="9.9")


async def test_what_was_backed_up_while_others_wrote_comes_back_as_it_was(
    database: Database, address: str, data_dir: Path, tmp_path: Path
) -> None:
    target = tmp_path / "backup.tar"

    async def write() -> None:
        for number in range(50):
            await put(database, f"later-{number}")

    made, _ = await asyncio.gather(make(database, data_dir, target), write())
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [part.name for part in made.parts][1:] == ["data/names.json", "data/audit/one.log"]
    assert (made.revision, made.version) == (await database.revision(), "9.9")
    assert check_backup(target) == made
    assert not list(tmp_path.glob(".backup-*"))
    assert MASTER.encode() not in target.read_bytes()
    await put(database, "after")
    await database.close()
    (data_dir / "names.json").write_text("damaged")
    assert (
        await restore(Database(database_url(address, tmp_path)), data_dir, target, now=NOW) == made
    )
    async with Database(database_url(address, tmp_path)) as again:
        found = await names(again)
        assert {"one", "two"} <= found
        assert "after" not in found
        numbers = sorted(int(one.removeprefix("later-")) for one in found if "later" in one)
        assert numbers == list(range(len(numbers))), "one state of the database"
        await put(again, "new")
    assert (data_dir / "names.json").read_text() == '{"names": 1}'
    assert (data_dir / "secret.key").read_text() == MASTER
    if again.path is not None:
        (kept,) = tmp_path.glob("waygate.db.before-20261128T010203Z")
        async with Database(database_url(f"sqlite:///{kept}", tmp_path)) as old:
            assert "after" in await names(old)


async def test_nothing_is_restored_over_a_database_in_use(
    database: Database, address: str, data_dir: Path, tmp_path: Path
) -> None:
    target = tmp_path / "backup.tar"
    await make(database, data_dir, target)
    await put(database, "after")
    with pytest.raises(StorageError, match=r"use.* the database"):
        await restore(Database(database_url(address, tmp_path)), data_dir, target, now=NOW)
    assert "after" in await names(database)


async def test_a_backup_never_overwrites(
    database: Database, data_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(StorageError, match="never overwrites"):
        await make(database, data_dir, tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


async def test_every_damage_is_found_and_changes_nothing(
    database: Database, address: str, data_dir: Path, tmp_path: Path
) -> None:
    target = tmp_path / "backup.tar"
    made = await make(database, data_dir, target)
    whole = target.read_bytes()
    await put(database, "after")
    await database.close()
    with tarfile.open(target) as archive:
        middles = [archive.getmember(p.name).offset_data + p.size_bytes // 2 for p in made.parts]
    damaged = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in middles]
    damaged += [whole[: len(whole) // 2], b"", b"no archive" * 100]
    for content in damaged:
        target.write_bytes(content)
        with pytest.raises(StorageError):
            check_backup(target)
        with pytest.raises(StorageError):
            await restore(Database(database_url(address, tmp_path)), data_dir, target, now=NOW)
    async with Database(database_url(address, tmp_path)) as again:
        assert await names(again) == {"one", "two", "after"}
    assert not list(tmp_path.glob("**/.restore-*"))


@pytest.mark.parametrize(
    "name", ["../evil", "data/../../evil", "/evil", "data/secret.key", "data", "evil"]
)
async def test_a_backup_that_names_files_of_others_is_refused(
    database: Database, data_dir: Path, tmp_path: Path, name: str
) -> None:
    target, evil = tmp_path / "backup.tar", tmp_path / "evil.tar"
    made = await make(database, data_dir, target)
    part = backup.Part(name, 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    bad = msgspec.structs.replace(made, parts=[*made.parts, part])
    with tarfile.open(target) as old, tarfile.open(evil, "w") as new:
        for member in old.getmembers():
            if member.name != backup.MANIFEST:
                new.addfile(member, old.extractfile(member))
        new.addfile(tarfile.TarInfo(name))
        (tmp_path / "m").write_bytes(msgspec.json.encode(bad))
        new.add(tmp_path / "m", backup.MANIFEST)
    with pytest.raises(StorageError, match="none of ours"):
        check_backup(evil)


async def test_a_backup_of_another_database_or_a_newer_version_is_refused(
    database: Database, address: str, data_dir: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    target = tmp_path / "backup.tar"
    await make(database, data_dir, target)
    await database.close()
    monkeypatch.setattr(backup, "HEAD", "0000")
    with pytest.raises(StorageError, match="newer version"):
        await restore(Database(database_url(address, tmp_path)), data_dir, target, now=NOW)
    if not database.is_sqlite:
        other = Database(database_url(f"sqlite:///{tmp_path / 'other.db'}", tmp_path))
        with pytest.raises(StorageError, match="is of postgresql"):
            await restore(other, data_dir, target, now=NOW)


async def test_no_password_is_among_the_arguments_of_a_tool(monkeypatch: Any) -> None:
    seen: list[Any] = []

    def run(command: list[str], **more: Any) -> Any:
        seen.append((command, more["env"]))
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", run)
    url = database_url("postgresql://me:hunter2@db.example:5433/waygate?ssl=require", Path())
    with pytest.raises(StorageError, match="postgresql-client"):
        backup._run_tool(["pg_dump"], url)
    ((command, environment),) = seen
    assert command == ["pg_dump"]
    expected = {
        "PGHOST": "db.example", "PGPORT": "5433", "PGUSER": "me", "PGPASSWORD": "hunter2",
        "PGDATABASE": "waygate", "PGSSLMODE": "require",
    }  # fmt: skip
    assert environment.items() >= expected.items()
