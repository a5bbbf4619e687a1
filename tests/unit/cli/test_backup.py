"""`waygate backup` and `waygate restore`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from waygate_mcp.cli.main import app

runner = CliRunner()


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a database, and no setting of this machine."""
    for name in ("WAYGATE_DB_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAYGATE_DATA_DIR", str(tmp_path / "data"))
    assert runner.invoke(app, ["db", "upgrade"]).exit_code == 0
    return tmp_path / "data"


def test_a_backup_is_made_checked_and_restored(data: Path, tmp_path: Path) -> None:
    (data / "names.json").write_text("{}")
    result = runner.invoke(app, ["backup"])
    assert result.exit_code == 0, result.output
    (file,) = tmp_path.glob("waygate-*.tar")
    assert "was written and checked" in result.stdout
    assert "secret.key" in result.stderr
    assert "is sound" in runner.invoke(app, ["backup", "--check", str(file)]).stdout
    (data / "names.json").unlink()
    (data / "waygate.db").write_bytes(b"broken")
    result = runner.invoke(app, ["restore", str(file), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [part["name"] for part in found["parts"]] == ["database.sqlite", "data/names.json"]
    assert (data / "names.json").read_text() == "{}"
    assert runner.invoke(app, ["db", "status"]).exit_code == 0


def test_a_backup_goes_where_it_is_told_and_never_over_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.tar"
    assert runner.invoke(app, ["backup", str(file)]).exit_code == 0
    before = file.read_bytes()
    result = runner.invoke(app, ["backup", str(file)])
    assert result.exit_code == 1
    assert "never overwrites" in result.stderr
    assert file.read_bytes() == before


def test_what_is_no_backup_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"nothing")
    for command in (["backup", "--check", "x.tar"], ["restore", "x.tar"], ["restore", "y.tar"]):
        result = runner.invoke(app, command)
        assert result.exit_code == 1
        assert "no sound backup" in result.stderr
