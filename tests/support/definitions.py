"""A definition of each pinned kind with every field there is, and every change of a single field of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from waygate_mcp.model.catalog import Kind

TOOL: dict[str, Any] = {
    "name": "read",
    "title": "Read a file",
    "description": "Reads a file of the project.",
    "inputSchema": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "path": {
                "type": ["string", "null"],
                "description": "Where it is.",
                "minLength": 1,
                "x-mcp-header": "Path",
            },
            "lines": {
                "type": "array",
                "items": {"type": "integer", "minimum": 0, "default": 0},
                "prefixItems": [{"const": 1}, {"const": 2}],
            },
            "mode": {"enum": ["text", "binary"], "default": {"required": ["b", "a"]}},
        },
        "required": ["path", "mode"],
        "additionalProperties": False,
        "$defs": {"n": {"anyOf": [{"type": "number"}, {"type": "null"}]}},
    },
    "outputSchema": {"type": "object", "properties": {"text": {"type": "string"}}},
    "annotations": {"title": "Read", "readOnlyHint": True, "openWorldHint": False},
    "icons": [{"src": "https://files.example/a.png", "mimeType": "image/png", "sizes": ["48x48"]}],
    "execution": {"taskSupport": "optional"},
    "_meta": {"example.org/ui": {"resourceUri": "ui://files/view", "weight": 1.5}, "empty": {}},
}
PROMPT: dict[str, Any] = {
    "name": "review",
    "title": "Review",
    "description": "Reviews a file.",
    "arguments": [
        {"name": "path", "title": "Path", "description": "Which.", "required": True},
        {"name": "style", "description": "How.", "required": False},
    ],
    "icons": [{"src": "data:image/png;base64,AAAA", "theme": "dark"}],
    "_meta": {"example.org/version": 2},
}
TEMPLATE: dict[str, Any] = {
    "uriTemplate": "file:///{path}",
    "name": "file",
    "title": "A file",
    "description": "Any file of the project.",
    "mimeType": "text/plain",
    "annotations": {"audience": ["user"], "priority": 0.5},
    "icons": [{"src": "https://files.example/b.svg"}],
    "_meta": {"example.org/tags": ["x", "y"]},
}
EXAMPLES = {Kind.TOOL: TOOL, Kind.PROMPT: PROMPT, Kind.TEMPLATE: TEMPLATE}
KEYS = {Kind.TOOL: "name", Kind.PROMPT: "name", Kind.TEMPLATE: "uriTemplate"}


def encoded(definition: dict[str, Any]) -> bytes:
    """The definition as a server writes it."""
    return json.dumps(definition).encode()


def single_changes(kind: Kind) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every change of one field: another value, another type, without it, with one more beside it.

    What an entry goes by stays: another name is another entry.
    """
    original = EXAMPLES[kind]
    for path in _paths(original):
        if path == (KEYS[kind],):
            continue
        for what, change in (("changed", _other), ("nulled", _null)):
            yield f"{_named(path)} {what}", _with(original, path, change)
        yield f"{_named(path)} gone", _without(original, path)
    for path in ((), *_paths(original)):
        found = _at(original, path)
        if isinstance(found, dict):
            yield f"{_named(path)} has more", _with(original, (*path, "x-new"), lambda _: "new")
        if isinstance(found, list):
            yield f"{_named(path)} is longer", _with(original, path, lambda old: [*old, "more"])


def _named(path: tuple[str | int, ...]) -> str:
    return "/".join(map(str, path)) or "the whole"


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, child in items:
        yield (*path, key)
        yield from _paths(child, (*path, key))


def _at(value: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _with(value: dict[str, Any], path: tuple[str | int, ...], change: Any) -> dict[str, Any]:
    changed = copy.deepcopy(value)
    holder = _at(changed, path[:-1])
    old = holder.get(path[-1]) if isinstance(holder, dict) else holder[path[-1]]
    holder[path[-1]] = change(old)
    return changed


def _without(value: dict[str, Any], path: tuple[str | int, ...]) -> dict[str, Any]:
    changed = copy.deepcopy(value)
    del _at(changed, path[:-1])[path[-1]]
    return changed


def _null(_old: Any) -> Any:
    return None


def _other(old: Any) -> Any:
    if isinstance(old, bool):
        return not old
    if isinstance(old, str):
        return old + " "
    if isinstance(old, int | float):
        return old + 1
    return "another type"
