"""Docstrings as a source of descriptions.

Knows sections in Google's form (`Args:`) and fields in Sphinx's (`:param name:`). Refuses to guess:
what it does not recognise stays part of the description.
"""

from __future__ import annotations

import re

import msgspec

__all__ = ["Doc", "parse_docstring"]

_ARGS = frozenset({"args:", "arguments:", "parameters:"})
_DROPPED = frozenset({"returns:", "return:", "raises:", "yields:", "yield:"})
_ITEM = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")
_FIELD = re.compile(r":(param|parameter|arg)\s+(?:[^:]*\s)?(\w+)\s*:\s*(.*)")
_OTHER_FIELD = re.compile(r":(returns?|raises?|rtype|type|yields?)\b[^:]*:")


class Doc(msgspec.Struct, frozen=True):
    """What a docstring says: of the whole, and of each parameter by its name."""

    text: str
    parameters: dict[str, str]


def parse_docstring(docstring: str) -> Doc:
    """Split a docstring, already dedented, into its text and its parameters' descriptions.

    Sections about results and errors are left out: schemas say them, and clients pay by the token.
    """
    text: list[str] = []
    parameters: dict[str, str] = {}
    section = ""
    current = ""
    for line in docstring.splitlines():
        stripped = line.strip()
        is_indented = line[:1].isspace()
        if not is_indented and stripped.lower() in _ARGS | _DROPPED:
            section, current = stripped.lower(), ""
            continue
        if not is_indented and (field := _FIELD.match(stripped)):
            section, current = "field", field[2]
            parameters[current] = field[3]
            continue
        if not is_indented and _OTHER_FIELD.match(stripped):
            section, current = "other field", ""
            continue
        if stripped and not is_indented:
            section = ""
        if not section:
            text.append(line)
        elif section in _ARGS:
            current = _argument_line(line, stripped, current, parameters)
        elif section == "field" and stripped:
            parameters[current] = f"{parameters[current]} {stripped}".strip()
    return Doc("\n".join(text).strip(), parameters)


def _argument_line(line: str, stripped: str, current: str, parameters: dict[str, str]) -> str:
    """Read one line of an `Args` section and give the parameter it belongs to."""
    indent = len(line) - len(line.lstrip())
    item = _ITEM.match(stripped)
    # The items stand one step in, their further lines two.
    if item and indent <= 4:
        parameters[item[1]] = item[2].strip()
        return item[1]
    if current and stripped:
        parameters[current] = f"{parameters[current]} {stripped}".strip()
    return current
