"""One example for each row of `docs/protocol-errors.md`, for tests of the ladder and of the running server alike."""

from __future__ import annotations

from typing import Any

from waygate_mcp.protocol.stateless import CAPABILITIES_KEY, LOG_LEVEL_KEY, VERSION_KEY

MODERN = "2026-07-28"
META: dict[str, Any] = {VERSION_KEY: MODERN, CAPABILITIES_KEY: {}}
HEADERS = {
    b"mcp-protocol-version": b"2026-07-28",
    b"mcp-method": b"tools/call",
    b"mcp-name": b"echo",
}
BATCH = [{"jsonrpc": "2.0", "id": 1, "method": "ping"}]


def call(method: str = "tools/call", name: Any = "echo", **params: Any) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0",
        "id": 1,
        "method": method,
        "params": {"name": name, "_meta": META, **params},
    }


def plain(**members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", **members}


def meta(**changes: Any) -> dict[str, Any]:
    return call(_meta={key: v for key, v in {**META, **changes}.items() if v is not ...})


# Row → body, and headers that differ from HEADERS (None: not sent).
LADDER: dict[str, tuple[Any, dict[bytes, bytes | None]]] = {
    "parse-utf8": (b'"\xff"', {}),
    "parse-json": (b"{", {}),
    "parse-more": (b"{} {}", {}),
    "parse-key": (b'{"a":1,"a":1}', {}),
    "parse-number": (b"[1e999]", {}),
    "parse-nan": (b"NaN", {}),
    "parse-depth": (b"[" * 65 + b"]" * 65, {}),
    "parse-values": (b"[" + b"0," * 500_000 + b"0]", {}),
    "parse-surrogate": (b'"\\ud800"', {}),
    "shape-object": ("text", {}),
    "shape-jsonrpc": ({"id": 1, "method": "ping"}, {}),
    "shape-no-method": (plain(id=1), {}),
    "shape-method": (plain(id=1, method=""), {}),
    "shape-params": (plain(id=1, method="ping", params=[]), {}),
    "shape-id": (plain(id=None, method="ping"), {}),
    "shape-both": (plain(id=1, method="ping", result={}), {}),
    "shape-response-both": (plain(id=1, result={}, error={"code": 1}), {}),
    "shape-result": (plain(id=1, result=5), {}),
    "shape-error": (plain(id=1, error={}), {}),
    "shape-batch": (BATCH, {}),
    "shape-batch-size": ([], {b"mcp-protocol-version": None}),
    "shape-batch-initialize": (
        [plain(id=1, method="initialize")],
        {b"mcp-protocol-version": b"2025-03-26"},
    ),
    "shape-response": (plain(id=1, result={}), {}),
    "revision-differs": (call(), {b"mcp-protocol-version": b"2025-11-25"}),
    "revision-no-header": (call(), {b"mcp-protocol-version": None}),
    "revision-unknown": (meta(**{VERSION_KEY: "v9"}), {b"mcp-protocol-version": b"v9"}),
    "revision-unknown-header": (
        plain(method="notifications/initialized"),
        {b"mcp-protocol-version": b"v9"},
    ),
    "revision-unknown-batch": (BATCH, {b"mcp-protocol-version": b"v9"}),
    "revision-no-body": (meta(**{VERSION_KEY: ...}), {}),
    "revision-type": (meta(**{VERSION_KEY: 5}), {b"mcp-protocol-version": None}),
    "envelope-capabilities": (meta(**{CAPABILITIES_KEY: ...}), {}),
    "envelope-level": (meta(**{LOG_LEVEL_KEY: "loud"}), {}),
    "header-no-method": (call(), {b"mcp-method": None}),
    "header-method": (call(), {b"mcp-method": b"tools/list"}),
    "header-no-name": (call(), {b"mcp-name": None}),
    "header-name": (call(), {b"mcp-name": b"other"}),
    "method-unknown": (call("no/such"), {b"mcp-method": b"no/such"}),
    "params-text": (call(name=5), {}),
    "params-object": (call(arguments=[]), {}),
    "params-token": (meta(progressToken=[]), {}),
}
# Row → message in a session of 2025-11-25.
SESSIONS: dict[str, dict[str, Any]] = {
    "method-unknown-session": plain(id=1, method="no/such"),
    "params-session": plain(id=1, method="tools/call", params={}),
}
# Row → arguments of a tool that mirrors `region`, and its headers.
PARAMS: dict[str, tuple[dict[str, Any], dict[bytes, bytes]]] = {
    "header-no-param": ({"region": "eu"}, {}),
    "header-param": ({"region": "eu"}, {b"mcp-param-region": b"us"}),
    "header-param-characters": ({"region": "eu"}, {b"mcp-param-region": b"\xff"}),
    "header-param-alone": ({}, {b"mcp-param-region": b"eu"}),
}

# Rows that need a server: `tests/integration/test_bad_input.py` has a test for each, named after it.
SERVER = frozenset(
    {
        "door-headers",
        "door-duplicate",
        "door-no-host",
        "door-host",
        "door-origin",
        "door-no-key",
        "door-wrong-key",
        "door-two-keys",
        "door-endpoint",
        "door-method",
        "door-content-type",
        "door-accept",
        "door-declared-size",
        "door-chunked-size",
        "door-slow-body",
        "session-none",
        "session-unknown",
        "session-revision",
        "session-greeting",
        "session-capabilities",
        "session-id-in-use",
        "session-events-gone",
    }
)
