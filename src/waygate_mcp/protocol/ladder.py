"""The ladder every message climbs: parse, shape, revision, headers agree, method exists.

Each rung either lets a message through or gives the Refusal a client gets. Pure: sessions are looked
up by the door, between `classify_post` and `check_legacy`.
Spec: 2026-07-28 basic/transports/streamable-http, "Server Validation"; basic/versioning,
"Backward Compatibility with Initialization-Based Versions"; protocol.md 2.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.headers import decode_value
from waygate_mcp.protocol.jsonrpc import Message, MessageShape, ParseFailure
from waygate_mcp.protocol.methods import Method, find_method
from waygate_mcp.protocol.stateless import VERSION_KEY, Envelope, read_envelope
from waygate_mcp.protocol.versions import MODERN, REVISIONS, SUPPORTED, Revision

__all__ = [
    "LegacyInbound",
    "ModernInbound",
    "Refusal",
    "check_legacy",
    "classify_line",
    "classify_post",
    "entry_name",
]

MAX_BATCH = 50
_LEGACY = frozenset(name for name, revision in REVISIONS.items() if not revision.is_modern)

_KIND_NAMES: dict[type, str] = {dict: "an object", str: "a string"}
# Parameters that mean the same wherever they stand.
_PARAM_TYPES: dict[str, type] = {
    "_meta": dict,
    "arguments": dict,
    "inputResponses": dict,
    "cursor": str,
    "requestState": str,
}
# Some clients write null where they have nothing; readers of these take it for absence.
_MAY_BE_NULL = frozenset({"_meta", "arguments", "cursor"})


class Refusal(msgspec.Struct, frozen=True):
    """The first rung a message did not pass, as the client is told. `data` is raw JSON."""

    status: int
    code: int
    message: str
    id: str | int | None = None
    data: bytes | None = None

    def encode(self) -> bytes:
        """Frame it as a JSON-RPC error response."""
        return jsonrpc.encode_error(self.id, self.code, self.message, self.data)


class ModernInbound(msgspec.Struct, frozen=True):
    """A request that passed every rung, or a notification (`method` and `envelope` are None).

    Of a request's parameters `_meta` is an object, the name or URI is text, and what else is read
    here or in `Call` has the type the schema gives it (see `check_legacy`).
    """

    message: Message
    method: Method | None = None
    envelope: Envelope | None = None


class LegacyInbound(msgspec.Struct, frozen=True):
    """A message, or a batch, that only makes sense in a session (`initialize` opens one).

    A batch may hold INVALID messages: each is answered on its own, the others are served.
    """

    messages: tuple[Message, ...]
    is_batch: bool = False

    @property
    def is_initialize(self) -> bool:
        """Tell whether this opens a session."""
        first = self.messages[0]
        is_request = first.shape == MessageShape.REQUEST
        return is_request and first.method == "initialize" and not self.is_batch


def entry_name(message: Message, method: Method) -> str | None:
    """Give the name or URI a request is about, None where it is missing or no text."""
    value = message.params.get(method.names) if method.names else None
    return value if type(value) is str else None


def _parse(body: bytes) -> Any:
    """Parse, or give the Refusal for what is not strict JSON."""
    try:
        return jsonrpc.loads_strict(body)
    except ParseFailure as failure:
        return Refusal(400, jsonrpc.PARSE_ERROR, f"Parse error: {failure.reason}")


def classify_post(
    body: bytes, headers: Mapping[bytes, bytes]
) -> ModernInbound | LegacyInbound | Refusal:
    """Climb the ladder with the body of a POST to an MCP endpoint.

    `headers` maps lower-case names to values; the door has refused those that stand twice. Cases, in
    this order: (1) header or `_meta` name a modern revision; (2) they name one nobody knows;
    (3) anything else is left to a legacy session.
    """
    value = _parse(body)
    if type(value) is dict and (known := _recognise(value, headers)) is not None:
        return known
    if type(value) is Refusal:
        return value
    header = headers.get(b"mcp-protocol-version")
    version = None if header is None else _plain(header)
    if type(value) is list:
        return _classify_batch(value, version)
    message = jsonrpc.read_message(value)
    if message.shape == MessageShape.INVALID:
        return _invalid(message)
    stated = _stated_version(message) if "_meta" in message.params else None
    if stated is None and (version is None or version in _LEGACY):
        return LegacyInbound((message,))
    inbound = _climb(message, stated, version, headers)
    if type(inbound) is ModernInbound and inbound.method is not None:
        _remember(inbound, headers)
    return inbound


def classify_line(line: bytes) -> ModernInbound | LegacyInbound | Refusal:
    """Climb the ladder with one line of standard input, where there are no headers.

    Spec: 2026-07-28 basic/transports/stdio.
    """
    value = _parse(line)
    if type(value) is Refusal:
        return value
    if type(value) is list:
        return _classify_batch(value, None)
    message = jsonrpc.read_message(value)
    if message.shape == MessageShape.INVALID:
        return _invalid(message)
    stated = _stated_version(message)
    if stated is None:
        return LegacyInbound((message,))
    if message.shape == MessageShape.NOTIFICATION:
        # "The receiver MUST NOT send a response", so there is nothing to refuse.
        return ModernInbound(message)
    refusal = _check_version(message, stated)
    return refusal or _open_envelope(message, message.params["_meta"])


class _Known(msgspec.Struct, frozen=True):
    """What requests of one look are: the same method, name, headers and, to the letter, `_meta`."""

    meta: bytes
    method: Method
    envelope: Envelope


_KNOWN_MAX = 512
_KNOWN_META_BYTES = 2_048
_known: dict[tuple[object, ...], _Known] = {}


def _look(
    method: object, params: Mapping[str, Any], headers: Mapping[bytes, bytes]
) -> tuple[object, ...]:
    """Give what decides, with `_meta`, how far a request of plain parameters gets on the ladder."""
    return (
        method,
        params.get("name"),
        headers.get(b"mcp-protocol-version"),
        headers.get(b"mcp-method"),
        headers.get(b"mcp-name"),
    )


def _recognise(value: dict[str, Any], headers: Mapping[bytes, bytes]) -> ModernInbound | None:
    """Give what a request is that looks like one which passed; None where it has to climb.

    Clients repeat their envelope and headers from call to call, and the same input climbs to the
    same rung. Measured: a fifth of what a small call costs in this process.
    """
    params, method, identifier = value.get("params"), value.get("method"), value.get("id")
    if type(params) is not dict or "_meta" not in params or type(method) is not str:
        return None
    arguments = params.get("arguments", params)
    if type(params.get("name", "")) is not str or type(arguments) is not dict:
        return None
    known = _known.get(_look(method, params, headers))
    if (
        known is None
        or len(value) != 4
        or value.get("jsonrpc") != "2.0"
        or not jsonrpc.is_valid_id(identifier)
        or len(params) != 1 + ("name" in params) + (arguments is not params)
        or jsonrpc.encode_json(params["_meta"]) != known.meta
    ):
        return None
    message = Message(MessageShape.REQUEST, identifier, method, params)
    return ModernInbound(message, known.method, known.envelope)


def _remember(inbound: ModernInbound, headers: Mapping[bytes, bytes]) -> None:
    """Note the look of a request that passed, if its parameters are of the plain kind."""
    message, method, envelope = inbound.message, inbound.method, inbound.envelope
    assert method is not None, "only requests are remembered"
    assert envelope is not None, "only requests are remembered"
    params = message.params
    meta = jsonrpc.encode_json(params["_meta"])
    is_plain = (
        params.keys() <= {"_meta", "name", "arguments"} and "progressToken" not in params["_meta"]
    )
    if not is_plain or len(meta) > _KNOWN_META_BYTES:
        return
    if len(_known) >= _KNOWN_MAX:
        _known.clear()  # whoever fills it with noise slows nobody down for long
    _known[_look(message.method, params, headers)] = _Known(meta, method, envelope)


def _plain(header: bytes) -> str:
    """Read a header's value without the white space HTTP allows around it."""
    return header.strip(b" \t").decode("latin-1")


def _stated_version(message: Message) -> Any:
    """Give the version the body states, of whatever type; None where it states none."""
    meta = message.params.get("_meta")
    return meta.get(VERSION_KEY) if type(meta) is dict else None


def _invalid(message: Message) -> Refusal:
    """Refuse what is no JSON-RPC message."""
    text = f"Invalid request: {message.problem}"
    return Refusal(400, jsonrpc.INVALID_REQUEST, text, message.id)


def _classify_batch(items: list[Any], version: str | None) -> LegacyInbound | Refusal:
    """Read a batch, which only 2025-03-26 has; the session decides whether it is one of those."""
    if version is not None:
        known = REVISIONS.get(version)
        if known is None:
            return _unsupported(None, version, SUPPORTED)
        if not known.has_batches:
            text = "Invalid request: no batches in this revision"
            return Refusal(400, jsonrpc.INVALID_REQUEST, text)
    if not items or len(items) > MAX_BATCH:
        text = f"Invalid request: a batch holds 1 to {MAX_BATCH} messages"
        return Refusal(400, jsonrpc.INVALID_REQUEST, text)
    messages = tuple(jsonrpc.read_message(item) for item in items)
    if any(message.method == "initialize" for message in messages):
        text = "Invalid request: initialize must not be part of a batch"
        return Refusal(400, jsonrpc.INVALID_REQUEST, text)
    return LegacyInbound(messages, is_batch=True)


def _check_version(message: Message, stated: Any) -> Refusal | None:
    """Refuse a version stated in the body that is no modern one."""
    if type(stated) is not str:
        return Refusal(400, jsonrpc.INVALID_PARAMS, f"{VERSION_KEY} must be a string", message.id)
    known = REVISIONS.get(stated)
    if known is not None and known.is_modern:
        return None
    # A legacy name in a modern envelope: we do speak it, but only after `initialize`.
    supported = SUPPORTED if known is None else (MODERN.text,)
    return _unsupported(message.id, stated, supported)


def _unsupported(
    identifier: str | int | None, requested: str, supported: tuple[str, ...]
) -> Refusal:
    """Build the error that lists what we speak."""
    data = jsonrpc.encode_json({"supported": supported, "requested": requested[:100]})
    return Refusal(
        400, jsonrpc.UNSUPPORTED_VERSION, "Unsupported protocol version", identifier, data
    )


def _mismatch(message: Message, text: str) -> Refusal:
    """Build the error for headers that do not say what the body says."""
    return Refusal(400, jsonrpc.HEADER_MISMATCH, f"Header mismatch: {text}", message.id)


def _climb(
    message: Message, stated: Any, version: str | None, headers: Mapping[bytes, bytes]
) -> ModernInbound | Refusal:
    """Take a message that claims to be modern up the remaining rungs.

    Header and body have to name the same version, and one we speak; a notification may leave either
    away, since its headers are not defined. Errors about anything but requests bear no id.
    """
    if message.shape == MessageShape.RESPONSE:
        text = "Invalid request: responses are not sent in this revision"
        return Refusal(400, jsonrpc.INVALID_REQUEST, text)
    if version is not None:
        if stated is not None and version != stated:
            return _mismatch(message, "MCP-Protocol-Version does not match the body")
        if version not in REVISIONS:
            return _unsupported(message.id, version, SUPPORTED)
    if message.shape == MessageShape.NOTIFICATION:
        return ModernInbound(message)
    if stated is None:
        return Refusal(400, jsonrpc.INVALID_PARAMS, f"_meta lacks {VERSION_KEY}", message.id)
    refusal = _check_version(message, stated)
    if refusal is not None:
        return refusal
    if version is None:
        return _mismatch(message, "MCP-Protocol-Version is missing")
    return _open_envelope(message, message.params["_meta"], headers)


def _open_envelope(
    message: Message, meta: dict[str, Any], headers: Mapping[bytes, bytes] | None = None
) -> ModernInbound | Refusal:
    """Read the envelope, compare the headers where there are any, find the method."""
    envelope = read_envelope(meta)
    if isinstance(envelope, str):
        return Refusal(400, jsonrpc.INVALID_PARAMS, envelope, message.id)
    method = find_method(message.method, MODERN)
    if headers is not None:
        refusal = _compare_headers(message, method, headers)
        if refusal is not None:
            return refusal
    if method is None:
        text = f"Method not found: {message.method}"
        return Refusal(404, jsonrpc.METHOD_NOT_FOUND, text, message.id)
    problem = _params_problem(message.params, method)
    if problem is not None:
        return Refusal(400, jsonrpc.INVALID_PARAMS, problem, message.id)
    return ModernInbound(message, method, envelope)


def _params_problem(params: dict[str, Any], method: Method) -> str | None:
    """Find the first parameter that is not of its type; what the method's provider reads is left to it."""
    for name, kind in method.required:
        if type(params.get(name)) is not kind:
            return f"params.{name} must be {_KIND_NAMES[kind]}"
    for name, value in params.items():
        expected = _PARAM_TYPES.get(name)
        if expected is None or type(value) is expected:
            continue
        if value is not None or name not in _MAY_BE_NULL:
            return f"params.{name} must be {_KIND_NAMES[expected]}"
    meta = params.get("_meta")
    token = meta.get("progressToken") if meta else None
    if token is not None and not jsonrpc.is_valid_id(token):
        return "progressToken must be a string or an integer"
    return None


def _compare_headers(
    message: Message, method: Method | None, headers: Mapping[bytes, bytes]
) -> Refusal | None:
    """Compare `Mcp-Method` and `Mcp-Name` with the body; the body is the truth."""
    raw = headers.get(b"mcp-method")
    if raw is None:
        return _mismatch(message, "Mcp-Method is missing")
    if _plain(raw) != message.method:
        return _mismatch(message, "Mcp-Method does not match the body")
    if method is None or not method.names:
        return None
    name = entry_name(message, method)
    if name is None:
        return None
    raw = headers.get(b"mcp-name")
    if raw is None:
        return _mismatch(message, "Mcp-Name is missing")
    if decode_value(raw) != name:
        return _mismatch(message, "Mcp-Name does not match the body")
    return None


def check_legacy(message: Message, revision: Revision) -> Method | Refusal:
    """Take a request of a session of `revision` up the last rungs.

    What passes has the method's `required` members and, where it has them at all, an object for
    `inputResponses` and text for `requestState`, an object or null for `_meta` and `arguments`, text
    or null for `cursor`, an id or null for `progressToken`. Unknown methods answer with HTTP 200: a
    404 on this route means that the session is gone.
    Spec: 2025-11-25 basic/transports, "Session Management".
    """
    method = find_method(message.method, revision)
    if method is None:
        text = f"Method not found: {message.method}"
        return Refusal(200, jsonrpc.METHOD_NOT_FOUND, text, message.id)
    problem = _params_problem(message.params, method)
    if problem is not None:
        return Refusal(200, jsonrpc.INVALID_PARAMS, problem, message.id)
    return method
