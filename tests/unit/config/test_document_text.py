"""Entries put into and taken out of the document, everything else byte for byte as it was."""

from __future__ import annotations

from difflib import ndiff
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waygate_mcp.cli.init import DOCUMENT
from waygate_mcp.config.document_text import drop_entry, put_entry, set_member
from waygate_mcp.config.yaml_text import parse_yaml
from waygate_mcp.errors import ConfigError

VALUE: dict[str, Any] = {
    "command": "npx",
    "args": ["-y", "@scope/server", "true", "- x", ""],
    "env": {"A": "${secret:n.A}", "B": "1\n2", "C": "a: b # c", "NO": "null"},
}


def put(text: str, name: str = "n", value: dict[str, Any] = VALUE) -> str:
    return put_entry(text, "upstreams", name, value, source="my.yaml")


def drop(text: str, name: str = "n") -> str:
    return drop_entry(text, "upstreams", name, source="my.yaml")


def value_of(text: str) -> Any:
    return parse_yaml(text.encode()).value


TEXTS = {
    "nothing": "",
    "a comment": "# nothing yet\n",
    "the first document": DOCUMENT,
    "no such block": "version: 1\n",
    "no such block, no break at the end": "version: 1",
    "an empty block": "upstreams: {}  # none yet\nversion: 1\n",
    "a block without a value": "upstreams:\n# none yet\nversion: 1",
    "a block that says null": "upstreams: null\n",
    "a block with four blanks": "upstreams:\n    a:\n        url: http://x\n\n\n# tail\nplugins: {}\n",
    "a block at the end": "upstreams:\n  a:\n    url: http://x   # here\n  # b:\n  #   url: http://y\n",
    "a block text at the end": "upstreams:\n  a:\n    args:\n    - |\n      x\n      y\n\n  # c\nversion: 1",
    "windows breaks": "version: 1\r\nupstreams:\r\n  a:\r\n    url: http://x\r\nserver: {}\r\n",
    "a mark at the start": "\ufeffversion: 1\n",
    "an end mark": "---\nversion: 1\n...\n",
    "braces in a line": "upstreams: {a: {url: http://x}}\n",
    "json": '{\n  "version": 1,\n  "upstreams": {\n    "a": {"url": "http://x"}\n  }\n}\n',
    "json without the block": '{\n  "version": 1\n}\n',
    "json with an empty block": '{"upstreams": {}, "version": 1}',
    "json with nothing": "{}",
    "json with a trailing comma": '{"version": 1,}',
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_an_entry_is_put_in_and_every_line_that_was_there_stays(text: str) -> None:
    new = put(text)
    before = value_of(text) or {}
    assert value_of(new) == {**before, "upstreams": {**(before.get("upstreams") or {}), "n": VALUE}}
    changed = list(ndiff(text.splitlines(), new.splitlines()))
    gone = [line[2:] for line in changed if line.startswith("- ")]
    if not text.lstrip().startswith("{"):
        assert all(line.startswith("upstreams:") for line in gone)
    assert new.count("#") == text.count("#") + 1, "a comment was lost"


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_what_is_put_in_can_be_taken_out_again(text: str) -> None:
    before = value_of(text) or {}
    again = drop(put(text))
    assert value_of(again) == {**before, "upstreams": before.get("upstreams") or {}}
    if before.get("upstreams"):
        assert again == text


@pytest.mark.parametrize(
    "text",
    [
        "upstreams:\n  a: {url: http://x}\n  # about n\n  n:\n    url: http://n  # old\n  b: {url: http://y}\n",
        '{"upstreams": {"n": {"url": "http://n"}, "b": {"url": "http://y"}}}',
        "upstreams: {n: {url: http://n}}",
    ],
)
def test_an_entry_is_replaced_where_it_stands(text: str) -> None:
    new = put(text)
    before = value_of(text)["upstreams"]
    assert value_of(new)["upstreams"] == {**before, "n": VALUE}
    assert list(value_of(new)["upstreams"]) == list(before)
    assert ("# about n" in new) == ("# about n" in text)


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("upstreams:\n  n:\n    url: x\n  b:\n    url: y\n", "upstreams:\n  b:\n    url: y\n"),
        ("upstreams:\n  b:\n    url: y\n  n: {url: x}", "upstreams:\n  b:\n    url: y\n"),
        (
            "upstreams:  # ours\n  # n\n  n: {url: x}\na: 1\n",
            "upstreams: {}  # ours\n  # n\na: 1\n",
        ),
        ("{upstreams: {n: 1, b: 2}}", "{upstreams: {b: 2}}"),
        ("{upstreams: {a: 0, n: 1, b: 2}}", "{upstreams: {a: 0, b: 2}}"),
        ("upstreams: {a: 0, n: 1}", "upstreams: {a: 0}"),
        ("upstreams: { n: 1 }", "upstreams: {}"),
    ],
)
def test_an_entry_is_taken_out_and_nothing_else(text: str, without: str) -> None:
    assert drop(text) == without


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("upstreams: [a]", "upstreams: is no mapping"),
        ("- a", "does not hold a mapping"),
        ("a: [", "not YAML"),
        ("other: &x\n  a: {url: x}\nupstreams: *x\n", "cannot be edited here"),
    ],
)
def test_what_cannot_be_edited_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        put(text)


def test_an_entry_behind_an_alias_is_not_taken_out() -> None:
    with pytest.raises(ConfigError, match="cannot be edited here"):
        drop("other: &x\n  n: {url: x}\nupstreams: *x\n")
    with pytest.raises(ConfigError, match="cannot be edited here"):
        drop("upstreams:\n  n: &x {url: x}\n  b: *x\n")


WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Co", "Cn"]), max_size=12
)
KEYS = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,8}", fullmatch=True).filter(
    lambda word: (
        not word.replace("_", "").replace("-", "").isdigit()
        and word not in ("null", "true", "false")
        and not word.startswith("0")
    )
)
ENTRIES = st.dictionaries(KEYS, WORDS | st.lists(WORDS, max_size=3), max_size=3)


@given(texts=st.sampled_from(list(TEXTS.values())), name=KEYS, value=ENTRIES)
def test_any_text_survives_being_written(texts: str, name: str, value: dict[str, Any]) -> None:
    new = put(texts, name, value)
    assert value_of(new)["upstreams"][name] == value
    assert name not in value_of(drop(new, name))["upstreams"]


WRITTEN = [
    "upstreams:\n  a:  # ours\n    url: http://x  # here\n    # enabled: true\nversion: 1\n",
    "upstreams:\n  a:\n    enabled: true  # for now\n    url: http://x\n",
    "upstreams: {a: {url: 'http://x'}}  # short\n",
    "upstreams:\n  a: {url: 'http://x', enabled: true}\n  b: {url: 'http://y'}\n",
    '{"upstreams": {"a": {"url": "http://x", "env": {}}}}',
    "upstreams:\n    a:\n        args:\n        - |\n          x\n",
]


@pytest.mark.parametrize("text", WRITTEN)
def test_one_member_is_set_and_nothing_else_changes(text: str) -> None:
    edited = set_member(text, "upstreams", "a", "enabled", False, source="my.yaml")
    wanted = value_of(text)
    wanted["upstreams"]["a"]["enabled"] = False
    assert value_of(edited) == wanted
    gone = [line[2:] for line in ndiff(text.splitlines(), edited.splitlines()) if line[0] == "-"]
    assert all("enabled" in line or "{" in line for line in gone)
    assert {part for part in text.split() if part.startswith("#")} <= set(edited.split())
    back = set_member(edited, "upstreams", "a", "enabled", True, source="my.yaml")
    assert value_of(back)["upstreams"]["a"]["enabled"] is True


def test_a_member_of_what_is_written_elsewhere_is_refused() -> None:
    for text in (
        "roles: {}\nplugins: &a\n  a: {url: 'http://x'}\nupstreams: *a\n",
        "plugins:\n  a: &a {url: 'http://x'}\nupstreams:\n  a: *a\n",
    ):
        with pytest.raises(ConfigError, match="by hand"):
            set_member(text, "upstreams", "a", "enabled", False, source="my.yaml")
