"""One entry put into the document or taken out of it, as text.

Knows where an entry of a block begins and ends, for YAML written with indentation and for YAML written with
braces (JSON is that). All other characters of the file stay as they are: only places are looked up, nothing
is written anew. Refuses what it cannot edit so: the result is read again and must be exactly what was meant.
"""

from __future__ import annotations

import copy
import io
import json
import re
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from waygate_mcp.config.yaml_text import parse_yaml
from waygate_mcp.errors import ConfigError

__all__ = ["drop_entry", "put_entry", "set_member"]

_BOM = "\ufeff"
_WIDTH = 1_000_000
_MAX_STEP = 8
_NOTHING = re.compile(r"(?:~|null|Null|NULL|\{\s*\})")


def put_entry(text: str, block: str, name: str, value: Mapping[str, Any], *, source: str) -> str:
    """Give the document with `value` at `block.name`, in the place of what was there, else at the end.

    `block` is made where there is none.

    Raises:
        ConfigError: the text is no valid YAML of ours, or cannot be edited; `source` names the file.
    """
    wanted = _value_of(text, source)
    inner = wanted.get(block)
    if inner is not None and not isinstance(inner, dict):
        raise ConfigError("is no mapping", path=block, source=source)
    wanted[block] = {**(inner or {}), name: dict(value)}
    return _checked(_Text(text).put(block, name, dict(value)), wanted, block, source)


def drop_entry(text: str, block: str, name: str, *, source: str) -> str:
    """Give the document without `block.name`, which must be there. See `put_entry`."""
    wanted = _value_of(text, source)
    del wanted[block][name]
    return _checked(_Text(text).drop(block, name), wanted, block, source)


def set_member(text: str, block: str, name: str, member: str, value: Any, *, source: str) -> str:
    """Give the document with `value` at `block.name.member`; the entry must be there. See `put_entry`."""
    wanted = _value_of(text, source)
    wanted[block][name] = {**wanted[block][name], member: value}
    return _checked(_Text(text).set(block, name, member, value), wanted, block, source)


def _value_of(text: str, source: str) -> dict[str, Any]:
    value = parse_yaml(text.encode(), source=source).value
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError("does not hold a mapping", source=source)
    return copy.deepcopy(value)


def _checked(text: str, wanted: dict[str, Any], block: str, source: str) -> str:
    """Make sure that the edit did what was meant, and nothing else."""
    try:
        is_meant = parse_yaml(text.encode()).value == wanted
    except ConfigError:
        is_meant = False
    if not is_meant:
        raise ConfigError(
            "is written in a way that cannot be edited here (aliases?); change it by hand",
            path=block,
            source=source,
        )
    return text


class _Text:
    """A document that is being edited: its text, and its nodes with their places."""

    def __init__(self, text: str) -> None:
        self._bom = _BOM if text.startswith(_BOM) else ""
        self._text = text.removeprefix(_BOM)
        self._break = "\r\n" if "\r\n" in self._text else "\n"
        try:
            root = YAML(typ="rt", pure=True).compose(self._text)
        except YAMLError as exc:  # parse_yaml read it, so this is a quarrel of details
            raise ConfigError(f"cannot be edited: {exc}") from None
        self._root = root if isinstance(root, MappingNode) else None

    # --- putting

    def put(self, block: str, name: str, value: dict[str, Any]) -> str:
        """Put an entry where it belongs."""
        return self._bom + self._put(block, name, value)

    def set(self, block: str, name: str, member: str, value: Any) -> str:
        """Set one member of an entry that is there."""
        assert self._root is not None
        found = _find(self._root, block)
        assert found is not None
        key, node = found
        if _is_elsewhere(key, node) or not isinstance(node, MappingNode):
            return self._bom + self._text
        entry = _find(node, name)
        old = None if entry is None else _find(entry[1], member)
        if old is not None and isinstance(old[1], ScalarNode) and not _is_elsewhere(*old):
            # In its place, so that a comment beside it stays.
            start, end = old[1].start_mark.index, old[1].end_mark.index
            return self._bom + self._splice(start, end, self._json(value, 0))
        self._root = node  # the entry is to this mapping what a block is to the whole
        return self._bom + self._put(name, member, value)

    def _put(self, block: str, name: str, value: Any) -> str:
        root = self._root
        found = None if root is None else _find(root, block)
        if root is None or found is None:
            if root is not None and root.flow_style:
                return self._into_braces(root, block, {name: value})
            return self._append_lines({block: {name: value}})
        key, node = found
        if _is_elsewhere(key, node):
            return self._text
        if not isinstance(node, MappingNode) or not node.value:
            return self._fill(root, key, node, {name: value})
        old = _find(node, name)
        if node.flow_style:
            if old is None:
                return self._into_braces(node, name, value)
            start, end = old[1].start_mark.index, old[1].end_mark.index
            return self._splice(start, end, self._json(value, old[0].start_mark.column))
        column = node.value[0][0].start_mark.column
        if old is None:
            return self._insert_lines(_last_line(node, self._text) + 1, {name: value}, column)
        first, last = old[0].start_mark.line, _last_line(old[1], self._text)
        return self._replace_lines(first, last + 1, self._block({name: value}, column))

    def _fill(self, root: MappingNode, key: Node, node: Node, value: dict[str, Any]) -> str:
        """Give a block that is empty its first entry."""
        start, end = node.start_mark.index, node.end_mark.index
        there = self._text[start:end]
        if root.flow_style:
            return self._splice(start, end, self._json(value, key.start_mark.column))
        if there and _NOTHING.fullmatch(there.strip()):
            begin = len(self._text[:start].rstrip(" "))
            self._text = self._text[:begin] + self._text[end:]
        column = key.start_mark.column + self._step()
        return self._insert_lines(key.start_mark.line + 1, value, column)

    def _into_braces(self, node: MappingNode, name: str, value: Any) -> str:
        """Put a last member between braces; on a line of its own where the others have one."""
        if not node.value:
            start, end = node.start_mark.index, node.end_mark.index
            return self._splice(start, end, self._json({name: value}, node.start_mark.column))
        last_key, last = node.value[-1]
        is_spread = last_key.start_mark.line != node.start_mark.line
        column = last_key.start_mark.column if is_spread else 0
        gap = f"{self._break}{' ' * column}" if is_spread else " "
        text = self._json(value, column) if is_spread else json.dumps(value, ensure_ascii=False)
        member = f",{gap}{json.dumps(name, ensure_ascii=False)}: {text}"
        return self._splice(last.end_mark.index, last.end_mark.index, member)

    def _append_lines(self, value: dict[str, Any]) -> str:
        """Put a new block at the end, before the mark that ends a document."""
        lines = self._lines()
        ends = [number for number, line in enumerate(lines) if line.rstrip() == "..."]
        at = ends[-1] if ends else len(lines)
        gap = [self._break] if at and lines[at - 1].strip() else []
        return self._replace_lines(at, at, [*gap, *self._block(value, 0)])

    # --- dropping

    def drop(self, block: str, name: str) -> str:
        """Take an entry out; a block that would be empty says so."""
        assert self._root is not None
        found = _find(self._root, block)
        assert found is not None
        key, node = found
        old = _find(node, name)
        if old is None or _is_elsewhere(key, node) or not isinstance(node, MappingNode):
            return self._bom + self._text
        return self._bom + (
            self._drop_member(node, old) if node.flow_style else self._drop_lines(key, node, old)
        )

    def _drop_member(self, node: MappingNode, old: tuple[Node, Node]) -> str:
        members = node.value
        at = next(number for number, one in enumerate(members) if one[0] is old[0])
        if len(members) == 1:
            return self._splice(node.start_mark.index, node.end_mark.index, "{}")
        if at == 0:
            return self._splice(old[0].start_mark.index, members[1][0].start_mark.index, "")
        before = members[at - 1][1]
        return self._splice(before.end_mark.index, old[1].end_mark.index, "")

    def _drop_lines(self, key: Node, node: MappingNode, old: tuple[Node, Node]) -> str:
        first, last = old[0].start_mark.line, _last_line(old[1], self._text)
        lines = self._lines()
        del lines[first : last + 1]
        if len(node.value) == 1:
            line = key.start_mark.line
            colon = lines[line].index(":", key.end_mark.column)
            lines[line] = f"{lines[line][: colon + 1]} {{}}{lines[line][colon + 1 :]}"
        return "".join(lines)

    # --- text

    def _lines(self) -> list[str]:
        return self._text.splitlines(keepends=True) if self._text else []

    def _splice(self, start: int, end: int, text: str) -> str:
        return self._text[:start] + text + self._text[end:]

    def _insert_lines(self, at: int, value: dict[str, Any], column: int) -> str:
        return self._replace_lines(at, at, self._block(value, column))

    def _replace_lines(self, first: int, end: int, new: list[str]) -> str:
        lines = self._lines()
        if first and first == len(lines) and not lines[-1].endswith(("\n", "\r")):
            lines[-1] += self._break
        lines[first:end] = new
        return "".join(lines)

    def _block(self, value: dict[str, Any], column: int) -> list[str]:
        """Write a value with indentation, as lines."""
        step = self._step()
        yaml = YAML(typ="rt", pure=True)
        yaml.width = _WIDTH
        yaml.indent(mapping=step, sequence=step + 2, offset=step)
        stream = io.StringIO()
        yaml.dump(value, stream)
        return [f"{' ' * column}{line}{self._break}" for line in stream.getvalue().splitlines()]

    def _json(self, value: Any, column: int) -> str:
        """Write a value between braces."""
        lines = json.dumps(value, indent=self._step(), ensure_ascii=False).split("\n")
        return f"{self._break}{' ' * column}".join(lines)

    def _step(self) -> int:
        """Give by how much this document indents."""
        members = [] if self._root is None else self._root.value
        for key, value in members:
            if isinstance(value, MappingNode) and value.value:
                first = value.value[0][0].start_mark
                found = first.column - key.start_mark.column
                if first.line != key.start_mark.line and 1 <= found <= _MAX_STEP:
                    return int(found)
        return 2


def _find(node: Node, name: str) -> tuple[Node, Node] | None:
    """Find the member of a mapping by its name."""
    if not isinstance(node, MappingNode):
        return None
    return next((one for one in node.value if one[0].value == name), None)


def _is_elsewhere(key: Node, node: Node) -> bool:
    """Tell whether a value is an alias, which cannot be edited here; the check refuses what comes of it."""
    return bool(node.start_mark.index < key.end_mark.index)


def _last_line(node: Node, text: str) -> int:
    """Give the number (from 0) of the last line a node has part in."""
    while isinstance(node, (MappingNode, SequenceNode)) and node.value and not node.flow_style:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    if isinstance(node, ScalarNode) and node.style in ("|", ">"):
        ahead = text[: node.end_mark.index].rstrip()
        return ahead.count("\n")
    return int(node.end_mark.line)
