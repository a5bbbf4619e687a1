"""`waygate serve`: what a person is told, and what is run. The server itself is in tests/integration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from waygate_mcp.auth.api_keys import KeyRecord
from waygate_mcp.auth.bootstrap import BootstrapKey, KeySource
from waygate_mcp.cli import serve as module
from waygate_mcp.cli.main import app
from waygate_mcp.cli.serve import announce
from waygate_mcp.config.document import Document
from waygate_mcp.errors import ConfigError
from waygate_mcp.model.principal import LOCAL
from waygate_mcp.web.server import Started

runner = CliRunner()
RECORD = KeyRecord(None, b"", LOCAL)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was run, instead of running it."""
    seen: list[tuple[Any, ...]] = []

    def run(kind: str) -> Any:
        def note(settings: Any, listener: Any, *, watch: bool, on_started: Any) -> None:
            seen.append((kind, settings, watch))

        return note

    monkeypatch.setattr(module, "bind", lambda settings: None)
    monkeypatch.setattr(module, "run_server", run("one"))
    monkeypatch.setattr(module, "serve_with_workers", run("many"))
    return seen


def started(
    document: dict[str, Any] | None = None,
    source: KeySource | None = "setting",
    shown_once: str | None = None,
    host: str = "127.0.0.1",
) -> Started:
    key = None if source is None else BootstrapKey(RECORD, source, shown_once)
    found = Document.model_validate(document or {"endpoints": {"default": {}}})
    return Started(host, 8000, found, None, key)


def test_one_process_serves_unless_more_are_asked_for(runs: list[tuple[Any, ...]]) -> None:
    assert runner.invoke(app, ["serve", "--port", "8123", "--host", "::1"]).exit_code == 0
    ((kind, settings, watch),) = runs
    assert (kind, watch) == ("one", False)
    assert (settings.port, settings.host, settings.workers) == (8123, "::1", 1)


def test_options_reach_the_settings(runs: list[tuple[Any, ...]]) -> None:
    arguments = ["serve", "-c", "my.yaml", "--workers", "3", "--reload", "--env", "development"]
    assert runner.invoke(app, arguments).exit_code == 0
    ((kind, settings, watch),) = runs
    assert (kind, watch, settings.workers) == ("many", True, 3)
    assert settings.config == Path("my.yaml")


def test_wrong_settings_end_with_2_and_are_named(runs: list[tuple[Any, ...]]) -> None:
    result = runner.invoke(app, ["serve", "--port", "70000"])
    assert result.exit_code == 2
    assert "WAYGATE_PORT" in result.stderr
    assert runs == []


def test_a_port_in_use_ends_with_2_and_the_mend(
    runs: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_use(_settings: object) -> None:
        raise ConfigError("port 8000 is in use; choose another: --port 8001", path="WAYGATE_PORT")

    monkeypatch.setattr(module, "bind", in_use)
    result = runner.invoke(app, ["serve"])
    assert result.exit_code == 2
    assert "--port 8001" in result.stderr


def test_the_help_is_honest_about_several_workers() -> None:
    text = " ".join(runner.invoke(app, ["serve", "--help"]).stdout.split())
    assert "any request" in text
    assert "kept by each" in text


def test_the_start_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    announce(started({"endpoints": {"default": {}, "dev": {}}}))
    out, err = capsys.readouterr()
    assert out == (
        "waygate: http://127.0.0.1:8000 · MCP at /mcp, /servers/dev/mcp · "
        "auth: keys (key from WAYGATE_API_KEY) · document: built in\n"
    )
    assert err == ""


def test_the_document_in_force_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    announce(replace(started(), document_path=Path("waygate.yaml")))
    assert "document: waygate.yaml" in capsys.readouterr().out


def test_what_of_the_clients_servers_has_no_effect_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    announce(started({"mcpServers": {"A b": {"command": "x"}}}))
    assert capsys.readouterr().err == "note: mcpServers.A b: is called a-b here\n"


def test_a_key_made_now_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    announce(started(source="made", shown_once="wg_the_key"))
    out, _ = capsys.readouterr()
    assert out.splitlines()[1] == "API key, shown once: wg_the_key"


def test_an_ipv6_address_stands_in_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    announce(started(host="::1"))
    assert "http://[::1]:8000 " in capsys.readouterr().out


def test_auth_switched_off_is_warned_about(capsys: pytest.CaptureFixture[str]) -> None:
    announce(started({"auth": {"mode": "none"}}, source=None))
    out, err = capsys.readouterr()
    assert "auth: none" in out
    assert err.startswith("warning: auth.mode is none")


@pytest.mark.parametrize(
    ("server", "is_warned"),
    [({}, True), ({"allowed_hosts": ["a.example"]}, False), ({"public_url": "https://a"}, False)],
)
def test_a_server_others_cannot_name_is_warned_about(
    capsys: pytest.CaptureFixture[str], server: dict[str, Any], is_warned: bool
) -> None:
    announce(started({"server": server}, host="0.0.0.0"))
    assert ("WAYGATE_ALLOWED_HOSTS" in capsys.readouterr().err) is is_warned
