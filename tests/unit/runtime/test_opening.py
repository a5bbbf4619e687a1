"""The configured database."""

from __future__ import annotations

from pathlib import Path

from tests.support.house import settings_in
from waygate_mcp.runtime.opening import open_database


def test_it_is_the_one_that_is_set_or_sqlite_in_the_data_folder(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    assert open_database(settings).path == settings.data_dir / "waygate.db"
    settings = settings_in(tmp_path, db_url="postgresql://me:hunter2@db/waygate")
    database = open_database(settings)
    assert not database.is_sqlite
    assert "hunter2" not in repr(database)
