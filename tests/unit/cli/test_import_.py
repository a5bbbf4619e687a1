"""`waygate import`: what is shown and what is written. What is decided is tested in importers/test_plan.py."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from waygate_mcp.cli.clients import CLIENTS
from waygate_mcp.cli.import_ import _clients, _files_of
from waygate_mcp.cli.init import DOCUMENT
from waygate_mcp.cli.main import app
from waygate_mcp.config.load import load_document
from waygate_mcp.config.settings import Settings

FILE = Path("waygate.yaml")
TOKEN = "ghp_abcdefghijklmnopqrstuvwx"
THEIRS = {
    "mcpServers": {
        "My Shell": {"command": "sh", "args": ["-c", "x"], "env": {"TOKEN": TOKEN}, "timeout": 5},
        "remote": {"url": "https://example.org/mcp"},
        "needy": {"command": "no-such-program"},
        "odd": {"type": "ws"},
    },
    "theme": "dark",
}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("WAYGATE_DATA_DIR", str(tmp_path / "data"))
    put("theirs.json", THEIRS)


def put(path: str, content: Any) -> None:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["import", *words])


def test_a_plan_says_everything_and_changes_nothing() -> None:
    result = run("theirs.json", "--plan")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:5]] == [
        ["My", "Shell"], ["remote", "remote"], ["needy", "needy"], ["odd", "odd"],
    ]  # fmt: skip
    assert "add (off)" in lines[3]
    assert "skip" in lines[4]
    text = "\n".join(lines[5:])
    for part in (
        "mcpServers.My Shell.timeout: not taken over",
        "mcpServers.My Shell.env.TOKEN: is a secret and is kept as ${secret:my-shell.TOKEN}",
        "mcpServers.needy.command: there is no such program",
        "mcpServers.odd.type: expected stdio, http or sse",
        "theirs.json: not taken over: other settings of the client: theme",
        "plan: 3 of 4 would be written to waygate.yaml; nothing was changed",
    ):
        assert part in text
    assert TOKEN not in result.output
    assert sorted(path.name for path in Path().iterdir()) == ["theirs.json"]


def test_servers_are_written_secrets_kept_and_the_old_document_stands_beside() -> None:
    old = "# mine\nversion: 1\n"
    FILE.write_text(old)
    result = run("theirs.json")
    assert result.exit_code == 0, result.output
    assert "waygate.yaml: 3 of 4 servers written" in result.stdout
    assert "waygate.yaml.waygate-backup-1: what was there before" in result.stdout
    assert "next: waygate upstreams test my-shell remote needy" in result.stdout
    assert Path("waygate.yaml.waygate-backup-1").read_text() == old
    assert FILE.read_text().startswith(old)
    document = load_document(FILE, Settings())
    assert document.upstreams["my-shell"].env == {"TOKEN": "${secret:my-shell.TOKEN}"}
    assert list(document.enabled_upstreams()) == ["my-shell", "remote"]
    kept = Path("data/secrets/my-shell.TOKEN")
    assert (kept.read_text().strip(), stat.S_IMODE(kept.stat().st_mode)) == (TOKEN, 0o600)

    again = run("theirs.json")
    assert "waygate.yaml: nothing to write" in again.stdout
    assert not Path("waygate.yaml.waygate-backup-2").exists()


def test_where_there_is_no_document_a_first_one_is_made() -> None:
    assert run("theirs.json").exit_code == 0
    assert FILE.read_text().startswith(DOCUMENT.split("upstreams:")[0])
    assert not Path("waygate.yaml.waygate-backup-1").exists()


def test_another_of_the_same_name_stays_unless_it_is_to_be_replaced() -> None:
    FILE.write_text("upstreams:\n  remote: {url: https://example.org/old}\n")
    result = run("theirs.json")
    assert "another of this name is there; --replace takes this one" in result.stdout
    assert load_document(FILE, Settings()).upstreams["remote"].url == "https://example.org/old"
    assert run("theirs.json", "--replace").exit_code == 0
    assert load_document(FILE, Settings()).upstreams["remote"].url == "https://example.org/mcp"


def test_json_holds_the_same_without_secrets() -> None:
    result = run("theirs.json", "--json")
    assert TOKEN not in result.stdout
    shown = json.loads(result.stdout)
    assert (shown["written"], shown["backup"], shown["document"]) == (True, None, "waygate.yaml")
    assert [one["action"] for one in shown["servers"]] == ["add", "add", "add", "skip"]
    assert shown["servers"][0]["secrets"] == ["my-shell.TOKEN"]
    assert shown["left"] == [
        {"file": "theirs.json", "path": "", "message": "other settings of the client: theme"}
    ]
    assert json.loads(run("theirs.json", "--json", "--plan").stdout)["written"] is False


def test_a_document_that_is_not_valid_is_left_alone() -> None:
    FILE.write_text("upstreams: {a: {erra: 1}}")
    result = run("theirs.json")
    assert result.exit_code == 2
    assert "unknown key" in result.stderr
    assert FILE.read_text() == "upstreams: {a: {erra: 1}}"
    assert not Path("data").exists()


def test_a_clients_own_files_are_found() -> None:
    put("home/.config/Claude/claude_desktop_config.json", {"mcpServers": {"a": {"command": "sh"}}})
    put("home/.config/Code/User/mcp.json", {"servers": {"b": {"command": "sh"}}})
    put(".vscode/mcp.json", {"servers": {"c": {"command": "sh"}}})
    put("home/.cursor/mcp.json", "{")
    shown = json.loads(run("--from", "claude-desktop", "--json", "--plan").stdout)
    assert [one["name"] for one in shown["servers"]] == ["a"]
    shown = json.loads(run("--from", "VSCode", "theirs.json", "--json", "--plan").stdout)
    assert [one["name"] for one in shown["servers"]][-2:] == ["c", "b"]
    result = run("--from", "all", "--plan")
    assert "warning: " in result.stderr
    assert "cursor/mcp.json" in result.stderr
    assert "plan: 3 of 3" in result.stdout
    assert "mcpServers" not in result.stdout or ".json: " in result.stdout


def test_a_folder_of_continue_holds_a_file_for_each_server() -> None:
    put(".continue/mcpServers/one.yaml", "mcpServers:\n  - {name: one, command: sh}\n")
    put(".continue/mcpServers/two.yml", "mcpServers:\n  - {name: two, command: sh}\n")
    shown = json.loads(run("--from", "continue", "--json", "--plan").stdout)
    assert [one["name"] for one in shown["servers"]] == ["one", "two"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give a FILE, or --from CLIENT"),
        (("--from", "cursr"), "no client is called 'cursr'; did you mean 'cursor'?"),
        (("--from", "zzzz"), "known: claude-desktop"),
        (("--from", "cursor"), "no file of cursor is there; looked for"),
        (("none.json",), "there is no such file"),
    ],
)
def test_what_is_not_there_is_said(words: tuple[str, ...], message: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert message in result.stderr


def test_an_empty_table_is_no_fault() -> None:
    put("empty.json", {"mcpServers": {}})
    result = run("empty.json")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["no servers", "waygate.yaml: nothing to write"]


def test_every_client_with_a_file_is_looked_for() -> None:
    with_file = [word for word, client in CLIENTS.items() if client.place is not None]
    found = list(_files_of("all"))
    assert len(found) >= len(with_file)
    assert _clients("a") == ["all"]
    assert _clients("") == [*CLIENTS, "all"]
