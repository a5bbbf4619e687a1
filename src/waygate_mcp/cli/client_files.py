"""Files of MCP clients, edited so that nothing else in them changes.

Knows JSON, TOML and YAML as text. Refuses what it cannot parse: then nothing is written. What was
there is kept beside the file first, the new text appears whole or not at all, and a second run
changes nothing.
"""

from __future__ import annotations

import copy
import io
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from waygate_mcp.cli.clients import Client, Target, Transport, snippet, uses_frame
from waygate_mcp.config.files import keep_beside, write_whole
from waygate_mcp.errors import ConfigError

__all__ = ["as_text", "edited", "write_beside_backup"]

_INDENT = re.compile(r"\n([ \t]+)\S")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def as_text(client: Client, value: Mapping[str, Any]) -> str:
    """Write a value in the client's format."""
    if client.format == "json":
        return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    if client.format == "toml":
        return _table_text(value)
    return _yaml_text(_yaml(), value)


def edited(
    client: Client, text: str | None, target: Target, transport: Transport, source: str
) -> str:
    """Give the text of a client's file with the target in it; the same text where it was there.

    `text` None is a file that does not exist, `source` its name for errors.

    Raises:
        ConfigError: the text cannot be parsed, or holds something else where the servers belong.
    """
    if text is None or not text.strip():
        return as_text(client, snippet(client, target, transport))
    edit = {"json": _edit_json, "toml": _edit_toml, "yaml": _edit_yaml}[client.format]
    return edit(client, text, target, client.entry(target, transport), source)


def write_beside_backup(path: Path, text: str, *, is_secret: bool) -> Path | None:
    """Write `text` to `path` in one step; give where the old content is kept, if there was any.

    A link is followed. The mode of an existing file stays, but a file that holds a key is its owner's
    alone.

    Raises:
        ConfigError: the folder or file cannot be written.
    """
    backup = keep_beside(path) if path.exists() else None
    write_whole(path, text, is_secret=is_secret)
    return backup


def _place_entry(
    client: Client, root: Any, target: Target, entry: Mapping[str, Any], source: str
) -> Any:
    """Put an entry into a parsed file, in place; give the file."""
    if not isinstance(root, dict):
        raise ConfigError("does not hold a mapping", source=source)
    table: Any = root
    for depth, key in enumerate(client.path, start=1):
        is_last = depth == len(client.path)
        table = table.setdefault(key, [] if is_last and client.is_list else {})
    if client.is_list and isinstance(table, list):
        _place_in_list(table, target.name, entry)
    elif not client.is_list and isinstance(table, dict):
        if table.get(target.name) != entry:
            table[target.name] = copy.deepcopy(dict(entry))
    else:
        path = ".".join(client.path)
        raise ConfigError("is not what the client expects here", path=path, source=source)
    if uses_frame(client, dict(entry)):
        _place_inputs(client, root)
    return root


def _place_in_list(table: list[Any], name: str, entry: Mapping[str, Any]) -> None:
    """Replace the item of that name, or add one."""
    for position, one in enumerate(table):
        if isinstance(one, dict) and one.get("name") == name:
            if one != entry:
                table[position] = dict(entry)
            return
    table.append(dict(entry))


def _place_inputs(client: Client, root: dict[str, Any]) -> None:
    """Add what an entry refers to, unless it is there."""
    for key, items in client.frame.items():
        there = root.setdefault(key, [])
        if isinstance(there, list):
            ids = [one.get("id") for one in there if isinstance(one, dict)]
            there.extend(copy.deepcopy(one) for one in items if one["id"] not in ids)


# --- JSON


def _edit_json(
    client: Client, text: str, target: Target, entry: Mapping[str, Any], source: str
) -> str:
    """Edit JSON; the file keeps its indentation, its order and its last line break."""
    root = _parse_json(text.removeprefix("\ufeff"), source)
    before = copy.deepcopy(root)
    _place_entry(client, root, target, entry, source)
    if root == before:
        return text
    found = _INDENT.search(text)
    end = "\n" if text.endswith("\n") else ""
    return _json_text(root, "  " if found is None else found.group(1)) + end


def _json_text(value: Any, indent: str, before: str = "\n") -> str:
    """Write JSON with an indentation, numbers as they were read."""
    if isinstance(value, _Number):
        return value.text
    inner = before + indent
    if isinstance(value, dict) and value:
        lines = [
            f"{json.dumps(key, ensure_ascii=False)}: {_json_text(one, indent, inner)}"
            for key, one in value.items()
        ]
        return f"{{{inner}{f',{inner}'.join(lines)}{before}}}"
    if isinstance(value, list) and value:
        lines = [_json_text(one, indent, inner) for one in value]
        return f"[{inner}{f',{inner}'.join(lines)}{before}]"
    return json.dumps(value, ensure_ascii=False)


class _Number(float):
    """A number with a fraction that is written back as it was read."""

    text: str


def _number(text: str) -> _Number:
    value = _Number(text)
    value.text = text
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that stands twice: one of the two would be lost."""
    built = dict(pairs)
    if len(built) != len(pairs):
        raise ValueError("the same key stands twice")
    return built


def _parse_json(text: str, source: str) -> Any:
    """Parse JSON without comments; one with comments would lose them."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_float=_number)
    except (ValueError, RecursionError) as exc:
        message = f"cannot be read as JSON ({exc}); add the snippet by hand"
        raise ConfigError(message, source=source) from None


# --- TOML


def _toml_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key)


def _toml_value(value: Any) -> str:
    """Write a value; JSON's texts, flags and lists of texts are TOML's too."""
    if isinstance(value, dict):
        inner = ", ".join(f"{_toml_key(key)} = {_toml_value(one)}" for key, one in value.items())
        return f"{{ {inner} }}"
    return json.dumps(value, ensure_ascii=False)


def _edit_toml(
    client: Client, text: str, target: Target, entry: Mapping[str, Any], source: str
) -> str:
    """Edit TOML by lines: our table is replaced or added at the end, all others stay as they are."""
    root = _parse_toml(text, source)
    before = copy.deepcopy(root)
    _place_entry(client, root, target, entry, source)
    if root == before:
        return text
    inner: Any = {target.name: dict(entry)}
    for key in reversed(client.path):
        inner = {key: inner}
    kept = _without_table(text, (*client.path, target.name))
    joint = "" if not kept or kept.endswith("\n\n") else ("\n" if kept.endswith("\n") else "\n\n")
    new = kept + joint + _table_text(inner)
    if _parse_toml(new, source) != root:
        message = f"has {target.name!r} in a form that cannot be edited; add the snippet by hand"
        raise ConfigError(message, source=source)
    return new


def _table_text(value: Mapping[str, Any]) -> str:
    """Write one server's table under its header; its members are texts, flags or flat tables."""
    (outer, servers), *_ = value.items()
    ((name, table),) = servers.items()
    lines = [f"{_toml_key(key)} = {_toml_value(one)}" for key, one in table.items()]
    return "\n".join([f"[{_toml_key(outer)}.{_toml_key(name)}]", *lines]) + "\n"


def _without_table(text: str, path: tuple[str, ...]) -> str:
    """Leave out the lines of a table and of those below it."""
    kept: list[str] = []
    is_ours = False
    for line in text.splitlines(keepends=True):
        header = _header_of(line)
        if header is not None:
            is_ours = header[: len(path)] == path
        if not is_ours:
            kept.append(line)
    return "".join(kept)


def _header_of(line: str) -> tuple[str, ...] | None:
    """Read a table's header, None for other lines."""
    stripped = line.strip()
    if not stripped.startswith("["):
        return None
    try:
        table: Any = tomllib.loads(f"{stripped}\n")
    except tomllib.TOMLDecodeError:
        return None
    path: list[str] = []
    while isinstance(table, dict) and table:
        key, table = next(iter(table.items()))
        path.append(key)
    return tuple(path)


def _parse_toml(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"cannot be read as TOML: {exc}", source=source) from None


# --- YAML


def _yaml() -> YAML:
    """Make a reader and writer that keeps comments, quotes and order."""
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 4_096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _yaml_text(yaml: YAML, value: Any) -> str:
    stream = io.StringIO()
    yaml.dump(value, stream)
    return stream.getvalue()


def _edit_yaml(
    client: Client, text: str, target: Target, entry: Mapping[str, Any], source: str
) -> str:
    """Edit YAML with its comments kept."""
    yaml = _yaml()
    try:
        root = yaml.load(text)
        before = copy.deepcopy(root)
    except (YAMLError, RecursionError) as exc:
        raise ConfigError(f"cannot be read as YAML: {exc}", source=source) from None
    _place_entry(client, root, target, entry, source)
    return text if root == before else _yaml_text(yaml, root)
