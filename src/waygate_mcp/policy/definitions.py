"""What a definition is pinned by: a digest over every field of it, and the fields in which two differ.

Knows JSON, and which lists of a JSON Schema are sets. Refuses to know what a field means: all of them
count, those of extensions and `_meta` included.

Two definitions have the same digest where they are the same JSON value: the order of members, white
space, escapes and the way a number is written do not count; nor does the order in the schema keywords
`required`, `type` and `enum`, which are sets, and which servers write in any order.
Spec: threat model rules 15 and 24; JSON Schema 2020-12 validation 6.1 and 6.5.3.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import msgspec

__all__ = [
    "MAX_DEFINITION_BYTES",
    "FieldChange",
    "UnsafeDefinitionError",
    "changes_between",
    "digest_of",
    "fields_of",
    "parse_definition",
]

MAX_DEFINITION_BYTES = 1024 * 1024
MAX_DEPTH = 64
_MAX_FIELDS = 20_000
_SETS = frozenset({"required", "type", "enum"})
_DATA = frozenset({"default", "const", "examples", "enum"})
_SCHEMAS = ("inputSchema", "outputSchema")
_NAMED_SCHEMAS = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
)


class UnsafeDefinitionError(ValueError):
    """A definition that cannot be pinned, and why."""


class FieldChange(msgspec.Struct, frozen=True):
    """One field in which two definitions differ: JSON text, None where it is missing."""

    path: str
    old: str | None
    new: str | None


class _Number(str):
    """A number as it would be written if there were one way to write it."""

    __slots__ = ()


def parse_definition(definition: bytes | str) -> dict[str, Any]:
    """Read a definition strictly. Numbers become texts of their value, so that none is rounded.

    Raises:
        UnsafeDefinitionError: it is too large or too deep, has a member twice, or is no object.
    """
    size = len(definition)
    if size > MAX_DEFINITION_BYTES:
        raise UnsafeDefinitionError(f"it has {size} bytes, and {MAX_DEFINITION_BYTES} is the limit")
    try:
        value = json.loads(
            definition,
            object_pairs_hook=_members,
            parse_int=_number,
            parse_float=_number,
            parse_constant=_no_constant,
        )
    except UnsafeDefinitionError:
        raise
    except (ValueError, RecursionError) as exc:
        raise UnsafeDefinitionError("it is no JSON that can be read") from exc
    if not isinstance(value, dict):
        raise UnsafeDefinitionError("it is no JSON object")
    _check_depth(value)
    return value


def digest_of(kind: str, definition: bytes | str) -> str:
    """Give the digest of a definition, 64 hexadecimal digits.

    Raises:
        UnsafeDefinitionError: see `parse_definition`.
    """
    value = parse_definition(definition)
    for member in _SCHEMAS:
        if member in value:
            value[member] = _sorted_schema(value[member])
    text = json.dumps([kind, _marked(value)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def changes_between(old: str | None, new: str | None) -> tuple[FieldChange, ...]:
    """Give the fields in which two definitions differ, by path; None stands for no definition.

    Raises:
        UnsafeDefinitionError: see `parse_definition`.
    """
    before = {} if old is None else dict(fields_of(parse_definition(old)))
    after = {} if new is None else dict(fields_of(parse_definition(new)))
    found = []
    for path in dict.fromkeys((*before, *after)):
        one, other = before.get(path), after.get(path)
        if one != other:
            found.append(FieldChange(path, one, other))
    return tuple(found)


def fields_of(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Give path and JSON text of every leaf, as `inputSchema.properties.path.type`.

    Empty objects and lists are leaves. Beyond 20,000 fields the rest is left out.
    """
    left = _MAX_FIELDS
    stack = [(path, value)]
    while stack and left:
        here, each = stack.pop()
        if isinstance(each, dict) and each:
            stack.extend((_joined(here, key), each[key]) for key in reversed(each))
        elif isinstance(each, list) and each:
            stack.extend((f"{here}[{n}]", each[n]) for n in reversed(range(len(each))))
        else:
            left -= 1
            yield here, str(each) if type(each) is _Number else _text(each)


def _joined(path: str, key: str) -> str:
    """Add a member to a path; a name that is no plain word is quoted."""
    plain = key.replace("_", "a").replace("-", "a").replace("$", "a")
    shown = key if plain.isascii() and plain.isalnum() else json.dumps(key)
    return f"{path}.{shown}" if path else shown


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise UnsafeDefinitionError("it has a member twice, and clients may read either")
    return members


def _number(text: str) -> _Number:
    """Write a number in the one way: digits without zeros at either end, and an exponent.

    Done with text alone, since a number may have any length.
    """
    sign, text = ("-", text[1:]) if text.startswith("-") else ("", text)
    mantissa, _, exponent = text.lower().partition("e")
    if len(exponent) > 20:
        raise UnsafeDefinitionError("it has a number beyond all bounds")
    whole, _, part = mantissa.partition(".")
    digits = (whole + part).lstrip("0")
    kept = digits.rstrip("0")
    if not kept:
        return _Number("0")
    power = int(exponent or "0") - len(part) + len(digits) - len(kept)
    if 0 <= power <= 20:
        return _Number(sign + kept + "0" * power)
    if power > 20:
        return _Number(f"{sign}{kept}e{power}")
    if len(kept) > -power:
        return _Number(f"{sign}{kept[:power]}.{kept[power:]}")
    if power >= -20:
        return _Number(f"{sign}0.{'0' * (-power - len(kept))}{kept}")
    return _Number(f"{sign}{kept}e{power}")


def _no_constant(text: str) -> Any:
    raise UnsafeDefinitionError(f"it holds {text}, which is no JSON")


def _check_depth(value: Any) -> None:
    """Refuse what is nested deeper than anybody writes, before anything walks it by recursion."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise UnsafeDefinitionError(f"it is nested deeper than {MAX_DEPTH} levels")
        level = [
            child
            for each in level
            if isinstance(each, dict | list)
            for child in (each.values() if isinstance(each, dict) else each)
        ]


def _marked(value: Any) -> Any:
    """Tell numbers from texts that look the same."""
    if type(value) is _Number:
        return {"": str(value)}
    if isinstance(value, dict):
        return {f".{key}": _marked(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_marked(child) for child in value]
    return value


def _sorted_schema(schema: Any) -> Any:
    """Put the sets of a schema in order, and nothing that is data of the one who wrote it."""
    if isinstance(schema, list):
        return [_sorted_schema(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _sorted_member(key, value) for key, value in schema.items()}


def _sorted_member(key: str, value: Any) -> Any:
    if key in _SETS and isinstance(value, list):
        return sorted(value, key=lambda each: json.dumps(_marked(each), sort_keys=True))
    if key in _DATA:
        return value
    if key in _NAMED_SCHEMAS and isinstance(value, dict):
        return {name: _sorted_schema(each) for name, each in value.items()}
    return _sorted_schema(value)
