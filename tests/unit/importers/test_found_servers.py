"""Which servers a file names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from waygate_mcp.errors import ConfigError
from waygate_mcp.importers.found_servers import Reading, read_servers

X = {"command": "x"}
NAMED = [f"setting{number}" for number in range(7)]


def read(folder: Path, name: str, content: Any) -> Reading:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_servers(file)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("claude_desktop_config.json", {"mcpServers": {"a": X}}),
        (".vscode/mcp.json", '{ // mine\n "servers": {"a": {"command": "x"},}, }'),
        ("settings.json", {"mcp": {"servers": {"a": X}}}),
        ("zed.json", {"context_servers": {"a": X}}),
        ("opencode.json", {"mcp": {"a": {"command": ["x"]}}}),
        ("config.toml", '[mcp_servers.a]\ncommand = "x"\n'),
        ("goose.yaml", "extensions:\n  a:\n    cmd: x\n"),
        ("continue.yaml", "mcpServers:\n  - name: a\n    command: x\n"),
        ("without-ending", '{"mcpServers": {"a": {"command": "x"}}}'),
        ("with-comment", '// c\n{"mcpServers": {"a": {"command": "x"}}}'),
    ],
)
def test_each_clients_file_is_read(tmp_path: Path, name: str, content: Any) -> None:
    reading = read(tmp_path, name, content)
    (found,) = reading.servers
    assert (found.name, found.server["command"], found.is_ours) == ("a", "x", False)
    assert reading.left == []


def test_a_document_of_another_waygate_is_read_and_the_rest_of_it_named(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        "waygate.yaml",
        "version: 1\nauth: {mode: none}\nupstreams: {a: {command: x}}\nmcpServers: {B c: {url: https://x}}\n",
    )
    assert [(one.name, one.is_ours) for one in reading.servers] == [("B c", False), ("a", True)]
    assert [(one.path, one.message) for one in reading.left] == [
        ("auth", "only servers are taken over")
    ]


def test_paths_of_an_editors_file_begin_at_its_workspace(tmp_path: Path) -> None:
    assert read(tmp_path, "p/.vscode/mcp.json", {"servers": {}}).folder == tmp_path / "p"
    assert read(tmp_path, "p/.mcp.json", {"mcpServers": {}}).folder == tmp_path / "p"


def test_the_questions_of_vs_code_are_known(tmp_path: Path) -> None:
    inputs = [{"id": "key", "description": "Your key"}, {"id": "b"}, {"id": 5}, "x"]
    assert read(tmp_path, "mcp.json", {"servers": {}, "inputs": inputs}).inputs == {
        "key": "Your key", "b": "b",
    }  # fmt: skip
    nested = {"mcp": {"servers": {"a": X}, "inputs": inputs[:1]}}
    assert read(tmp_path, "settings.json", nested).inputs == {"key": "Your key"}


def test_nothing_is_left_out_silently(tmp_path: Path) -> None:
    content = {
        "mcpServers": {"a": X, "b": "text"},
        "projects": {"/srv/p": {"mcpServers": {"c": X, "d": X}}, "/srv/q": {}, "/srv/r": 5},
        **{f"setting{number}": 1 for number in range(9)},
    }
    reading = read(tmp_path, "claude.json", content)
    assert [(one.path, one.message) for one in reading.left] == [
        ("mcpServers.b", "is no server"),
        ("projects./srv/p.mcpServers", "servers of that folder alone: c, d"),
        (
            "",
            f"other settings of the client: projects, {', '.join(NAMED)} and 2 more",
        ),
    ]


def test_a_server_in_a_list_without_a_name_gets_one(tmp_path: Path) -> None:
    (found,) = read(tmp_path, "a.json", {"mcpServers": [X]}).servers
    assert (found.name, found.path) == ("server-1", ("mcpServers", 0))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "cannot be read as JSON"),
        ("a.toml", "[", "cannot be read as TOML"),
        ("a.yaml", "a: [", "not YAML"),
        ("a.json", "[]", "holds no mapping"),
        ("a.json", "{}", "names no servers; looked for: mcpServers, servers"),
        ("a.json", '{"mcp": 5}', "names no servers"),
    ],
)
def test_what_names_no_servers_is_refused(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, name, content)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_servers(tmp_path / "none.json")
