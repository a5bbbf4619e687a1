"""Single clients' shapes in the common one."""

from __future__ import annotations

from typing import Any

import pytest

from waygate_mcp.importers.shapes import common_shape


@pytest.mark.parametrize(
    ("theirs", "common"),
    [
        pytest.param(
            {"type": "local", "command": ["npx", "-y", "x"], "environment": {"A": "{env:B}"}},
            {"type": "local", "command": "npx", "args": ["-y", "x"], "env": {"A": "${env:B}"}},
            id="opencode-stdio",
        ),
        pytest.param(
            {"type": "stdio", "cmd": "npx", "args": ["x"], "envs": {"A": "1"}, "env_keys": ["K"]},
            {"type": "stdio", "command": "npx", "args": ["x"], "env": {"A": "1", "K": "${env:K}"}},
            id="goose-stdio",
        ),
        pytest.param(
            {"type": "streamable_http", "uri": "https://x/mcp", "headers": {"A": "b"}},
            {"type": "streamable_http", "url": "https://x/mcp", "headers": {"A": "b"}},
            id="goose-http",
        ),
        pytest.param(
            {
                "url": "https://x/mcp",
                "http_headers": {"X-A": "b"},
                "env_http_headers": {"X-C": "VAR"},
                "bearer_token_env_var": "TOKEN",
            },
            {
                "url": "https://x/mcp",
                "headers": {
                    "X-A": "b",
                    "X-C": "${env:VAR}",
                    "Authorization": "Bearer ${env:TOKEN}",
                },
            },
            id="codex-http",
        ),
        pytest.param(
            {"command": "x", "env": {"A": "1"}, "env_vars": ["A", "B"]},
            {"command": "x", "env": {"A": "1", "B": "${env:B}"}},
            id="codex-stdio",
        ),
        pytest.param(
            {
                "url": "https://x/mcp",
                "requestOptions": {"headers": {"Authorization": "Bearer ${{ secrets.KEY }}"}},
            },
            {"url": "https://x/mcp", "headers": {"Authorization": "Bearer ${secret:KEY}"}},
            id="continue",
        ),
        pytest.param(
            {"command": {"path": "x", "args": ["a"], "env": {"A": "1"}}},
            {"command": "x", "args": ["a"], "env": {"A": "1"}},
            id="zed",
        ),
    ],
)
def test_members_by_another_name_become_the_common_ones(
    theirs: dict[str, Any], common: dict[str, Any]
) -> None:
    assert common_shape(theirs) == common


@pytest.mark.parametrize(
    "server",
    [
        {"command": "x", "args": ["${env:A}"]},
        {"command": []},
        {"command": {"args": []}},
        {"env_vars": [1], "env_http_headers": [], "bearer_token_env_var": 1},
        {"requestOptions": {"headers": {}, "timeout": 1}},
        {"command": {"path": "x"}, "anything": {"else": None}},
    ],
)
def test_what_is_not_known_stays_as_it_is(server: dict[str, Any]) -> None:
    shaped = common_shape(server)
    assert set(shaped) == set(server)
    assert all(shaped[key] == server[key] for key in server if key != "command")
