"""JSON-RPC as MCP uses it: strict parsing, the shapes of a message, encoding.

Knows bytes and the values in them. Refuses to know methods, revisions and transports.

Parsing is strict (threat model rule 15): UTF-8, no duplicate keys, finite numbers, bounded depth and
count, no lone surrogates. It is the C scanner of the standard library with two hooks: measured against a
second pass over the bytes, one strict parse was the cheaper way to see duplicate keys.
Spec: 2026-07-28 basic/index, "Messages"; JSON-RPC 2.0.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NoReturn

import msgspec

__all__ = [
    "HEADER_MISMATCH",
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "MAX_DEPTH",
    "MAX_VALUES",
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
    "frame_result",
    "is_valid_id",
    "loads_strict",
    "raw_error_data",
    "raw_result",
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
"""How deep objects and lists may nest."""
MAX_VALUES = 500_000
"""How many values one text may hold: empty objects cost thirty times their size in memory."""
MAX_ID_CHARS = 256
MAX_METHOD_CHARS = 256
_MAX_SAFE_INTEGER = 2**53 - 1
_BAD_VERSION = 'jsonrpc must be "2.0"'
_BAD_ID = f"id must be a string of at most {MAX_ID_CHARS} characters or an integer within ±(2^53-1)"

encode_json = msgspec.json.Encoder().encode
"""Encode builtin values to compact JSON bytes."""


class ParseFailure(ValueError):  # noqa: N818 - what happened, not a fault of ours
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


_scan = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant
).raw_decode
_decode_any = msgspec.json.Decoder().decode
_WHITE_SPACE = " \t\n\r"
_LOOK_BYTES = 48

# A string that never ends counts to the end of the text: were it no match, the search would start
# again at each of its quotes, and the time would grow with the square of the length.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NESTING = bytes.maketrans(b"{[]}", b"\x01\x01\xff\xff")
_NOT_NESTING = bytes(set(range(256)) - set(b"{[]}"))


def _check_bounds(text: str) -> None:
    """Refuse what nests deeper than MAX_DEPTH or holds more than MAX_VALUES, building nothing."""
    is_deep = text.count("{") + text.count("[") > MAX_DEPTH
    if not is_deep and len(text) <= MAX_VALUES:
        return
    bare = _STRING.sub("", text)
    if bare.count(",") + bare.count("{") + bare.count("[") >= MAX_VALUES:
        raise ParseFailure(f"there are more than {MAX_VALUES} values")
    steps = bare.encode().translate(_NESTING, _NOT_NESTING)
    if max(accumulate(array("b", steps)), default=0) > MAX_DEPTH:
        raise ParseFailure(f"nesting is deeper than {MAX_DEPTH}")


def loads_strict(data: bytes) -> Any:
    """Parse one JSON text strictly.

    Raises:
        ParseFailure: not UTF-8, not JSON, a duplicate key, a number that is not finite, nesting
            deeper than MAX_DEPTH, more than MAX_VALUES values, or a lone surrogate.
    """
    is_spaced = data.find(b'": ', 0, _LOOK_BYTES) >= 0
    if (
        not is_spaced
        and data.count(b"{") + data.count(b"[") <= MAX_DEPTH
        and len(data) <= MAX_VALUES
    ):
        # A text that is written again just as it came has no key twice (one would be gone), no
        # escape and no odd number: in C, a quarter of what the scan below costs. A text with spaces
        # would not be; most clients write none.
        try:
            value = _decode_any(data)
            if encode_json(value) == data:
                return value
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            pass  # the scan below says what is wrong
    return _scan_strictly(data)


def _scan_strictly(data: bytes) -> Any:
    """Parse any text, compact or not; raises as `loads_strict` does."""
    try:
        text = data.decode().strip(_WHITE_SPACE)
    except UnicodeDecodeError:
        raise ParseFailure("the text is not UTF-8") from None
    _check_bounds(text)
    try:
        value, end = _scan(text)
    except ParseFailure:
        raise
    except (ValueError, RecursionError):
        # ValueError covers json's own error and integers of more than 4,300 digits.
        raise ParseFailure("the text is not valid JSON") from None
    if end != len(text):
        raise ParseFailure("there is more than one JSON text")
    if "\\ud" in text or "\\uD" in text:
        _refuse_lone_surrogates(value)
    return value


def _refuse_lone_surrogates(value: Any) -> None:
    """Refuse text that could never be written as UTF-8 again."""
    try:
        encode_json(value)
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
    as it could be read. It stays None for what looks like a response: that id is one of ours, and
    an error that bears it could be taken for the answer to a request of the client's own.
    """

    shape: str
    id: str | int | None = None
    method: str = ""
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    result: Any = None
    error: Any = None
    problem: str = ""

    @property
    def wire_id(self) -> str | int:
        """The id of a request, which always has one."""
        assert self.id is not None, "only requests are asked for their id"
        return self.id


def is_valid_id(value: object) -> bool:
    """Tell whether `value` may identify a request: a short string or a safe integer, never a bool."""
    if type(value) is int:
        return -_MAX_SAFE_INTEGER <= value <= _MAX_SAFE_INTEGER
    return type(value) is str and len(value) <= MAX_ID_CHARS


def _invalid(value: dict[str, Any], problem: str) -> Message:
    """Build an INVALID message that keeps the id where that was a request's and readable."""
    candidate = value.get("id")
    is_response = "result" in value or "error" in value
    known = candidate if is_valid_id(candidate) and not is_response else None
    return Message(MessageShape.INVALID, id=known, problem=problem)


def read_message(value: Any) -> Message:
    """Sort a parsed JSON value into request, notification, response or INVALID.

    Never raises. An id must be a string of at most 256 characters or an integer within ±(2^53-1).
    """
    if type(value) is not dict:
        return Message(MessageShape.INVALID, problem="a message must be a JSON object")
    if "method" not in value:
        return _read_response(value)
    method = value["method"]
    params = value.get("params", {})
    problem = ""
    if value.get("jsonrpc") != "2.0":
        problem = _BAD_VERSION
    elif type(method) is not str or not method or len(method) > MAX_METHOD_CHARS:
        problem = f"method must be a string of 1 to {MAX_METHOD_CHARS} characters"
    elif type(params) is not dict:
        problem = "params must be an object"
    elif "result" in value or "error" in value:
        problem = "a message has a method or a result, not both"
    elif "id" not in value:
        return Message(MessageShape.NOTIFICATION, None, method, params)
    elif is_valid_id(value["id"]):
        return Message(MessageShape.REQUEST, value["id"], method, params)
    else:
        problem = _BAD_ID
    return _invalid(value, problem)


def _read_response(value: dict[str, Any]) -> Message:
    """Read a message without a method: a response, or nothing we know."""
    problem = _response_problem(value)
    if problem:
        return _invalid(value, problem)
    return Message(
        MessageShape.RESPONSE,
        id=value["id"],
        result=value.get("result"),
        error=value.get("error"),
    )


def _response_problem(value: dict[str, Any]) -> str:
    """Say what is wrong with a response, nothing where it is well."""
    if value.get("jsonrpc") != "2.0":
        return _BAD_VERSION
    if "result" not in value and "error" not in value:
        return "method is missing"
    if "result" in value and "error" in value:
        return "a response has a result or an error, not both"
    if not is_valid_id(value.get("id")):
        return _BAD_ID
    if "result" in value:
        return "" if type(value["result"]) is dict else "result must be an object"
    error = value["error"]
    if type(error) is not dict or type(error.get("code")) is not int:
        return "error must be an object with an integer code"
    return ""


def encode_result(identifier: str | int, result: bytes) -> bytes:
    """Frame a raw JSON object as the result response to request `identifier`."""
    return frame_result(identifier, (result,))


def frame_result(identifier: str | int, parts: Sequence[bytes | memoryview]) -> bytes:
    """Frame a result that lies in `parts`, so that a large one is copied once and not at each step."""
    return b"".join(
        (b'{"jsonrpc":"2.0","id":', encode_json(identifier), b',"result":', *parts, b"}")
    )


def encode_error(
    identifier: str | int | None, code: int, message: str, data: bytes | None = None
) -> bytes:
    """Frame an error response; `data` is raw JSON.

    Without a readable id the member is left out: MCP's schema has `id` optional there and knows no
    `null`, unlike JSON-RPC 2.0.
    """
    try:
        text = encode_json(message)
    except UnicodeEncodeError:
        # Words of a tool or plugin may hold half a surrogate pair (a file name does): answer even so.
        text = encode_json(message.encode("utf-8", "replace").decode())
    error = b'{"code":%d,"message":%b' % (code, text)
    if data is not None:
        error += b',"data":' + data
    if identifier is None:
        return b'{"jsonrpc":"2.0","error":%b}}' % error
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}}' % (encode_json(identifier), error)


def encode_notification(method: str, params: bytes | None = None) -> bytes:
    """Frame a notification; `params` is a raw JSON object."""
    if params is None:
        return b'{"jsonrpc":"2.0","method":%b}' % encode_json(method)
    return b'{"jsonrpc":"2.0","method":%b,"params":%b}' % (encode_json(method), params)


def encode_request(identifier: str | int, method: str, params: bytes) -> bytes:
    """Frame a request; `params` is a raw JSON object."""
    return b'{"jsonrpc":"2.0","id":%b,"method":%b,"params":%b}' % (
        encode_json(identifier),
        encode_json(method),
        params,
    )


class _ErrorBody(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw()


class _ResponseBody(msgspec.Struct):
    """What of a response is relayed as it was written."""

    result: msgspec.Raw = msgspec.Raw()
    error: _ErrorBody | None = None


_decode_response = msgspec.json.Decoder(_ResponseBody).decode


def raw_result(body: bytes) -> bytes | None:
    """Cut the raw `result` out of a response's bytes, None where `body` is a batch or has none."""
    try:
        return bytes(_decode_response(body).result) or None
    except msgspec.DecodeError:
        return None


def raw_error_data(body: bytes) -> bytes | None:
    """Cut the raw `data` out of an error response, None where `body` is a batch or has none."""
    try:
        error = _decode_response(body).error
    except msgspec.DecodeError:
        return None
    return None if error is None else bytes(error.data) or None
