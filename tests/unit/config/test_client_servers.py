"""The clients' shape in ours."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waygate_mcp.config.client_servers import (
    own_name,
    plain_variables,
    say_references,
    translate_server,
)
from waygate_mcp.config.upstream import UpstreamSection


def section_of(server: dict[str, Any]) -> dict[str, Any]:
    done = translate_server(server)
    assert not done.refused, done.refused
    UpstreamSection.model_validate(done.section)
    return done.section


def findings(server: dict[str, Any]) -> list[tuple[tuple[str | int, ...], str, str]]:
    return [(one.key, one.kind, one.message) for one in translate_server(server).findings]


@pytest.mark.parametrize(
    ("server", "section"),
    [
        pytest.param(
            {"command": "npx", "args": ["-y", "x"], "env": {"A": "1", "N": 2, "B": True}},
            {"command": "npx", "args": ["-y", "x"], "env": {"A": "1", "N": "2", "B": "true"}},
            id="claude-desktop",
        ),
        pytest.param(
            {"type": "stdio", "command": "x", "args": [], "env": {}, "cwd": "/srv"},
            {"command": "x", "cwd": "/srv"},
            id="vscode-stdio",
        ),
        pytest.param(
            {"type": "http", "url": "https://x/mcp", "headers": {"A": "b"}},
            {"url": "https://x/mcp", "headers": {"A": "b"}},
            id="vscode-http",
        ),
        pytest.param({"type": "sse", "url": "https://x/sse"}, {"url": "https://x/sse", "http": "sse"}, id="sse"),
        pytest.param({"serverUrl": "https://x/mcp"}, {"url": "https://x/mcp"}, id="windsurf"),
        pytest.param({"httpUrl": "https://x/mcp"}, {"url": "https://x/mcp"}, id="gemini"),
        pytest.param(
            {"type": "streamableHttp", "url": "https://x/mcp", "disabled": False},
            {"url": "https://x/mcp"},
            id="cline",
        ),
        pytest.param(
            {"transport": "streamable-http", "url": "https://x/mcp", "enabled": False},
            {"url": "https://x/mcp", "enabled": False},
            id="switched-off",
        ),
        pytest.param({"command": "x", "disabled": True}, {"command": "x", "enabled": False}, id="disabled"),
        pytest.param({"command": "x", "disabled": None, "type": None}, {"command": "x"}, id="nulls"),
    ],
)  # fmt: skip
def test_each_clients_way_of_saying_it_is_said_in_our_keys(
    server: dict[str, Any], section: dict[str, Any]
) -> None:
    assert section_of(server) == section


def test_what_is_the_clients_own_affair_is_ignored_and_said() -> None:
    found = findings(
        {"command": "x", "autoApprove": ["a"], "alwaysAllow": [], "timeout": 60, "description": "d"}
    )
    assert [(key, kind) for key, kind, _ in found] == [
        (("autoApprove",), "ignored"),
        (("alwaysAllow",), "ignored"),
        (("timeout",), "ignored"),
        (("description",), "ignored"),
    ]
    assert all(message for _, _, message in found)


@pytest.mark.parametrize(
    ("server", "key", "part"),
    [
        ({"command": "x", "excludeTools": ["rm"]}, "excludeTools", "narrows what may be called"),
        ({"url": "https://x", "oauth": {}}, "oauth", "signing in is not taken over"),
        ({"command": "x", "envFile": ".env"}, "envFile", "`waygate import`"),
        ({"command": "x", "type": "websocket"}, "type", "expected stdio, http or sse"),
        ({"command": "x", "type": 1}, "type", "expected stdio, http or sse"),
        ({"command": "x", "type": "http"}, "type", "says http, which needs `url`"),
        ({"url": "https://x", "type": "stdio"}, "type", "says stdio, which needs `command`"),
        ({"url": "https://x", "serverUrl": "https://y"}, "serverUrl", "there is `url` already"),
        ({"command": "x", "disabled": "yes"}, "disabled", "expected true or false"),
    ],
)
def test_what_means_something_else_here_is_refused(
    server: dict[str, Any], key: str, part: str
) -> None:
    (found,) = translate_server(server).refused
    assert found.key == (key,)
    assert part in found.message


def test_an_unknown_key_gets_the_nearest() -> None:
    (found,) = translate_server({"command": "x", "evn": {}}).refused
    assert (found.key, found.message, found.suggestion) == (("evn",), "unknown key", "env")


def test_a_variable_is_written_as_ours_and_our_references_stay() -> None:
    server = {
        "command": "x",
        "args": ["${ROOT}/a", "${env:B}", "$${C}", "$D"],
        "env": {"K": "${secret:K}", "L": "${LANG}"},
    }
    done = translate_server(server)
    assert done.section["args"] == ["${env:ROOT}/a", "${env:B}", "$${C}", "$D"]
    assert done.section["env"] == {"K": "${secret:K}", "L": "${env:LANG}"}
    changed = [one.key for one in done.findings if one.kind == "changed"]
    assert changed == [("args", 0), ("env", "L")]


@pytest.mark.parametrize(
    "inner", ["input:key", "workspaceFolder", "workspaceFolder:a", "A:-b", "command:x", "1A", ""]
)
def test_a_variable_of_the_client_itself_is_refused(inner: str) -> None:
    (found,) = translate_server({"command": "x", "args": [f"${{{inner}}}"]}).refused
    assert found.key == ("args", 0)
    assert "means nothing here" in found.message


def test_whoever_asks_may_know_more_variables() -> None:
    text, unknown = say_references(
        "${a}-${b}-${env:C}", lambda inner: "X" if inner == "a" else None
    )
    assert (text, unknown) == ("X-${b}-${env:C}", ["${b}"])
    assert plain_variables("A_1") == "${env:A_1}"
    assert plain_variables("userHome") is None


def test_headers_the_gateway_writes_itself_and_values_that_are_none_are_ignored() -> None:
    server = {
        "url": "https://x",
        "headers": {
            "Accept": "a",
            "content-type": "b",
            "Mcp-Session-Id": "c",
            "X-A": "d",
            "X-B": None,
        },
    }
    done = translate_server(server)
    assert done.section["headers"] == {"X-A": "d"}
    assert [one.key[1] for one in done.findings if one.kind == "ignored"] == [
        "Accept", "content-type", "Mcp-Session-Id", "X-B",
    ]  # fmt: skip


def test_what_has_the_wrong_form_is_left_to_the_model() -> None:
    done = translate_server({"command": 5, "args": "x", "env": ["a"], "headers": 7})
    assert done.section == {"command": 5, "args": "x", "env": ["a"], "headers": 7}
    assert done.places == {key: key for key in ("command", "args", "env", "headers")}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("GitHub Server", "github-server"),
        ("github", "github"),
        ("my_server-2", "my_server-2"),
        ("@scope/pkg.name", "scope-pkg-name"),
        ("Überblick", "uberblick"),
        ("a__b_", "a_b"),
        ("io.github.user/Weather", "io-github-user-weather"),
        ("天気", ""),
        ("--", ""),
        ("x" * 80, "x" * 63),
        ("_x", "x"),
    ],
)
def test_a_foreign_name_becomes_the_nearest_of_ours(theirs: str, ours: str) -> None:
    assert own_name(theirs) == ours


@given(st.text(max_size=100))
def test_every_name_that_is_made_is_one_of_ours_and_stays_so(theirs: str) -> None:
    ours = own_name(theirs)
    assert own_name(ours) == ours
    if ours:
        assert len(ours) <= 63
        assert "__" not in ours
        assert not ours.endswith("_")
        assert set(ours) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
        assert ours[0] not in "_-"
