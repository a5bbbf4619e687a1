from __future__ import annotations

import stat
from pathlib import Path

import pytest

from waygate_mcp.errors import ConfigError, StorageError
from waygate_mcp.storage.engine import FILE_NAME, Database, database_url


def test_without_an_address_it_is_sqlite_in_the_data_folder(tmp_path: Path) -> None:
    url = database_url(None, tmp_path)
    assert (url.drivername, url.database) == ("sqlite+aiosqlite", str(tmp_path / FILE_NAME))


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("postgres://u:p@h/n", "postgresql+asyncpg"),
        ("postgresql://u:p@h/n", "postgresql+asyncpg"),
        ("postgresql+asyncpg://u:p@h/n", "postgresql+asyncpg"),
        ("sqlite:////var/lib/w.db", "sqlite+aiosqlite"),
    ],
)
def test_the_usual_forms_of_an_address_are_understood(
    given: str, driver: str, tmp_path: Path
) -> None:
    assert database_url(given, tmp_path).drivername == driver


@pytest.mark.parametrize("given", ["mysql://u:hunter2@h/n", "sqlite://", "hunter2 at home"])
def test_any_other_is_refused_without_being_repeated(given: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        database_url(given, tmp_path)
    assert caught.value.problems[0].path == "WAYGATE_DB_URL"
    assert "hunter2" not in str(caught.value)


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    database = Database(database_url("postgres://u:hunter2@h/n", tmp_path))
    assert "hunter2" not in repr(database)
    assert database.path is None


async def test_its_file_is_for_its_owner_alone_and_so_are_its_companions(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with Database(database_url(None, folder)) as database:
        assert database.path == folder / FILE_NAME
        async with database.reading():
            modes = {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert modes == {0o600}


async def test_one_that_is_not_open_says_so(tmp_path: Path) -> None:
    database = Database(database_url(None, tmp_path))
    with pytest.raises(StorageError, match="not open"):
        async with database.reading():
            pass


async def test_a_file_that_is_no_database_is_told_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(b"this is a letter to my aunt, not a database" * 100)
    with pytest.raises(StorageError, match="not a database"):
        async with Database(database_url(None, tmp_path)):
            pass
    assert path.read_bytes().startswith(b"this is a letter")


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot open the database"):
        async with Database(database_url(None, tmp_path / "file")):
            pass
