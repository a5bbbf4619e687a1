"""Secrets that stand in a document in clear are found where they may stand, and taken out of its text."""

from __future__ import annotations

from typing import Any

import pytest

from waygate_mcp.config.yaml_text import dotted, parse_yaml
from waygate_mcp.runtime.clear_secrets import clear_secrets, without_secrets, without_secrets_in

TOKEN = "ghp_0123456789abcdefghij"


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        ({"upstreams": {"a": {"headers": {"Authorization": f"Bearer {TOKEN}"}}}},
         ["upstreams.a.headers.Authorization"]),
        ({"upstreams": {"a": {"headers": {"Authorization": "Bearer ${secret:A}"}}}}, []),
        ({"upstreams": {"a": {"headers": {"X-Team": "(secret)"}}}}, ["upstreams.a.headers.X-Team"]),
        ({"mcpServers": {"a": {"env": {"A_TOKEN": "abc", "LOG": "debug"}}}},
         ["mcpServers.a.env.A_TOKEN"]),
        ({"upstreams": {"a": {"args": ["--api-key", "abc", "--token=abc", "-v", "x", TOKEN, 7]}}},
         ["upstreams.a.args[1]", "upstreams.a.args[2]", "upstreams.a.args[5]"]),
        ({"upstreams": {"a": {"url": "https://a.example.org/?token=abcdef"}}}, ["upstreams.a.url"]),
        ({"plugins": {"a": {"config": {"cache_key": "x", "db": [{"password": "x"}], "n": 1}}}},
         ["plugins.a.config.db[0].password"]),
        ({"plugins": {"a": {"config": {"note": TOKEN, "b": "(secret)"}}}},
         ["plugins.a.config.note", "plugins.a.config.b"]),
        ({"endpoints": {"a": {"tools": {"describe": {"get_token": "Gets one."}}}}}, []),
        ({"secrets": {"vault": {"names": {"A_TOKEN": "team/a#field"}}}}, []),
        ({"upstreams": {"a": None}, "plugins": {"a": 5}}, []),
        ({"upstreams": []}, []),
        ([], []),
    ],
)  # fmt: skip
def test_secrets_are_found_where_they_may_stand(value: Any, paths: list[str]) -> None:
    assert [dotted(path) for path, _ in clear_secrets(value)] == paths


def test_they_are_taken_out_of_the_text_and_all_else_stays() -> None:
    text = f"# ours\nupstreams:\n  a: {{url: https://x, headers: {{X-Key: '{TOKEN}'}}}}  # so\n"
    assert without_secrets(text) == text.replace(TOKEN, "(secret)")
    assert without_secrets("a: 1  # nothing\n") == "a: 1  # nothing\n"


@pytest.mark.parametrize("secret", ["a", r'"\u0068unter2\u0068unter2"', '"hunt\\\n      er2"'])
def test_what_cannot_be_replaced_in_the_text_is_written_anew(secret: str) -> None:
    text = f"upstreams:\n  a:\n    url: https://x\n    headers:\n      X-Key: {secret}\n"
    shown = without_secrets(text)
    assert parse_yaml(shown.encode()).value == {
        "upstreams": {"a": {"url": "https://x", "headers": {"X-Key": "(secret)"}}}
    }


def test_a_text_nobody_can_read_is_not_shown() -> None:
    assert without_secrets("a: [") == "(secret)"


def test_the_value_given_is_left_as_it_was() -> None:
    value = {"upstreams": {"a": {"args": ["--token", "abc"]}}}
    assert without_secrets_in(value) == {"upstreams": {"a": {"args": ["--token", "(secret)"]}}}
    assert value["upstreams"]["a"]["args"] == ["--token", "abc"]
