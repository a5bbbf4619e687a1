"""`waygate init`: everything a first start needs, and nothing overwritten."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from waygate_mcp.cli.init import DOCUMENT
from waygate_mcp.cli.main import app
from waygate_mcp.config.load import HELLO, load_document, parse_document
from waygate_mcp.config.settings import read_settings

runner = CliRunner()


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_a_document_a_data_folder_and_a_key_are_made(tmp_path: Path) -> None:
    result = runner.invoke(app, ["init"])
    assert result.exit_code == 0
    data = tmp_path / "home" / ".waygate" / "data"
    assert Path("waygate.yaml").read_text() == DOCUMENT
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert stat.S_IMODE((data / "secret.key").stat().st_mode) == 0o600
    assert (data / "secret.key").read_text().strip() not in result.output
    assert result.stdout.count("created") == 3
    assert "next: waygate serve -c waygate.yaml" in result.stdout


def test_what_is_there_is_never_overwritten_and_said_to_be_kept(tmp_path: Path) -> None:
    Path("waygate.yaml").write_text("version: 1\n")
    runner.invoke(app, ["init"])
    key = (tmp_path / "home" / ".waygate" / "data" / "secret.key").read_bytes()
    result = runner.invoke(app, ["init"])
    assert result.exit_code == 0
    assert Path("waygate.yaml").read_text() == "version: 1\n"
    assert (tmp_path / "home" / ".waygate" / "data" / "secret.key").read_bytes() == key
    assert result.stdout.count("kept") == 3


def test_the_document_can_go_into_another_folder(tmp_path: Path) -> None:
    result = runner.invoke(app, ["init", "--dir", str(tmp_path / "new" / "deep")])
    assert result.exit_code == 0
    assert (tmp_path / "new" / "deep" / "waygate.yaml").exists()
    assert not Path("waygate.yaml").exists()


def test_the_settings_say_where_things_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYGATE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("WAYGATE_CONFIG", str(tmp_path / "other.yaml"))
    result = runner.invoke(app, ["init", "--json"])
    assert json.loads(result.stdout) == [
        {"what": "document", "path": str(tmp_path / "other.yaml"), "result": "created"},
        {"what": "data folder", "path": str(tmp_path / "data"), "result": "created"},
        {"what": "secret key", "path": str(tmp_path / "data" / "secret.key"), "result": "created"},
    ]


def test_a_key_from_outside_is_checked_and_none_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYGATE_SECRET_KEY", "k" * 32)
    result = runner.invoke(app, ["init"])
    assert "secret key: given from outside" in result.stdout
    assert not (tmp_path / "home" / ".waygate" / "data" / "secret.key").exists()
    monkeypatch.setenv("WAYGATE_SECRET_KEY", "short")
    assert runner.invoke(app, ["init"]).exit_code == 2


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = runner.invoke(app, ["init", "--dir", str(tmp_path / "file")])
    assert result.exit_code == 2
    assert "cannot write the document" in result.stderr


def test_a_link_in_the_documents_place_is_not_written_through(tmp_path: Path) -> None:
    target = tmp_path / "target"
    Path("waygate.yaml").symlink_to(target)
    result = runner.invoke(app, ["init"])
    assert "document: kept" in result.stdout
    assert not target.exists()


def test_the_first_document_is_valid_and_serves_hello() -> None:
    settings = read_settings(env_file=None)
    document = parse_document(DOCUMENT.encode(), settings)
    assert document.plugins["hello"].use == HELLO
    assert document.bound_providers("default") == ("hello",)


def test_the_first_document_stays_valid_with_its_examples_switched_on(tmp_path: Path) -> None:
    lines = DOCUMENT.splitlines()
    switched = [
        line.replace("# ", "", 1) if line.startswith("  #") and _is_example(line) else line
        for line in lines
    ]
    assert switched != lines
    path = tmp_path / "all.yaml"
    path.write_text("\n".join(switched))
    document = load_document(path, read_settings(env_file=None))
    assert list(document.endpoints) == ["default", "weather-only"]
    assert document.server.public_url == "https://mcp.example.org"


def _is_example(line: str) -> bool:
    # Examples are keys; sentences begin with a capital letter or a slash.
    return (
        line.strip("# ").split(":")[0].replace("_", "").replace("-", "").isalpha()
        and (": " in line or line.endswith(":"))
        and not line.strip("# ")[0].isupper()
    )
