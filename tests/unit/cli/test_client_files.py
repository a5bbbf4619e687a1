from __future__ import annotations

import json
import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from waygate_mcp.cli.client_files import as_text, edited, write_beside_backup
from waygate_mcp.cli.clients import CLIENTS, Client, Target, Transport, snippet
from waygate_mcp.errors import ConfigError

TARGET = Target("waygate", "http://127.0.0.1:8000/mcp", ("/bin/waygate", "stdio"))
OTHER = Target("waygate", "http://127.0.0.1:9999/mcp", ("/bin/other", "stdio"))


def parsed(client: Client, text: str) -> Any:
    if client.format == "json":
        return json.loads(text)
    return tomllib.loads(text) if client.format == "toml" else YAML(typ="safe").load(text)


def edit(client: Client, text: str | None, target: Target = TARGET) -> str:
    return edited(client, text, target, client.transports[0], "file")


def cases() -> list[Any]:
    return [
        pytest.param(client, transport, id=f"{word}-{transport}")
        for word, client in CLIENTS.items()
        for transport in client.transports
    ]


@pytest.mark.parametrize(("client", "transport"), cases())
def test_a_new_file_holds_the_snippet_and_a_second_run_changes_nothing(
    client: Client, transport: Transport
) -> None:
    text = edited(client, None, TARGET, transport, "file")
    assert parsed(client, text) == snippet(client, TARGET, transport)
    assert text == as_text(client, snippet(client, TARGET, transport))
    assert edited(client, text, TARGET, transport, "file") == text
    assert edited(client, " \n", TARGET, transport, "file") == text


@pytest.mark.parametrize(("client", "transport"), cases())
def test_an_old_entry_is_replaced(client: Client, transport: Transport) -> None:
    old = edited(client, None, OTHER, transport, "file")
    new = edited(client, old, TARGET, transport, "file")
    assert parsed(client, new) == snippet(client, TARGET, transport)


# --- JSON

JSON_FILE = """{
    "theme": "dark",
    "ratio": 1.50,
    "big": 12345678901234567890123,
    "mcpServers": {
        "other": {"command": "x", "args": ["ü", "\\u2028"]}
    },
    "last": [1e3, null]
}"""


def test_everything_else_in_a_json_file_stays() -> None:
    new = edit(CLIENTS["cursor"], JSON_FILE)
    before, after = json.loads(JSON_FILE), json.loads(new)
    assert list(after) == list(before)
    assert list(after["mcpServers"]) == ["other", "waygate"]
    del after["mcpServers"]["waygate"]
    assert after == before
    for kept in ('\n    "theme": "dark"', "1.50", "12345678901234567890123", "1e3", "ü"):
        assert kept in new
    assert not new.endswith("\n")


def test_tabs_and_the_last_line_break_are_kept() -> None:
    new = edit(CLIENTS["cursor"], '{\n\t"a": 1\n}\n')
    assert new.startswith('{\n\t"a": 1,\n\t"mcpServers": {\n\t\t"waygate"')
    assert new.endswith("}\n")


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, // comment\n}', "{", "[]", "5", '{"a": 1, "a": 2}', '{"mcpServers": []}',
     '{"mcpServers": 5}', "[" * 100_000],
)  # fmt: skip
def test_a_json_file_that_cannot_be_kept_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        edit(CLIENTS["cursor"], text)
    assert caught.value.source == "file"


def test_inputs_of_vs_code_are_added_once() -> None:
    client = CLIENTS["vscode"]
    new = edit(client, '{"servers": {}, "inputs": [{"id": "other", "type": "promptString"}]}')
    assert [one["id"] for one in json.loads(new)["inputs"]] == ["other", "waygate-key"]
    assert edit(client, new) == new


# --- TOML

TOML_FILE = """# my settings
model = "x"  # the best

[mcp_servers.waygate]  # old
url = "http://old"

[mcp_servers.waygate.env]
A = "b"

[mcp_servers."other one"]
command = "y"

[[things]]
a = 1
"""


def test_everything_else_in_a_toml_file_stays() -> None:
    client = CLIENTS["codex"]
    new = edit(client, TOML_FILE)
    assert '# my settings\nmodel = "x"  # the best\n' in new
    after, before = tomllib.loads(new), tomllib.loads(TOML_FILE)
    entry = {"url": TARGET.url, "bearer_token_env_var": "WAYGATE_API_KEY"}
    assert after["mcp_servers"].pop("waygate") == entry
    del before["mcp_servers"]["waygate"]
    assert after == before
    assert edit(client, new) == new


def test_a_server_written_in_another_form_is_left_to_a_person() -> None:
    for text in (
        'mcp_servers = { waygate = { url = "x" } }\n',
        '[mcp_servers]\nwaygate = { url = "x" }\n',
        "mcp_servers.waygate.url = 'x'\n",
    ):
        with pytest.raises(ConfigError, match=r"by hand|TOML"):
            edit(CLIENTS["codex"], text)


def test_a_toml_file_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ConfigError, match="TOML"):
        edit(CLIENTS["codex"], "a = ")
    with pytest.raises(ConfigError):
        edit(CLIENTS["codex"], "mcp_servers = 5\n")


# --- YAML


def test_comments_and_quotes_of_a_yaml_file_stay() -> None:
    text = "# mine\nGOOSE_MODEL: 'x'   # best\nextensions:\n  # tools\n  developer:\n    enabled: true\n"
    new = edit(CLIENTS["goose"], text)
    for kept in (
        "# mine",
        "GOOSE_MODEL: 'x'   # best",
        "  # tools",
        "  developer:\n    enabled: true",
    ):
        assert kept in new
    assert YAML(typ="safe").load(new)["extensions"]["waygate"]["uri"] == TARGET.url
    assert edit(CLIENTS["goose"], new) == new


def test_a_list_of_servers_keeps_the_others() -> None:
    text = "name: x\nmcpServers:\n  - name: other\n    command: y\n"
    new = edit(CLIENTS["continue"], text)
    names = [one["name"] for one in YAML(typ="safe").load(new)["mcpServers"]]
    assert names == ["other", "waygate"]


@pytest.mark.parametrize("text", ["a: [", "- 1", "extensions: 5", "a: 1\na: 2"])
def test_a_yaml_file_that_cannot_be_kept_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        edit(CLIENTS["goose"], text)


# --- writing


def test_what_was_there_is_kept_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "mcp.json"
    assert write_beside_backup(path, "one", is_secret=False) is None
    path.chmod(0o640)
    first = write_beside_backup(path, "two", is_secret=False)
    second = write_beside_backup(path, "three", is_secret=False)
    assert first is not None
    assert second is not None
    assert [p.read_text() for p in (first, second, path)] == ["one", "two", "three"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert len(list(path.parent.iterdir())) == 3


def test_a_file_that_holds_a_key_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    write_beside_backup(path, "one", is_secret=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    write_beside_backup(path, "two", is_secret=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_text("one")
    link.symlink_to(real)
    write_beside_backup(link, "two", is_secret=False)
    assert link.is_symlink()
    assert real.read_text() == "two"


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mcp.json"
    path.write_text("one")

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ConfigError, match="disk full"):
        write_beside_backup(path, "two", is_secret=False)
    assert path.read_text() == "one"
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_folder_full_of_backups_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mcp.json"
    path.write_text("one")

    def exists(*_: Any) -> int:
        raise FileExistsError

    monkeypatch.setattr(os, "open", exists)
    with pytest.raises(ConfigError, match="backups"):
        write_beside_backup(path, "two", is_secret=False)
