"""The block `mcpServers` of the document, put among its upstreams.

Knows which name each server gets here, what clashes, and where in the file a fault of a translated server stands. After
this nobody need know the clients' shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from pydantic import ValidationError

from waygate_mcp.config.client_servers import Translation, own_name, translate_server
from waygate_mcp.config.document import Document
from waygate_mcp.config.problems import translate
from waygate_mcp.config.upstream import UpstreamSection
from waygate_mcp.config.yaml_text import KeyPath, YamlText, dotted
from waygate_mcp.errors import ConfigProblem

__all__ = ["at_client_block", "client_names", "document_notes", "with_client_servers"]


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


def at_client_block(document: Document, problems: Iterable[ConfigProblem]) -> list[ConfigProblem]:
    """Give problems of upstreams the path under which they stand in the document."""
    theirs = {ours: name for name, ours in client_names(document).items()}
    moved: list[ConfigProblem] = []
    for problem in problems:
        block, _, rest = problem.path.partition(".")
        name, dot, key = rest.partition(".")
        is_theirs = block == "upstreams" and name in theirs
        path = f"mcpServers.{theirs[name]}{dot}{key}" if is_theirs else problem.path
        moved.append(replace(problem, path=path))
    return moved


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
