"""JSON-RPC as MCP uses it: strict parsing, the shapes of a message, encoding.

Knows bytes and the values in them. Refuses to know methods, revisions and transports.

Parsing is strict (threat model rule 15): UTF-8, no duplicate keys, finite numbers, bounded depth,
no lone surrogates. It is the C scanner of the standard library with two hooks: measured against a
second pass over the bytes, one strict parse was the cheaper way to see duplicate keys.
Spec: 2026-07-28 basic/index, "Messages"; JSON-RPC 2.0.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import msgspec

__all__ = [
    "HEADER_MISMATCH",
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "MAX_DEPTH",
    "METHOD_NOT_FOUND",
    "MISSING_CAPABILITY",
    "PARSE_ERROR",
    "UNSUPPORTED_VERSION",
    "Message",
    "MessageShape",
    "ParseFailure",
    "encode_error",
    "encode_json",
    "encode_notification",
    "encode_request",
    "encode_result",
    "is_valid_id",
    "loads_strict",
    "read_message",
]

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
HEADER_MISMATCH = -32020
MISSING_CAPABILITY = -32021
UNSUPPORTED_VERSION = -32022

MAX_DEPTH = 64
MAX_ID_CHARS = 256
MAX_METHOD_CHARS = 256
_MAX_SAFE_INTEGER = 2**53 - 1

encode_json = msgspec.json.Encoder().encode
"""Encode builtin values to compact JSON bytes."""


class ParseFailure(ValueError):
    """The bytes are not one strict JSON text. `reason` is a sentence for the client."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object, refusing a key that stands twice."""
    built = dict(pairs)
    if len(built) != len(pairs):
        raise ParseFailure("an object has the same key twice")
    return built


def _finite(text: str) -> float:
    """Read a number with a fraction or exponent, refusing what overflows to infinity."""
    value = float(text)
    if not math.isfinite(value):
        raise ParseFailure("a number is too large")
    return value


def _no_constant(_text: str) -> NoReturn:
    """Refuse `NaN`, `Infinity` and `-Infinity`, which JSON does not have."""
    raise ParseFailure("NaN and Infinity are not JSON")


_decode = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant
).decode

_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)


def _is_too_deep(text: str) -> bool:
    """Tell whether brackets nest deeper than MAX_DEPTH, without building anything."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return False
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        token = match.group()
        if token in "{[":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif token in "}]":
            depth -= 1
    return False


def loads_strict(data: bytes) -> Any:
    """Parse one JSON text strictly.

    Raises:
        ParseFailure: not UTF-8, not JSON, a duplicate key, a number that is not finite, nesting
            deeper than MAX_DEPTH, or a lone surrogate.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ParseFailure("the text is not UTF-8") from None
    if _is_too_deep(text):
        raise ParseFailure(f"nesting is deeper than {MAX_DEPTH}")
    try:
        value = _decode(text)
    except ParseFailure:
        raise
    except (ValueError, RecursionError):
        # ValueError covers json's own error and integers of more than 4,300 digits.
        raise ParseFailure("the text is not valid JSON") from None
    if "\\ud" in text or "\\uD" in text:
        _refuse_lone_surrogates(value)
    return value


def _refuse_lone_surrogates(value: Any) -> None:
    """Refuse text that could never be written as UTF-8 again."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ParseFailure("an escape is half of a surrogate pair") from None


class MessageShape:
    """The three kinds of messages, and the kind for whatever is none of them."""

    REQUEST = "request"
    NOTIFICATION = "notification"
    RESPONSE = "response"
    INVALID = "invalid"


class Message(msgspec.Struct):
    """One parsed message. Which members mean anything depends on `shape`.

    For INVALID messages `problem` is a sentence for the client and `id` is the request's id as far
    as it could be read, else None.
    """

    shape: str
    id: str | int | None = None
    method: str = ""
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    result: Any = None
    error: Any = None
    problem: str = ""


def is_valid_id(value: object) -> bool:
    """Tell whether `value` may identify a request: a short string or a safe integer, never a bool."""
    if type(value) is int:
        return -_MAX_SAFE_INTEGER <= value <= _MAX_SAFE_INTEGER
    return type(value) is str and len(value) <= MAX_ID_CHARS


def _invalid(value: dict[str, Any], problem: str) -> Message:
    """Build an INVALID message that keeps the id where that was readable."""
    candidate = value.get("id")
    known = candidate if is_valid_id(candidate) else None
    return Message(MessageShape.INVALID, id=known, problem=problem)


def read_message(value: Any) -> Message:
    """Sort a parsed JSON value into request, notification, response or INVALID.

    Never raises. An id must be a string of at most 256 characters or an integer within ±(2^53-1).
    """
    if type(value) is not dict:
        return Message(MessageShape.INVALID, problem="a message must be a JSON object")
    if value.get("jsonrpc") != "2.0":
        return _invalid(value, 'jsonrpc must be "2.0"')
    method = value.get("method")
    if method is None:
        return _read_response(value)
    if type(method) is not str or not method or len(method) > MAX_METHOD_CHARS:
        return _invalid(value, "method must be a non-empty string")
    params = value.get("params", {})
    if type(params) is not dict:
        return _invalid(value, "params must be an object")
    if "id" not in value:
        return Message(MessageShape.NOTIFICATION, method=method, params=params)
    identifier = value["id"]
    if not is_valid_id(identifier):
        return _invalid(value, "id must be a string or an integer")
    return Message(MessageShape.REQUEST, id=identifier, method=method, params=params)


def _read_response(value: dict[str, Any]) -> Message:
    """Read a message without a method: a response, or nothing we know."""
    identifier = value.get("id")
    has_result, has_error = "result" in value, "error" in value
    if not has_result and not has_error:
        return _invalid(value, "method is missing")
    if has_result and has_error:
        return _invalid(value, "a response has a result or an error, not both")
    if not is_valid_id(identifier):
        return _invalid(value, "id must be a string or an integer")
    if has_error:
        error = value["error"]
        if type(error) is not dict or type(error.get("code")) is not int:
            return _invalid(value, "error must be an object with an integer code")
        return Message(MessageShape.RESPONSE, id=identifier, error=error)
    if type(value["result"]) is not dict:
        return _invalid(value, "result must be an object")
    return Message(MessageShape.RESPONSE, id=identifier, result=value["result"])


def _id_bytes(identifier: str | int) -> bytes:
    """Encode an id."""
    return b"%d" % identifier if type(identifier) is int else encode_json(identifier)


def encode_result(identifier: str | int, result: bytes) -> bytes:
    """Frame a raw JSON object as the result response to request `identifier`."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (_id_bytes(identifier), result)


def encode_error(
    identifier: str | int | None, code: int, message: str, data: bytes | None = None
) -> bytes:
    """Frame an error response; `data` is raw JSON.

    Without a readable id the member is left out: MCP's schema has `id` optional there and knows no
    `null`, unlike JSON-RPC 2.0.
    """
    error = b'{"code":%d,"message":%b' % (code, encode_json(message))
    if data is not None:
        error += b',"data":' + data
    if identifier is None:
        return b'{"jsonrpc":"2.0","error":%b}}' % error
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}}' % (_id_bytes(identifier), error)


def encode_notification(method: str, params: bytes | None = None) -> bytes:
    """Frame a notification; `params` is a raw JSON object."""
    if params is None:
        return b'{"jsonrpc":"2.0","method":%b}' % encode_json(method)
    return b'{"jsonrpc":"2.0","method":%b,"params":%b}' % (encode_json(method), params)


def encode_request(identifier: str | int, method: str, params: bytes) -> bytes:
    """Frame a request; `params` is a raw JSON object."""
    return b'{"jsonrpc":"2.0","id":%b,"method":%b,"params":%b}' % (
        _id_bytes(identifier),
        encode_json(method),
        params,
    )
