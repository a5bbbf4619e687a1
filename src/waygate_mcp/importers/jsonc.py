"""JSON as editors write it: with comments and commas before a closing bracket.

Knows that text between quotes is left alone. Refuses keys that stand twice: one of the two would be lost.
"""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["parse_jsonc"]

_TEXT = r'"(?:[^"\\\n]|\\.)*"'
_COMMENT = re.compile(rf"{_TEXT}|//[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_COMMA = re.compile(rf"{_TEXT}|,(?=\s*[}}\]])")


def parse_jsonc(text: str) -> Any:
    """Parse JSON with comments and trailing commas.

    Raises:
        ValueError: it is not that, with line and column; or it is nested too deeply.
    """
    plain = _COMMENT.sub(_blank, text.removeprefix("\ufeff"))
    plain = _COMMA.sub(lambda match: match[0] if match[0] != "," else " ", plain)
    try:
        return json.loads(plain, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _blank(match: re.Match[str]) -> str:
    """Leave room where a comment was, so that places in errors are those of the file."""
    found = match[0]
    return found if found.startswith('"') else re.sub(r"[^\n]", " ", found)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built: dict[str, Any] = {}
    for key, value in pairs:
        if key in built:
            raise ValueError(f"the key {key[:50]!r} stands twice")
        built[key] = value
    return built
