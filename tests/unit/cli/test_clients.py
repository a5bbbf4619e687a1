from __future__ import annotations

import json
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import pytest

from waygate_mcp.cli.clients import CLIENTS, Client, Place, Target, Transport, snippet

TARGET = Target("waygate", "http://127.0.0.1:8000/mcp", ("/bin/waygate", "stdio", "--config", "c"))
HTTP = [(word, client) for word, client in CLIENTS.items() if client.http is not None]


def cases() -> list[Any]:
    return [
        pytest.param(client, transport, id=f"{word}-{transport}")
        for word, client in CLIENTS.items()
        for transport in client.transports
    ]


@pytest.mark.parametrize(("client", "transport"), cases())
def test_without_a_key_no_snippet_holds_one(client: Client, transport: Transport) -> None:
    text = json.dumps(snippet(client, TARGET, transport))
    assert "waygate" in text
    if transport == "http":
        assert TARGET.url in text
        assert client.reference is None or client.reference in text
        assert client.reference is not None or "<your Waygate key>" in text
    else:
        assert "Authorization" not in text
        assert all(part in text for part in TARGET.command)


@pytest.mark.parametrize(("word", "client"), HTTP)
def test_a_key_is_written_where_it_is_asked_for(word: str, client: Client) -> None:
    target = Target("waygate", TARGET.url, TARGET.command, key="wg_secret")
    assert "Bearer wg_secret" in json.dumps(snippet(client, target, "http"))


@pytest.mark.parametrize(("word", "client"), HTTP)
def test_a_gateway_that_asks_nobody_gets_no_header(word: str, client: Client) -> None:
    target = Target("waygate", TARGET.url, TARGET.command, needs_key=False)
    value = snippet(client, target, "http")
    assert "Bearer" not in json.dumps(value)
    assert "waygate-key" not in json.dumps(value)


def test_a_client_that_only_starts_programs_says_so() -> None:
    with pytest.raises(ValueError, match="--stdio"):
        snippet(CLIENTS["claude-desktop"], TARGET, "http")


@pytest.mark.parametrize(
    ("word", "transport", "expected"),
    [
        (
            "claude-desktop",
            "stdio",
            {"mcpServers": {"waygate": {"command": "/bin/waygate", "args": ["stdio", "--config", "c"]}}},
        ),
        (
            "claude-code",
            "http",
            {"mcpServers": {"waygate": {"type": "http", "url": TARGET.url,
             "headers": {"Authorization": "Bearer ${WAYGATE_API_KEY}"}}}},
        ),
        (
            "windsurf",
            "http",
            {"mcpServers": {"waygate": {"serverUrl": TARGET.url,
             "headers": {"Authorization": "Bearer ${env:WAYGATE_API_KEY}"}}}},
        ),
        (
            "gemini-cli",
            "http",
            {"mcpServers": {"waygate": {"httpUrl": TARGET.url,
             "headers": {"Authorization": "Bearer ${WAYGATE_API_KEY}"}}}},
        ),
        (
            "codex",
            "http",
            {"mcp_servers": {"waygate": {"url": TARGET.url, "bearer_token_env_var": "WAYGATE_API_KEY"}}},
        ),
        (
            "opencode",
            "stdio",
            {"mcp": {"waygate": {"type": "local", "command": list(TARGET.command), "enabled": True}}},
        ),
    ],
)  # fmt: skip
def test_the_shapes_the_makers_document(
    word: str, transport: Transport, expected: dict[str, Any]
) -> None:
    assert snippet(CLIENTS[word], TARGET, transport) == expected


def test_vs_code_asks_for_the_key_itself() -> None:
    value = snippet(CLIENTS["vscode"], TARGET, "http")
    (wanted,) = value["inputs"]
    assert (wanted["id"], wanted["password"]) == ("waygate-key", True)
    assert "inputs" not in snippet(CLIENTS["vscode"], TARGET, "stdio")


def test_a_file_is_where_its_system_keeps_it() -> None:
    place = Place("$CONFIG/A/a.json", "$HOME/.a.json", "$CONFIG/A/a.json")
    posix = {"HOME": PurePosixPath("/h"), "CONFIG": PurePosixPath("/h/Library")}
    assert str(place.resolve("darwin", posix)) == "/h/Library/A/a.json"
    assert str(place.resolve("linux", posix)) == "/h/.a.json"
    assert str(place.resolve("freebsd14", posix)) == "/h/.a.json"
    windows = {"CONFIG": PureWindowsPath("C:\\R")}
    assert str(place.resolve("win32", windows)) == "C:\\R\\A\\a.json"
