"""YAML text as plain values, with the place of each.

Knows the part of YAML 1.2 a configuration needs: mappings, lists, plain scalars of the core schema,
anchors and aliases. Refuses tags (so nothing is ever constructed but plain values), merge keys,
duplicate keys, keys that are not text, several documents in a file, and whatever exceeds the limits
below, before it is built. Works on the event stream and without recursion, so that no nesting can
exhaust the stack.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StreamMark, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from waygate_mcp.errors import ConfigError, ConfigProblem

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_VALUES = 50_000
"""How many values a document may hold, each alias counted as all it stands for."""

KeyPath = tuple[str | int, ...]
Place = tuple[int, int]
"""Line and column, counted from 1."""

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]{1,100}|0o[0-7]{1,100}|0x[0-9a-fA-F]{1,100}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NON_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


@dataclass(frozen=True, slots=True)
class YamlText:
    """A parsed document: its value, and where keys and values stand in the file."""

    value: Any
    keys: dict[KeyPath, Place] = field(default_factory=dict)
    values: dict[KeyPath, Place] = field(default_factory=dict)

    def place(self, path: KeyPath, *, of_key: bool = False) -> Place | None:
        """Give the place of the value at `path` (or of its key), else of the nearest around it."""
        if of_key and path in self.keys:
            return self.keys[path]
        for end in range(len(path), -1, -1):
            if (found := self.values.get(path[:end])) is not None:
                return found
        return None


def dotted(path: KeyPath) -> str:
    """Write a path for people: `endpoints.dev.bind[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def parse_yaml(data: bytes, *, source: str = "") -> YamlText:
    """Parse one YAML document; an empty one has the value None.

    Raises:
        ConfigError: the first thing that is not allowed, with line and column. `source` names the
            file in the message.
    """
    if len(data) > MAX_BYTES:
        raise ConfigError(f"the file is larger than {MAX_BYTES} bytes", source=source)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        problem = ConfigProblem(path="", message="the text is not UTF-8", line=line, column=1)
        raise ConfigError(problems=(problem,), source=source) from None
    builder = _Builder()
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            builder.take(event)
    except _RefusedError as exc:
        raise ConfigError(problems=(exc.problem,), source=source) from None
    except YAMLError as exc:
        raise ConfigError(problems=(_syntax_problem(exc),), source=source) from None
    except (ValueError, OverflowError):
        # The library passes on Python's refusal of `"\\U00110000"`, without a place.
        problem = ConfigProblem("", "not YAML: an escape that stands for no character")
        raise ConfigError(problems=(problem,), source=source) from None
    return YamlText(builder.root, builder.keys, builder.values)


class _RefusedError(Exception):
    """Well-formed YAML that we do not take."""

    def __init__(self, message: str, place: Place, path: KeyPath) -> None:
        line, column = place
        self.problem = ConfigProblem(dotted(path), message, line, column)
        super().__init__(message)


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end has not come yet."""

    value: dict[str, Any] | list[Any]
    path: KeyPath
    anchor: str | None
    size: int = 1
    key: str | None = None


@dataclass(slots=True)
class _Builder:
    """Builds plain values from events, with a stack of its own."""

    root: Any = None
    keys: dict[KeyPath, Place] = field(default_factory=dict)
    values: dict[KeyPath, Place] = field(default_factory=dict)
    open: list[_Open] = field(default_factory=list)
    anchors: dict[str, tuple[Any, int]] = field(default_factory=dict)
    count: int = 0
    documents: int = 0

    def take(self, event: Event) -> None:
        """Handle one event of the parser."""
        if isinstance(event, ScalarEvent):
            self._scalar(event)
        elif isinstance(event, (MappingStartEvent, SequenceStartEvent)):
            self._start(event)
        elif isinstance(event, (MappingEndEvent, SequenceEndEvent)):
            self._end()
        elif isinstance(event, AliasEvent):
            self._alias(event)
        elif isinstance(event, DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise _RefusedError("a second document in one file", _place(event), ())

    def _scalar(self, event: ScalarEvent) -> None:
        self._refuse_tag(event)
        if not event.value.isascii() and _SURROGATE.search(event.value):
            raise _RefusedError("half a character (`\\ud800` …)", _place(event), self._path())
        if self._expects_key():
            self._key(event)
            return
        value = event.value if not event.implicit[0] else self._plain(event)
        self._add(event, value, 1)

    def _plain(self, event: ScalarEvent) -> Any:
        text = event.value
        if text in _NULL:
            return None
        if text in _BOOL:
            return _BOOL[text]
        if _INT.fullmatch(text):
            # Unlike Python, YAML takes leading zeros as decimal.
            prefixed = text.startswith(("0o", "0x"))
            return int(text, 0) if prefixed else int(text)
        if _NON_FINITE.fullmatch(text):
            raise _RefusedError(f"{text} is not a number we take", _place(event), self._path())
        if len(text) <= 100 and _FLOAT.fullmatch(text):
            number = float(text)
            if math.isinf(number):
                raise _RefusedError("the number is too large", _place(event), self._path())
            return number
        return text

    def _key(self, event: ScalarEvent) -> None:
        top = self.open[-1]
        key = event.value
        path = (*top.path, key)
        if key == "<<" and event.implicit[0]:
            raise _RefusedError("merge keys (`<<`) are not supported", _place(event), top.path)
        if event.implicit[0] and not isinstance(self._plain(event), str):
            raise _RefusedError(
                f"a key must be text; quote it: '{key[:50]}'", _place(event), top.path
            )
        if path in self.keys:
            line = self.keys[path][0]
            raise _RefusedError(f"the key stands twice, first in line {line}", _place(event), path)
        if event.anchor:
            raise _RefusedError("a key cannot have an anchor", _place(event), path)
        self.keys[path] = _place(event)
        top.key = key

    def _start(self, event: MappingStartEvent | SequenceStartEvent) -> None:
        self._refuse_tag(event)
        if self._expects_key():
            raise _RefusedError("a key must be text", _place(event), self.open[-1].path)
        if len(self.open) >= MAX_DEPTH:
            raise _RefusedError(
                f"nested deeper than {MAX_DEPTH} levels", _place(event), self._path()
            )
        path = self._path()
        self.values[path] = _place(event)
        value: dict[str, Any] | list[Any] = {} if isinstance(event, MappingStartEvent) else []
        self._tally(event, 1)
        self.open.append(_Open(value, path, event.anchor))

    def _end(self) -> None:
        closed = self.open.pop()
        if closed.anchor:
            self.anchors[closed.anchor] = (closed.value, closed.size)
        self._place_value(closed.value, closed.size)

    def _alias(self, event: AliasEvent) -> None:
        if self._expects_key():
            raise _RefusedError("a key must be text", _place(event), self.open[-1].path)
        name = event.anchor
        if name not in self.anchors:
            # Also the case of an alias inside its own anchor, which would never end.
            raise _RefusedError(f"unknown anchor {name[:50]!r}", _place(event), self._path())
        value, size = self.anchors[name]
        self._tally(event, size)
        self.values[self._path()] = _place(event)
        self._place_value(value, size)

    def _add(self, event: ScalarEvent, value: Any, size: int) -> None:
        self.values[self._path()] = _place(event)
        self._tally(event, size)
        if event.anchor:
            self.anchors[event.anchor] = (value, size)
        self._place_value(value, size)

    def _place_value(self, value: Any, size: int) -> None:
        if not self.open:
            self.root = value
            return
        top = self.open[-1]
        top.size += size
        if isinstance(top.value, list):
            top.value.append(value)
        else:
            assert top.key is not None
            top.value[top.key] = value
            top.key = None

    def _tally(self, event: Event, size: int) -> None:
        self.count += size
        if self.count > MAX_VALUES:
            message = f"more than {MAX_VALUES} values, aliases counted as what they stand for"
            raise _RefusedError(message, _place(event), ())

    def _expects_key(self) -> bool:
        return (
            bool(self.open)
            and isinstance(self.open[-1].value, dict)
            and (self.open[-1].key is None)
        )

    def _path(self) -> KeyPath:
        if not self.open:
            return ()
        top = self.open[-1]
        part = len(top.value) if isinstance(top.value, list) else top.key
        return top.path if part is None else (*top.path, part)

    def _refuse_tag(self, event: ScalarEvent | MappingStartEvent | SequenceStartEvent) -> None:
        if event.tag is not None:
            raise _RefusedError("tags (`!…`) are not supported", _place(event), self._path())


def _place(event: Event) -> Place:
    mark: StreamMark = event.start_mark
    return mark.line + 1, mark.column + 1


def _syntax_problem(exc: YAMLError) -> ConfigProblem:
    mark = getattr(exc, "problem_mark", None) or getattr(exc, "context_mark", None)
    if not isinstance(exc, MarkedYAMLError) or mark is None:
        # A character YAML does not allow; the reader's text names it by number only.
        return ConfigProblem("", f"not YAML: {str(exc).splitlines()[0][:200]}")
    words = ", ".join(part for part in (exc.context, exc.problem) if part)
    return ConfigProblem("", f"not YAML: {words[:300]}", mark.line + 1, mark.column + 1)
