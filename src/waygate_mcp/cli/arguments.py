"""Arguments of a tool or prompt, as people type them.

Knows three forms: one JSON object, `-` for JSON on standard input, or `key=value` pairs whose values
are read as the entry's schema says. Pure: standard input is read by whoever calls.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from waygate_mcp.config.suggest import nearest

__all__ = ["ArgumentsError", "parse_json_object", "parse_pairs", "wants_stdin"]


class ArgumentsError(ValueError):
    """What was typed cannot be read as arguments; the text says why."""


def wants_stdin(words: Sequence[str]) -> bool:
    """Tell whether the arguments stand on standard input."""
    return list(words) == ["-"]


def parse_json_object(text: str) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        ArgumentsError: it is something else.
    """
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise ArgumentsError(f"the arguments are not valid JSON: {exc}") from None
    if not isinstance(value, dict):
        raise ArgumentsError("the arguments must be a JSON object")
    return value


def parse_pairs(words: Sequence[str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Read `key=value` pairs, or one JSON object, by a JSON Schema of type object.

    Text stays text where the schema allows it; other values are read as JSON (`n=3`, `on=true`,
    `list=[1,2]`). A key typed several times makes a list where the schema wants one.

    Raises:
        ArgumentsError: a word without `=`, a key the schema does not have and does not allow, a value
            it cannot have.
    """
    if len(words) == 1 and words[0].lstrip().startswith("{"):
        return parse_json_object(words[0])
    properties = schema.get("properties")
    known: Mapping[str, Any] = properties if isinstance(properties, dict) else {}
    built: dict[str, Any] = {}
    for word in words:
        key, separator, text = word.partition("=")
        if not separator or not key:
            raise ArgumentsError(f"{word!r} is neither key=value nor a JSON object")
        if key not in known and schema.get("additionalProperties") is False:
            hint = nearest(key, known)
            raise ArgumentsError(
                f"there is no argument {key!r}" + (f"; did you mean {hint!r}?" if hint else "")
            )
        value = _typed(key, text, known.get(key))
        if key not in built:
            built[key] = value
        elif isinstance(built[key], list):
            built[key].extend(value if isinstance(value, list) else [value])
        else:
            raise ArgumentsError(f"the argument {key!r} stands twice")
    return built


def _types_of(schema: Any) -> set[str]:
    """Collect the JSON types a schema allows, as far as it says so; empty for anything."""
    if not isinstance(schema, dict):
        return set()
    declared = schema.get("type")
    types = {declared} if isinstance(declared, str) else set()
    if isinstance(declared, list):
        types |= {one for one in declared if isinstance(one, str)}
    for word in ("anyOf", "oneOf"):
        for choice in schema.get(word) or ():
            types |= _types_of(choice)
    if not types and isinstance(schema.get("enum"), list):
        types = {_type_name(one) for one in schema["enum"]}
    return types


def _type_name(value: Any) -> str:
    """Name the JSON type of a value."""
    names = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return "null" if value is None else names.get(type(value), "object")


def _typed(key: str, text: str, schema: Any) -> Any:
    """Read one value by its schema."""
    types = _types_of(schema)
    if types == {"string"} or not types:
        return text
    if types == {"array"} and not text.lstrip().startswith("["):
        items = schema.get("items") if isinstance(schema, dict) else None
        return [_typed(key, text, items)]
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if _fits(value, types):
        return value
    if "string" in types:
        return text
    raise ArgumentsError(f"{key}={text}: expected {' or '.join(sorted(types))}")


def _fits(value: Any, types: set[str]) -> bool:
    """Tell whether a value is of one of these types."""
    if isinstance(value, list):
        return "array" in types
    if isinstance(value, dict):
        return "object" in types
    name = _type_name(value)
    return name in types or (name == "integer" and "number" in types)
