"""What differs between two documents: named sections as a whole, everything else value by value."""

from __future__ import annotations

from typing import Any

from waygate_mcp.config import changes
from waygate_mcp.config.changes import Change, changes_between
from waygate_mcp.config.document import Document

HELLO = {"use": "hello"}


def between(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    return changes_between(Document.model_validate(old), Document.model_validate(new))


def test_the_same_is_no_change_however_it_is_written() -> None:
    assert between({}, {"version": 1, "limits": {"page_size": 1000}}) == []


def test_sections_by_name_come_and_go_as_a_whole() -> None:
    web = {"url": "https://a.example.org/mcp"}
    added, removed = between(
        {"plugins": {"hello": HELLO}}, {"upstreams": {"web": web}, "plugins": {}}
    )
    assert (removed.kind, removed.path) == ("added", "upstreams.web")
    assert removed.new["url"] == web["url"]
    assert "command" not in removed.new
    assert added == Change("removed", "plugins.hello", {"use": "hello", "enabled": True}, None)


def test_values_are_compared_one_by_one_and_lists_as_one() -> None:
    found = between(
        {"roles": {"r": ["tools:list"]}, "plugins": {"hello": {**HELLO, "config": {"a": 1}}}},
        {
            "roles": {"r": ["tools:list", "tools:call"]},
            "plugins": {"hello": {**HELLO, "config": {"b": {"c": 1}}, "enabled": False}},
            "endpoints": {"default": {"tools": {"deny": ["x"]}}},
        },
    )
    assert [(one.kind, one.path, one.old, one.new) for one in found] == [
        ("changed", "roles.r", ["tools:list"], ["tools:list", "tools:call"]),
        ("removed", "plugins.hello.config.a", 1, None),
        ("added", "plugins.hello.config.b", None, {"c": 1}),
        ("changed", "plugins.hello.enabled", True, False),
        ("changed", "endpoints.default.tools.deny", [], ["x"]),
    ]


def test_there_is_an_end_to_them(monkeypatch: Any) -> None:
    monkeypatch.setattr(changes, "MAX_CHANGES", 2)
    found = between({}, {"roles": {f"r{n}": ["tools:list"] for n in range(9)}})
    assert len(found) == 3
    role = changes_between(
        Document(),
        Document.model_validate({"roles": {"r": ["tools:list"]}}),
        lambda one: {**one, "roles": {}},
    )
    assert role == []
