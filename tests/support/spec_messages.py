"""Messages of every revision, and what our code answers: for tests that quote a clause."""

from __future__ import annotations

import json
from typing import Any

from waygate_mcp.protocol.handshake import downgrade_content, initialize_result, read_initialize
from waygate_mcp.protocol.jsonrpc import encode_json
from waygate_mcp.protocol.ladder import (
    LegacyInbound,
    ModernInbound,
    Refusal,
    classify_line,
    classify_post,
)
from waygate_mcp.protocol.stateless import CAPABILITIES_KEY, VERSION_KEY
from waygate_mcp.protocol.versions import REVISIONS

MODERN = "2026-07-28"
META: dict[str, Any] = {VERSION_KEY: MODERN, CAPABILITIES_KEY: {}}
Inbound = ModernInbound | LegacyInbound | Refusal

TEXT = {"type": "text", "text": "x"}
IMAGE = {"type": "image", "data": "AAAA", "mimeType": "image/png"}
AUDIO = {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"}
LINK = {"type": "resource_link", "uri": "file:///a", "name": "a"}
EMBEDDED = {"type": "resource", "resource": {"uri": "file:///a", "text": "x"}}


def request(method: str = "ping", /, identifier: Any = 1, **params: Any) -> dict[str, Any]:
    """A request."""
    return {"jsonrpc": "2.0", "id": identifier, "method": method, "params": params}


def modern(method: str, /, **params: Any) -> dict[str, Any]:
    """A modern request with a good envelope."""
    return request(method, **{"_meta": META, **params})


def post(message: Any, **headers: str | None) -> Inbound:
    """What the ladder makes of a POST with these headers (`mcp_method` stands for `mcp-method`)."""
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    given = {
        name.replace("_", "-").encode(): value.encode("latin-1")
        for name, value in headers.items()
        if value is not None
    }
    return classify_post(body, given)


def post_modern(message: dict[str, Any], **headers: str | None) -> Inbound:
    """A POST whose headers mirror the message, changed by those given."""
    params = message.get("params", {})
    usual = {
        "mcp_protocol_version": MODERN,
        "mcp_method": message["method"],
        "mcp_name": params.get("name") or params.get("uri"),
    }
    return post(message, **{**usual, **headers})


def line(message: Any) -> Inbound:
    """What the ladder makes of a line of standard input."""
    return classify_line(json.dumps(message).encode())


def error_of(found: Inbound) -> dict[str, Any]:
    """The error response a refusal is sent as."""
    assert isinstance(found, Refusal), found
    frame: dict[str, Any] = json.loads(found.encode())
    return frame


def status_and_code(found: Inbound) -> tuple[int, int]:
    """HTTP status and JSON-RPC code of a refusal."""
    assert isinstance(found, Refusal), found
    return found.status, found.code


def greet(version: str) -> tuple[str, dict[str, Any]]:
    """Initialize with a version: the revision negotiated, and the result."""
    hello = read_initialize(
        {
            "protocolVersion": version,
            "capabilities": {},
            "clientInfo": {"name": "c", "version": "1"},
        }
    )
    assert not isinstance(hello, str), hello
    offered = {"tools": {"listChanged": True}, "logging": {}, "completions": {}}
    result = initialize_result(
        hello.revision, offered, {"name": "s", "version": "1"}, "how to use this"
    )
    return hello.revision.text, json.loads(result)


def tool_result(revision: str, **members: Any) -> dict[str, Any]:
    """A tool's result as a reader of `revision` gets it."""
    result = encode_json({"content": [], **members})
    value: dict[str, Any] = json.loads(downgrade_content(result, REVISIONS[revision]))
    return value
