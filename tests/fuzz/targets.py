"""What is fuzzed, and what must hold whatever the input.

A target takes bytes and returns; anything it raises is a finding. Documented refusals are no findings:
each target turns them into a return. The target for the whole application is in `application.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tests.fuzz.request_text import read_request
from waygate_mcp.protocol.framing import FrameTooLarge, LineDecoder, SseDecoder, SseEvent
from waygate_mcp.protocol.handshake import (
    downgrade_content,
    downgrade_definition,
    downgrade_form,
    read_initialize,
)
from waygate_mcp.protocol.headers import (
    HeaderParam,
    HeaderParamsError,
    decode_value,
    encode_value,
    find_header_params,
    mirrored_headers,
    param_mismatch,
)
from waygate_mcp.protocol.jsonrpc import ParseFailure, is_valid_id, loads_strict
from waygate_mcp.protocol.ladder import (
    LegacyInbound,
    ModernInbound,
    Refusal,
    check_legacy,
    classify_line,
    classify_post,
)
from waygate_mcp.protocol.methods import Method
from waygate_mcp.protocol.seal import KeyRing, SealError
from waygate_mcp.protocol.stateless import Envelope, encode_complete, read_listen_filter
from waygate_mcp.protocol.uris import UriTemplate, UriTemplateError
from waygate_mcp.protocol.versions import REVISIONS

Target = Callable[[bytes], None]

_CODES = {-32700, -32600, -32601, -32602, -32020, -32022}
_STATUSES = {200, 400, 404}
_ADDED = {"_meta", "resultType", "ttlMs", "cacheScope"}
_LIMIT = 1024
_RING = KeyRing.from_master(b"k" * 32)
_PARAMS = (HeaderParam("Region", ("region",)), HeaderParam("Deep", ("a", "b")))


def _check_inbound(found: ModernInbound | LegacyInbound | Refusal) -> None:
    """Assert what the ladder promises of its answers."""
    if isinstance(found, Refusal):
        assert found.code in _CODES, found
        assert found.status in _STATUSES, found
        assert found.id is None or is_valid_id(found.id)
        frame = json.loads(found.encode())
        assert frame["error"]["code"] == found.code
        assert frame.get("id") == found.id
    elif isinstance(found, ModernInbound):
        assert (found.method is None) == (found.envelope is None)
        assert found.message.shape == ("notification" if found.method is None else "request")
        if found.method is not None:
            assert isinstance(found.envelope, Envelope)
            _check_params(found.message.params, found.method)
    else:
        assert isinstance(found, LegacyInbound)
        assert found.messages
        assert found.is_batch or len(found.messages) == 1
        for message in found.messages:
            if message.shape == "request":
                for revision in REVISIONS.values():
                    method = check_legacy(message, revision)
                    if isinstance(method, Refusal):
                        _check_inbound(method)
                    else:
                        _check_params(message.params, method)
                read_initialize(message.params)


def _check_params(params: Mapping[str, Any], method: Method) -> None:
    """Assert that providers may rely on the types of what they read."""
    assert method.names is None or type(params[method.names]) is str
    assert isinstance(params.get("_meta") or {}, dict)
    assert isinstance(params.get("arguments") or {}, dict)
    assert isinstance(params.get("inputResponses", {}), dict)
    assert isinstance(params.get("requestState", ""), str)
    assert isinstance(params.get("cursor") or "", str)
    read_listen_filter(params)


def post(data: bytes) -> None:
    """The ladder for a POST: headers, an empty line, the body."""
    request = read_request(data)
    _check_inbound(classify_post(request.body, dict(request.headers)))


def line(data: bytes) -> None:
    """The ladder for a line of standard input."""
    _check_inbound(classify_line(data))


def strict_json(data: bytes) -> None:
    """The parser: what it reads, any parser reads, to the same value; the rest is refused."""
    try:
        value = loads_strict(data)
    except ParseFailure:
        return
    assert json.loads(data.decode()) == value
    json.dumps(value, ensure_ascii=False).encode()


def lines(data: bytes) -> None:
    """Lines of a stream cut where the first byte says."""
    assert _decoded(LineDecoder, data, 1 + data[0] if data else 1) == _decoded(LineDecoder, data, 1)


def events(data: bytes) -> None:
    """Server-sent events of a stream cut where the first byte says."""
    assert _decoded(SseDecoder, data, 1 + data[0] if data else 1) == _decoded(SseDecoder, data, 1)


def _decoded(
    kind: type[LineDecoder] | type[SseDecoder], data: bytes, size: int
) -> list[bytes | SseEvent] | None:
    """All frames, None where one is too large."""
    data = data[: 3 * _LIMIT]
    decoder = kind(_LIMIT)
    found: list[bytes | SseEvent] = []
    try:
        for at in range(0, len(data), size):
            found += decoder.feed(data[at : at + size])
    except FrameTooLarge:
        return None
    return found


def seal(data: bytes) -> None:
    """Sealed texts: nothing we did not seal opens, and what we sealed opens for its purpose only."""
    text = data.decode("latin-1")
    for purpose in ("session", "state"):
        try:
            _RING.open(text, purpose)
        except SealError:
            continue
        raise AssertionError("a text opened that was not sealed")
    sealed = _RING.seal(data[:1000], "session")
    assert _RING.open(sealed, "session") == data[:1000]
    at = len(data) % len(sealed)
    for forged in (sealed[:at], sealed[:at] + text[:1] + sealed[at + 1 :]):
        if forged != sealed:
            try:
                _RING.open(forged, "session")
            except SealError:
                continue
            raise AssertionError("a forged text opened")


def headers(data: bytes) -> None:
    """Header values and mirrored arguments: the first line is a header, the rest is JSON."""
    raw, _, body = data.partition(b"\n")
    value = decode_value(raw)
    if value is not None:
        assert decode_value(encode_value(value).encode("ascii")) == value
    try:
        arguments = loads_strict(body)
    except ParseFailure:
        return
    if not isinstance(arguments, dict):
        return
    found = {_PARAMS[0].header: raw, _PARAMS[1].header: raw}
    problem = param_mismatch(_PARAMS, arguments, found)
    assert problem is None or problem.startswith("Header mismatch: ")
    built = mirrored_headers("tools/call", "x", _PARAMS, arguments)
    param_mismatch(_PARAMS, arguments, {name.lower().encode(): v.encode() for name, v in built})
    _schema(arguments)


def _schema(value: Any) -> None:
    """A tool's schema, which upstreams write."""
    try:
        found = find_header_params(value)
    except HeaderParamsError:
        return
    names = [param.name.lower() for param in found]
    assert len(set(names)) == len(names)
    assert all(param.path for param in found)


def downgrade(data: bytes) -> None:
    """Results, definitions and forms of upstreams, for readers of every revision."""
    try:
        value = loads_strict(data)
    except ParseFailure:
        value = ...
    for revision in REVISIONS.values():
        for rewrite in (downgrade_content, downgrade_definition, downgrade_form):
            found = rewrite(data, revision)
            assert found is None or isinstance(found, bytes)
            if value is not ... and found is not None:
                json.loads(found)
    if isinstance(value, dict) and not _ADDED & set(value):
        _finished(data, value)


def _finished(data: bytes, value: dict[str, Any]) -> None:
    """A result around upstream members."""
    info = b'"io.modelcontextprotocol/serverInfo":{"name":"w","version":"1"}'
    finished = json.loads(encode_complete(1, data, data, info, (len(data), "private")))["result"]
    assert finished["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "w"
    assert set(value) <= set(finished)


def uris(data: bytes) -> None:
    """URI templates and URIs: the first line is a template, the rest a URI."""
    template, _, uri = data.decode("utf-8", "replace").partition("\n")
    try:
        parsed = UriTemplate(template)
    except UriTemplateError:
        return
    found = parsed.match(uri)
    assert found is None or set(found) <= set(parsed.variables)


TARGETS: Mapping[str, Target] = {
    "post": post,
    "line": line,
    "json": strict_json,
    "lines": lines,
    "events": events,
    "seal": seal,
    "headers": headers,
    "downgrade": downgrade,
    "uris": uris,
}
"""Every pure target by its name."""
