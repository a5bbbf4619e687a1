"""Pydantic's findings in our words.

Knows how to say what is wrong with a value, where it stands in the file, and which known key is
nearest to an unknown one. No message holds a value from the document: it might be a secret.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from waygate_mcp.config.patterns import (
    BOUND_PATTERN,
    GRANT_PATTERN,
    NAME_PATTERN,
    PREFIX_PATTERN,
    PUBLIC_NAME_PATTERN,
    SCHEME_PATTERN,
    SCOPE_PATTERN,
    TOKEN_TYPE_PATTERN,
    URI_PREFIX_PATTERN,
    USE_PATTERN,
)
from waygate_mcp.config.suggest import nearest
from waygate_mcp.config.yaml_text import KeyPath, YamlText, dotted
from waygate_mcp.errors import ConfigProblem

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
    "tuple_type": "a list",
    "list_type": "a list",
    "int_parsing": "a whole number",
    "float_parsing": "a number",
    "bool_parsing": "true or false",
}
_PATTERNS = {
    NAME_PATTERN: "1 to 63 of `a-z 0-9 _ -`, beginning with a letter or digit",
    PREFIX_PATTERN: "at most 63 of `a-z 0-9 _ -`, beginning with a letter or digit",
    PUBLIC_NAME_PATTERN: "1 to 64 of `A-Z a-z 0-9 _ -`",
    URI_PREFIX_PATTERN: "1 to 32 of `a-z 0-9 . -`, beginning with a letter",
    SCHEME_PATTERN: "the scheme of a URI: 1 to 64 of `a-z 0-9 + . -`, beginning with a letter",
    SCOPE_PATTERN: "one scope: visible ASCII without blanks, quotes and backslashes",
    GRANT_PATTERN: "the name of a role, a permission such as `tools:call`, or `*`",
    TOKEN_TYPE_PATTERN: "a token type such as `at+jwt`, in lower case",
    BOUND_PATTERN: "the name of a plugin, or `*`",
    USE_PATTERN: "`module`, `./file.py`, either with `:attribute`, or the name of an entry point",
}
_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),
    (int, "a whole number"),
    (float, "a number"),
    (str, "text"),
    (dict, "a mapping"),
    (list, "a list"),
)


def translate(
    exc: ValidationError,
    model: type[BaseModel],
    text: YamlText,
    relocate: Callable[[KeyPath], KeyPath] = lambda path: path,
) -> tuple[ConfigProblem, ...]:
    """Give one problem for each finding, in the order of the file.

    `relocate` says where in the file stands what the model has at a path.
    """
    seen: dict[tuple[KeyPath, str], ConfigProblem] = {}
    for error in exc.errors(include_url=False):
        found, on_key = _path(error["loc"])
        message, suggestion = _words(error, found, model)
        path = relocate(found)
        place = text.place(path, of_key=on_key or error["type"] == "extra_forbidden")
        line, column = place or (None, None)
        problem = ConfigProblem(dotted(path), message, line, column, suggestion)
        seen.setdefault((path, message), problem)
    return tuple(sorted(seen.values(), key=lambda each: (each.line or 0, each.column or 0)))


def known_keys(model: type[BaseModel], path: KeyPath) -> tuple[str, ...]:
    """Give the keys that are known in the mapping at `path`; none where any key is allowed."""
    current: Any = model
    for part in path:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(str(part))
            current = field.annotation if field else None
        else:
            current = next(iter(get_args(current)[1:]), None)
    if isinstance(current, type) and issubclass(current, BaseModel):
        return tuple(current.model_fields)
    return ()


def _path(loc: tuple[int | str, ...]) -> tuple[KeyPath, bool]:
    # Pydantic marks a finding about a key with a last part "[key]", and names the branch of a
    # union in the path; neither is a key of the document.
    on_key = bool(loc) and loc[-1] == "[key]"
    parts = loc[:-1] if on_key else loc
    return tuple(p for p in parts if not (isinstance(p, str) and _is_branch(p))), on_key


def _is_branch(part: str) -> bool:
    return part.startswith(("constrained-str", "function-", "literal[", "str["))


def describe(error: ErrorDetails) -> tuple[str, str | None]:
    """Say what is wrong with a value, without the value, and which allowed word is nearest."""
    kind = error["type"]
    if kind == "missing":
        return "is required", None
    if kind == "literal_error":
        return _choice(error)
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, found {_found(error['input'])}", None
    message = _BOUNDS[kind](error.get("ctx", {})) if kind in _BOUNDS else error["msg"]
    return message.removeprefix("Value error, "), None


def _words(error: ErrorDetails, path: KeyPath, model: type[BaseModel]) -> tuple[str, str | None]:
    if error["type"] != "extra_forbidden":
        return describe(error)
    known = known_keys(model, path[:-1])
    hint = nearest(str(path[-1]), known)
    listed = "" if hint else f"; known here: {', '.join(known)}"
    return f"unknown key{listed}", hint


def _choice(error: ErrorDetails) -> tuple[str, str | None]:
    # "'keys' or 'none'", "1": the words of the schema, not of the document.
    expected = str(error.get("ctx", {}).get("expected", ""))
    words = [word.strip("' ") for word in expected.replace(" or ", ",").split(",")]
    found = error["input"]
    hint = nearest(found, words) if isinstance(found, str) else None
    return f"expected {' or '.join(words)}, found {_kind_or_other(found)}", hint


def _kind_or_other(value: object) -> str:
    return "another word" if isinstance(value, str) else _found(value)


def _found(value: object) -> str:
    if value is None:
        return "nothing"
    return next((words for kind, words in _KINDS if isinstance(value, kind)), "something else")


def _pattern(pattern: str) -> str:
    return f"expected {_PATTERNS.get(pattern, f'text that fits {pattern}')}"


_BOUNDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "greater_than": lambda ctx: f"must be more than {ctx['gt']:.15g}",
    "greater_than_equal": lambda ctx: f"must be at least {ctx['ge']:.15g}",
    "less_than": lambda ctx: f"must be less than {ctx['lt']:.15g}",
    "less_than_equal": lambda ctx: f"must be at most {ctx['le']:.15g}",
    "too_long": lambda ctx: f"has more than {ctx['max_length']} entries",
    "string_too_long": lambda ctx: f"is longer than {ctx['max_length']} characters",
    "string_too_short": lambda ctx: f"is shorter than {ctx['min_length']} characters",
    "string_pattern_mismatch": lambda ctx: _pattern(ctx["pattern"]),
    "finite_number": lambda _: "must be a finite number",
}
