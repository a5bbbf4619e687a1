"""The servers a file of a client names, or the document of another Waygate.

Knows in which member of a file servers stand, and which other files a server reads. Says of everything else in
the file that it is not taken over. Refuses to translate.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from waygate_mcp.config.document import Document
from waygate_mcp.config.files import read_text
from waygate_mcp.config.yaml_text import KeyPath, dotted, parse_yaml
from waygate_mcp.errors import ConfigError
from waygate_mcp.importers.jsonc import parse_jsonc
from waygate_mcp.importers.shapes import common_shape

__all__ = ["FoundServer", "Left", "Reading", "read_servers"]

MAX_BYTES = 16 * 1024 * 1024
"""Files of clients may hold their whole history."""

_CLIENT_TABLES: tuple[KeyPath, ...] = (
    ("mcpServers",),
    ("servers",),
    ("mcp", "servers"),
    ("context_servers",),
    ("mcp_servers",),
    ("extensions",),
    ("mcp",),
)
_OURS: KeyPath = ("upstreams",)
_FOLDERS_OF_EDITORS = frozenset({".vscode", ".cursor", ".gemini", ".continue", ".codex"})
_NAMED_KEYS = 8


@dataclass(frozen=True, slots=True)
class FoundServer:
    """One server as it stands in a file, in the shape of `mcpServers` or, if `is_ours`, of `upstreams`."""

    name: str
    server: dict[str, Any]
    path: KeyPath
    is_ours: bool = False


@dataclass(frozen=True, slots=True)
class Left:
    """Something of a file that is not taken over, and why."""

    path: str
    message: str


@dataclass(slots=True)
class Reading:
    """What a file holds. `folder` is where its relative paths begin: for a file of an editor, its workspace.

    `inputs` are the questions VS Code asks, by id.
    """

    file: Path
    folder: Path
    servers: list[FoundServer] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    inputs: dict[str, str] = field(default_factory=dict)


def read_servers(file: Path) -> Reading:
    """Read a file of a client (JSON with comments, TOML, YAML), or a document of ours.

    Raises:
        ConfigError: it cannot be read or parsed, or names no servers at all.
    """
    text = read_text(file, limit_bytes=MAX_BYTES)
    if text is None:
        raise ConfigError("there is no such file", source=str(file))
    root = _parse(file, text)
    folder = file.absolute().parent
    reading = Reading(file, folder.parent if folder.name in _FOLDERS_OF_EDITORS else folder)
    if not isinstance(root, dict):
        raise ConfigError("holds no mapping, so no servers either", source=str(file))
    taken = _take_tables(root, reading)
    if not taken:
        known = ", ".join(dotted(path) for path in (*_CLIENT_TABLES[:5], _OURS))
        raise ConfigError(f"names no servers; looked for: {known}", source=str(file))
    _take_inputs(root, reading)
    _note_others(root, taken, reading)
    return reading


def _parse(file: Path, text: str) -> Any:
    """Parse by the file's ending; without a known one it is JSON if it begins like it."""
    if file.suffix == ".toml":
        return _parsed(file, "TOML", tomllib.loads, text)
    is_json = file.suffix in (".json", ".jsonc") or text.lstrip("\ufeff \t\r\n").startswith(
        ("{", "//", "/*")
    )
    if is_json:
        return _parsed(file, "JSON", parse_jsonc, text)
    return parse_yaml(text.encode(), source=str(file)).value


def _parsed(file: Path, kind: str, parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except (ValueError, RecursionError) as exc:
        raise ConfigError(f"cannot be read as {kind}: {exc}", source=str(file)) from None


def _take_tables(root: Mapping[str, Any], reading: Reading) -> set[str]:
    """Take every table of servers there is; give the members of the root they stand in."""
    taken: set[str] = set()
    for path in (*_CLIENT_TABLES, _OURS):
        if path == ("mcp",) and "mcp" in taken:
            continue
        table: Any = root
        for key in path:
            table = table.get(key) if isinstance(table, dict) else None
        if isinstance(table, (dict, list)):
            taken.add(str(path[0]))
            reading.servers.extend(_members(table, path, reading))
    return taken


def _members(table: Any, path: KeyPath, reading: Reading) -> Iterator[FoundServer]:
    is_ours = path == _OURS
    members = table.items() if isinstance(table, dict) else enumerate(table)
    for key, server in members:
        place = (*path, key)
        if not isinstance(server, dict):
            reading.left.append(Left(dotted(place), "is no server"))
        elif is_ours:
            yield FoundServer(str(key), dict(server), place, is_ours=True)
        else:
            name = key if isinstance(key, str) else str(server.get("name") or f"server-{key + 1}")
            yield FoundServer(name, common_shape(server), place)


def _take_inputs(root: Mapping[str, Any], reading: Reading) -> None:
    """Take the questions VS Code asks for values it does not keep in the file."""
    nested = root.get("mcp")
    for holder in (root, nested if isinstance(nested, dict) else {}):
        inputs = holder.get("inputs")
        for one in inputs if isinstance(inputs, list) else ():
            if isinstance(one, dict) and isinstance(one.get("id"), str):
                reading.inputs[one["id"]] = str(one.get("description") or one["id"])


def _note_others(root: Mapping[str, Any], taken: set[str], reading: Reading) -> None:
    """Say what else stands in the file."""
    others = [key for key in root if key not in taken and key != "inputs"]
    if "upstreams" in taken or set(others) & (set(Document.model_fields) - {"version"}):
        for key in (key for key in others if key != "version"):
            reading.left.append(Left(str(key), "only servers are taken over"))
        return
    projects = root.get("projects")
    for folder, project in projects.items() if isinstance(projects, dict) else ():
        inner = project.get("mcpServers") if isinstance(project, dict) else None
        if inner:
            names = ", ".join(map(str, inner))
            message = f"servers of that folder alone: {names}"
            reading.left.append(Left(f"projects.{folder}.mcpServers", message))
    if others:
        more = f" and {len(others) - _NAMED_KEYS} more" if len(others) > _NAMED_KEYS else ""
        named = ", ".join(map(str, others[:_NAMED_KEYS]))
        reading.left.append(Left("", f"other settings of the client: {named}{more}"))
