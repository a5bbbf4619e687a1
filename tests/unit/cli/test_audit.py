"""`waygate audit` on folders of its own: what it prints, and what its exit code says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.support.audit import MASTER, write_journal
from waygate_mcp.cli.main import app
from waygate_mcp.cli.output import ExitCode


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_bytes(MASTER)
    (tmp_path / "key").chmod(0o600)
    head = write_journal(tmp_path / "data" / "audit", 5)
    (tmp_path / "heads").write_text(f"{json.dumps(_plain(head))}\n\n", encoding="utf-8")
    return tmp_path


def _plain(head: object) -> dict[str, object]:
    return {name: getattr(head, name) for name in head.__struct_fields__}  # type: ignore[attr-defined]  # msgspec's own


def run(folder: Path, *words: str, key: bool = True) -> Result:
    environment = {"WAYGATE_DATA_DIR": str(folder / "data"), "WAYGATE_LOG_DIR": "none"}
    if key:
        environment["WAYGATE_SECRET_KEY_FILE"] = str(folder / "key")
    return CliRunner().invoke(app, ["audit", *words], env=environment)


def test_a_whole_journal_is_told_and_the_exit_code_is_0(folder: Path) -> None:
    result = run(folder, "verify")
    assert result.exit_code == 0
    assert "5 records in 1 chains: whole" in result.stdout
    assert "there is no database" in result.stderr


def test_a_changed_record_is_told_with_its_place_and_the_exit_code_is_1(folder: Path) -> None:
    (path,) = (folder / "data" / "audit").glob("*.jsonl")
    path.write_bytes(path.read_bytes().replace(b"tool2", b"fool2"))
    result = run(folder, "verify", "--heads", str(folder / "heads"))
    assert result.exit_code == ExitCode.NOT_WELL
    assert f"{path.name}:3" in result.stdout
    report = json.loads(run(folder, "verify", "--json").stdout)
    assert not report["whole"]
    assert [(one["what"], one["sequence"]) for one in report["findings"]] == [("changed", 3)]


def test_more_findings_than_are_shown_are_counted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waygate_mcp.audit.verify.MAX_FINDINGS", 2)
    (path,) = (folder / "data" / "audit").glob("*.jsonl")
    path.write_bytes(path.read_bytes().replace(b"tool", b"fool"))
    assert "and 3 more" in run(folder, "verify").stdout


def test_a_key_is_never_made_to_verify_with(folder: Path) -> None:
    result = run(folder, "verify", key=False)
    assert result.exit_code == ExitCode.WRONG_USE
    assert "--key-file" in result.stderr
    assert not (folder / "data" / "secret.key").exists()
    offline = run(folder, "verify", "data/audit", "--key-file", str(folder / "key"), key=False)
    assert offline.exit_code == 0


@pytest.mark.parametrize(
    "words",
    [("nowhere",), ("--heads", "nowhere"), ("--heads", "key")],
    ids=["folder", "no-heads", "no-heads-in-it"],
)
def test_what_is_not_there_is_told(folder: Path, words: tuple[str, ...]) -> None:
    result = run(folder, "verify", *words)
    assert result.exit_code == ExitCode.WRONG_USE
    assert words[-1] in result.stderr


def test_the_last_records_are_shown(folder: Path) -> None:
    shown = run(folder, "tail", "-n", "2").stdout.splitlines()
    assert [line.split()[-1] for line in shown] == ["tool3", "tool4"]
    assert run(folder, "tail", "--name", "tool1", "--json").stdout.count("\n") == 1
    assert run(folder, "tail", "--kind", "start").stdout == ""


def test_lines_are_exported_as_they_are(folder: Path) -> None:
    (path,) = (folder / "data" / "audit").glob("*.jsonl")
    assert run(folder, "export").stdout_bytes == path.read_bytes()
    assert run(folder, "export", "--format", "cef").stdout.count("CEF:0|") == 5


def test_a_database_that_is_none_is_told_and_not_trusted(folder: Path) -> None:
    (folder / "data" / "waygate.db").write_bytes(b"no database at all" * 100)
    result = run(folder, "heads")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no anchored heads from the database" in result.stderr
