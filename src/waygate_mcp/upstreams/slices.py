"""Top-level members of raw JSON objects: cut out, put together, the rest untouched.

Knows where members begin and end. Refuses to know what they mean, and never re-encodes a value, so
that numbers, unknown members and their order arrive as they were sent (protocol.md 2.3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from waygate_mcp.protocol.jsonrpc import encode_json

__all__ = ["Members", "NotAnObjectError", "cut", "join", "one_line", "without_lone_surrogates"]

Members = dict[str, msgspec.Raw]
"""The members of an object by name, in their order, each value as raw JSON."""

# Any escape, so that the backslash of one is never taken for the beginning of the next.
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\.",
    re.DOTALL,
)
_ONE_UNIT, _UNREADABLE = len(rb"\ud800"), rb"\ufffd"

_decode = msgspec.json.Decoder(Members).decode


class NotAnObjectError(ValueError):
    """The bytes are not one JSON object in UTF-8."""


def cut(raw: bytes | msgspec.Raw) -> Members:
    """Cut an object into its members. A name that stands twice keeps its last value.

    Raises:
        NotAnObjectError: it is something else, or nests too deep to be read.
    """
    try:
        return _decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise NotAnObjectError(str(exc)) from None


def join(members: Mapping[str, msgspec.Raw]) -> bytes:
    """Put members together to an object; raw values are written as they are."""
    return encode_json(members)


def one_line(raw: bytes | msgspec.Raw) -> bytes:
    """Give the same JSON without line breaks, so that it can stand in one SSE data line.

    Breaks stand between tokens only: inside a string JSON does not allow them.
    """
    data = bytes(raw)
    if b"\n" in data or b"\r" in data:
        return data.replace(b"\r", b" ").replace(b"\n", b" ")
    return data


def without_lone_surrogates(raw: bytes) -> bytes:
    """Give the same JSON with U+FFFD for each escape that is half of a surrogate pair."""
    return _ESCAPE.sub(lambda one: _UNREADABLE if len(one[0]) == _ONE_UNIT else one[0], raw)
