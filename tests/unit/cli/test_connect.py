"""`waygate connect`: printed, or put into a client's file."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from waygate_mcp.cli.clients import CLIENTS
from waygate_mcp.cli.connect import _complete
from waygate_mcp.cli.main import app

runner = CliRunner()


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


def run(*words: str) -> Result:
    return runner.invoke(app, ["connect", *words])


def test_without_a_client_all_are_listed() -> None:
    result = run("--json")
    assert result.exit_code == 0
    assert [row["client"] for row in json.loads(result.stdout)] == list(CLIENTS)
    assert "cursor" in run().stdout


def test_standard_output_is_the_snippet_and_nothing_else() -> None:
    result = run("cursor")
    assert json.loads(result.stdout)["mcpServers"]["waygate"] == {
        "url": "http://127.0.0.1:8000/mcp",
        "headers": {"Authorization": "Bearer ${env:WAYGATE_API_KEY}"},
    }
    assert ".cursor/mcp.json" in result.stderr


@pytest.mark.parametrize(
    ("words", "url"),
    [
        (["--url", "https://a.example/mcp"], "https://a.example/mcp"),
        (["--url", "https://a.example"], "https://a.example/mcp"),
        (["--endpoint", "dev"], "http://127.0.0.1:8000/servers/dev/mcp"),
        (["--url", "https://a.example/", "--endpoint", "dev"], "https://a.example/servers/dev/mcp"),
    ],
)
def test_the_url_is_the_endpoints(words: list[str], url: str) -> None:
    assert json.loads(run("cursor", *words).stdout)["mcpServers"]["waygate"]["url"] == url


def test_a_gateway_that_asks_nobody_needs_no_key() -> None:
    Path("waygate.yaml").write_text("auth: {mode: none}")
    assert "headers" not in json.loads(run("cursor").stdout)["mcpServers"]["waygate"]
    remote = run("cursor", "--url", "https://a.example/mcp").stdout
    assert "headers" in json.loads(remote)["mcpServers"]["waygate"]


def test_the_command_names_its_document_by_an_absolute_path(tmp_path: Path) -> None:
    Path("my.yaml").write_text("version: 1")
    entry = json.loads(run("cursor", "--stdio", "-c", "my.yaml", "--endpoint", "dev").stdout)
    arguments = entry["mcpServers"]["waygate"]["args"]
    assert arguments == ["stdio", "--config", str(tmp_path / "my.yaml"), "--endpoint", "dev"]


def test_a_key_is_shown_only_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYGATE_API_KEY", "wg_secret")
    plain = run("cursor")
    assert "wg_secret" not in plain.stdout + plain.stderr
    assert "Bearer wg_secret" in run("cursor", "--with-key").stdout


def test_a_key_that_is_not_there_cannot_be_shown() -> None:
    result = run("cursor", "--with-key")
    assert result.exit_code == 2
    assert "--key-file" in result.stderr


def test_a_file_is_written_once_with_a_backup(tmp_path: Path) -> None:
    path = tmp_path / ".codex" / "config.toml"
    path.parent.mkdir()
    path.write_text('model = "x"\n')
    first = run("codex", "--write")
    assert first.exit_code == 0
    assert "backup-1" in first.stdout
    written = path.read_text()
    assert tomllib.loads(written)["mcp_servers"]["waygate"]["url"] == "http://127.0.0.1:8000/mcp"
    again = run("codex", "--write")
    assert "there already" in again.stdout
    assert path.read_text() == written
    assert len(list(path.parent.iterdir())) == 2


def test_another_name_and_another_file() -> None:
    assert run("cursor", "--write", "--name", "mine", "--file", "other.json").exit_code == 0
    assert list(json.loads(Path("other.json").read_text())["mcpServers"]) == ["mine"]


def test_a_file_that_cannot_be_read_is_left_alone() -> None:
    Path("other.json").write_text("{ // a comment\n}")
    result = run("cursor", "--write", "--file", "other.json")
    assert result.exit_code == 2
    assert "by hand" in result.stderr
    assert Path("other.json").read_text() == "{ // a comment\n}"
    Path("bytes.json").write_bytes(b"\xff")
    assert run("cursor", "--write", "--file", "bytes.json").exit_code == 2


def test_json_for_programs() -> None:
    value: dict[str, Any] = json.loads(run("codex", "--json").stdout)
    assert value["transport"] == "http"
    assert value["file"].endswith(".codex/config.toml")
    assert "waygate" in value["content"]["mcp_servers"]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["crusor"], "did you mean 'cursor'"),
        (["zzzzzzzzzz"], "known:"),
        (["cursor", "--http", "--stdio"], "exclude"),
        (["claude-desktop", "--http"], "--stdio"),
        (["jetbrains", "--write"], "no file"),
        (["cursor", "--url", "ftp://a"], "http"),
    ],
)
def test_wrong_use_is_named(words: list[str], hint: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert hint in result.stderr


def test_the_word_of_a_client_is_completed() -> None:
    assert _complete("cl") == ["claude-desktop", "claude-code"]
