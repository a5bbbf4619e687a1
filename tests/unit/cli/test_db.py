"""`waygate db`: the state of the database, and bringing it up to date."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from waygate_mcp.cli.main import app
from waygate_mcp.storage import engine
from waygate_mcp.storage.upgrade import HEAD

runner = CliRunner()


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of this test, and no setting of this machine."""
    for name in ("WAYGATE_DB_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAYGATE_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def test_where_there_is_none_it_says_how_to_get_one_and_makes_nothing(data: Path) -> None:
    result = runner.invoke(app, ["db", "status"])
    assert result.exit_code == 1
    assert "waygate db upgrade" in result.stderr
    result = runner.invoke(app, ["db", "status", "--json"])
    assert (result.exit_code, json.loads(result.stdout)["is_current"]) == (1, False)
    assert not data.exists()


def test_upgrade_makes_the_tables_once_and_status_shows_them(data: Path) -> None:
    assert "brought up to date" in runner.invoke(app, ["db", "upgrade"]).stdout
    assert "nothing to do" in runner.invoke(app, ["db", "upgrade"]).stdout
    result = runner.invoke(app, ["db", "status", "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert (found["database"], found["kind"]) == (str(data / "waygate.db"), "sqlite")
    assert (found["revision"], found["is_current"]) == (HEAD, True)
    assert found["rows"]["counters"] == 1
    assert found["size_bytes"] > 4096
    result = runner.invoke(app, ["db", "status"])
    assert f"revision: {HEAD}" in result.stdout
    assert "command_history" in result.stdout


def test_an_older_database_is_not_well(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner.invoke(app, ["db", "upgrade"])
    monkeypatch.setattr(engine, "HEAD", "0099")
    result = runner.invoke(app, ["db", "status"])
    assert result.exit_code == 1
    assert "not up to date" in result.stderr
    assert "command_history" not in result.stdout


def test_an_address_that_is_none_is_wrong_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYGATE_DB_URL", "mysql://root:hunter2@db/x")
    result = runner.invoke(app, ["db", "status"])
    assert result.exit_code == 2
    assert "hunter2" not in result.output
