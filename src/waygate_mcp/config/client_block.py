"""The block `mcpServers` of the document, put among its upstreams.

Knows which name each server gets here, what clashes, and where in the file a fault of a translated server stands. After
this nobody need know the clients' shape.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pydantic import ValidationError

from waygate_mcp.config.client_servers import Translation, own_name, translate_server
from waygate_mcp.config.document import Document
from waygate_mcp.config.problems import translate
from waygate_mcp.config.upstream import UpstreamSection
from waygate_mcp.config.yaml_text import KeyPath, YamlText, dotted
from waygate_mcp.errors import ConfigProblem

__all__ = ["client_names", "document_notes", "path_in_file", "with_client_servers"]


def client_names(document: Document) -> dict[str, str]:
    """Give the names below `mcpServers` in the document's own order, and what each is called here."""
    return {name: own_name(name) for name in document.mcpServers}


def document_notes(document: Document) -> tuple[str, ...]:
    """Say what below `mcpServers` is not as it stands there: names, and keys that have no effect."""
    notes: list[str] = []
    for name, ours in client_names(document).items():
        if ours != name:
            notes.append(f"mcpServers.{name}: is called {ours} here")
        for one in translate_server(document.mcpServers[name]).findings:
            if one.kind == "ignored":
                path = dotted(("mcpServers", name, *one.key))
                notes.append(f"{path}: has no effect here: {one.message}")
    return tuple(notes)


def path_in_file(path: str, text: YamlText) -> str:
    """Give the path a file has for what is `upstreams.NAME…` of the document in memory.

    Another one where that upstream stands below `mcpServers`, under their name and their keys.
    """
    root = text.value if isinstance(text.value, dict) else {}
    area, _, rest = path.partition(".")
    ours, dot, below = rest.partition(".")
    theirs = root.get("mcpServers")
    own = root.get("upstreams")
    is_own = isinstance(own, dict) and ours in own
    if area != "upstreams" or is_own or not isinstance(theirs, dict):
        return path
    for name, server in theirs.items():
        if own_name(name) == ours and isinstance(server, dict):
            key = re.split(r"[.\[]", below, maxsplit=1)[0]
            there = translate_server(server).places.get(key, key)
            return dotted(("mcpServers", name)) + dot + there + below[len(key) :]
    return path


def with_client_servers(document: Document, text: YamlText) -> tuple[Document, list[ConfigProblem]]:
    """Put what stands below `mcpServers` among the upstreams; give what is wrong with it as well."""
    sections: dict[str, UpstreamSection] = {}
    problems: list[ConfigProblem] = []
    sources: dict[str, str] = {}
    for name, ours in client_names(document).items():
        place: KeyPath = ("mcpServers", name)
        if not ours:
            problems.append(_problem(text, place, "no name of ours can be made of this one"))
            continue
        if clash := _taken(document, ours) or sources.get(ours):
            message = f"is called `{ours}` here, and so is {clash}; rename one of them"
            problems.append(_problem(text, place, message))
            continue
        sources[ours] = dotted(place)
        done = translate_server(document.mcpServers[name])
        problems += [
            _problem(text, (*place, *one.key), one.message, one.suggestion) for one in done.refused
        ]
        try:
            sections[ours] = UpstreamSection.model_validate(done.section)
        except ValidationError as exc:
            problems += translate(exc, UpstreamSection, text, _relocate(place, done))
    if not sections:
        return document, problems
    return document.model_copy(update={"upstreams": {**document.upstreams, **sections}}), problems


def _taken(document: Document, name: str) -> str:
    """Say what of the document has a name already; empty where nothing has."""
    for key, names in (("upstreams", document.upstreams), ("plugins", document.plugins)):
        if name in names:
            return f"{key}.{name}"
    return ""


def _relocate(place: KeyPath, done: Translation) -> Callable[[KeyPath], KeyPath]:
    """Give where in the file stands what a translated section has at a path."""

    def relocate(path: KeyPath) -> KeyPath:
        if not path:
            return place
        return (*place, done.places.get(str(path[0]), path[0]), *path[1:])

    return relocate


def _problem(
    text: YamlText, path: KeyPath, message: str, suggestion: str | None = None
) -> ConfigProblem:
    line, column = text.place(path) or (None, None)
    return ConfigProblem(dotted(path), message, line, column, suggestion)
