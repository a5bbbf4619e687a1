"""What differs between two documents, key by key.

Knows that sections by name (upstreams, plugins, endpoints, roles) come and go as a whole, and that all else
is changed value by value; lists count as one value. Refuses to judge whether a change is welcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from waygate_mcp.config.document import Document
from waygate_mcp.config.yaml_text import KeyPath, dotted

__all__ = ["MAX_CHANGES", "Change", "changes_between"]

MAX_CHANGES = 1_000
_NAMED = ("roles", "plugins", "upstreams", "endpoints")
_FOLDED = frozenset({"mcpServers"})  # they are among the upstreams by now


class Change(msgspec.Struct, frozen=True):
    """One difference. `old` is None where it was added, `new` where it was removed."""

    kind: Literal["added", "removed", "changed"]
    path: str
    old: Any = None
    new: Any = None


def changes_between(
    old: Document, new: Document, mask: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> list[Change]:
    """Give all differences in the order of the document, `MAX_CHANGES` and one more at most.

    `mask` takes out of a document what is not to be shown.
    """
    before, after = mask(_plain(old)), mask(_plain(new))
    found: list[Change] = []
    for change in _compared(before, after, ()):
        found.append(change)
        if len(found) > MAX_CHANGES:
            break
    return found


def _plain(document: Document) -> dict[str, Any]:
    shown = document.model_dump(mode="json")
    return {key: value for key, value in shown.items() if key not in _FOLDED}


def _compared(old: Mapping[str, Any], new: Mapping[str, Any], path: KeyPath) -> Iterator[Change]:
    is_named = len(path) == 1 and path[0] in _NAMED
    for key in dict.fromkeys((*old, *new)):
        here = (*path, key)
        if key not in old:
            yield Change("added", dotted(here), None, _short(new[key]) if is_named else new[key])
        elif key not in new:
            yield Change("removed", dotted(here), _short(old[key]) if is_named else old[key], None)
        elif isinstance(old[key], Mapping) and isinstance(new[key], Mapping):
            yield from _compared(old[key], new[key], here)
        elif old[key] != new[key]:
            yield Change("changed", dotted(here), old[key], new[key])


def _short(section: Any) -> Any:
    """Leave out what a section says nothing about."""
    if not isinstance(section, Mapping):
        return section
    shown = {key: _short(value) for key, value in section.items()}
    return {key: value for key, value in shown.items() if value not in (None, [], {})}
