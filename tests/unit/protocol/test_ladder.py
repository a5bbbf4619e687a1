from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.spec_schemas import assert_valid
from waygate_mcp.protocol import ladder
from waygate_mcp.protocol.ladder import (
    MAX_BATCH,
    LegacyInbound,
    ModernInbound,
    Refusal,
    check_legacy,
    classify_line,
    classify_post,
    entry_name,
)
from waygate_mcp.protocol.methods import METHODS, Method, find_method
from waygate_mcp.protocol.stateless import (
    CAPABILITIES_KEY,
    CLIENT_INFO_KEY,
    LOG_LEVEL_KEY,
    VERSION_KEY,
)
from waygate_mcp.protocol.versions import REVISIONS, SUPPORTED

MODERN = "2026-07-28"
META: dict[str, Any] = {
    VERSION_KEY: MODERN,
    CLIENT_INFO_KEY: {"name": "test", "version": "1"},
    CAPABILITIES_KEY: {},
}
HEADERS = {
    b"mcp-protocol-version": MODERN.encode(),
    b"mcp-method": b"tools/call",
    b"mcp-name": b"echo",
}
Inbound = ModernInbound | LegacyInbound | Refusal


def body(method: str = "tools/call", /, identifier: Any = 1, **params: Any) -> dict[str, Any]:
    """A request as a dictionary; `identifier=...` (Ellipsis) makes a notification of it."""
    message = {"jsonrpc": "2.0", "id": identifier, "method": method, "params": params}
    if identifier is ...:
        del message["id"]
    return message


def call(**changes: Any) -> dict[str, Any]:
    """A good modern tools/call with changed parameters; Ellipsis removes one."""
    params = {"name": "echo", "arguments": {"text": "x"}, "_meta": META, **changes}
    return body(**{key: value for key, value in params.items() if value is not ...})


def meta(**changes: Any) -> dict[str, Any]:
    """The `_meta` of a good request with members added."""
    return {**META, **changes}


def without(key: str) -> dict[str, Any]:
    """The `_meta` of a good request without one member."""
    return {name: value for name, value in META.items() if name != key}


def post(message: Any, headers: dict[bytes, bytes | None] | None = None) -> Inbound:
    """Classify a POST with the good headers, changed; None removes one."""
    merged = {**HEADERS, **(headers or {})}
    raw = message if isinstance(message, bytes) else json.dumps(message).encode()
    return classify_post(raw, {name: value for name, value in merged.items() if value is not None})


def bare(message: Any, **headers: bytes) -> Inbound:
    """Classify a POST without any modern header."""
    raw = message if isinstance(message, bytes) else json.dumps(message).encode()
    return classify_post(raw, {name.encode(): value for name, value in headers.items()})


def line(message: Any) -> Inbound:
    """Classify a line of standard input."""
    return classify_line(message if isinstance(message, bytes) else json.dumps(message).encode())


def refused(found: Inbound, status: int, code: int, identifier: Any = 1) -> Refusal:
    """Assert a refusal, and that its frame is an error response of the specification."""
    assert isinstance(found, Refusal), found
    assert (found.status, found.code, found.id) == (status, code, identifier)
    assert_valid(MODERN, "JSONRPCErrorResponse", found.encode())
    return found


# ------------------------------------------------------------------ rung 1: parse
@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xff", b'{"a":1,"a":1}', b"NaN", b"[1e999]", b"[" * 99, b'"\\ud800"']
)
def test_rung_1_what_is_not_strict_json_is_a_parse_error_without_id(raw: bytes) -> None:
    assert "Parse error: " in refused(post(raw), 400, -32700, None).message
    refused(bare(raw), 400, -32700, None)
    refused(line(raw), 400, -32700, None)


# ------------------------------------------------------------------ rung 2: shape
@pytest.mark.parametrize(
    ("message", "identifier"),
    [
        (None, None),
        ("text", None),
        (5, None),
        ({}, None),
        ({"jsonrpc": "2.0", "id": 3}, 3),
        ({"jsonrpc": "1.0", "id": 3, "method": "ping"}, 3),
        ({"jsonrpc": "2.0", "id": None, "method": "ping"}, None),
        ({"jsonrpc": "2.0", "id": True, "method": "ping"}, None),
        ({"jsonrpc": "2.0", "id": 1.5, "method": "ping"}, None),
        ({"jsonrpc": "2.0", "id": 2**60, "method": "ping"}, None),
        ({"jsonrpc": "2.0", "id": 3, "method": 5}, 3),
        ({"jsonrpc": "2.0", "id": 3, "method": "ping", "params": []}, 3),
        ({"jsonrpc": "2.0", "id": 3, "result": "x"}, None),
    ],
)
def test_rung_2_what_is_no_message_is_an_invalid_request(message: Any, identifier: Any) -> None:
    for found in (post(message), bare(message), line(message)):
        assert "Invalid request: " in refused(found, 400, -32600, identifier).message


# ------------------------------------------------------------------ rung 3: revision
def test_rung_3_a_header_that_differs_from_the_body_is_a_mismatch() -> None:
    refused(post(call(), {b"mcp-protocol-version": b"2025-11-25"}), 400, -32020)
    refused(post(call(), {b"mcp-protocol-version": b"v999"}), 400, -32020)
    refused(post(call(), {b"mcp-protocol-version": b""}), 400, -32020)
    refused(post(call(_meta=meta(**{VERSION_KEY: 5}))), 400, -32020)


def test_rung_3_a_modern_body_without_the_header_is_a_mismatch() -> None:
    found = refused(post(call(), {b"mcp-protocol-version": None}), 400, -32020)
    assert "missing" in found.message


@pytest.mark.parametrize(
    "meta_value", [..., None, 5, "x", [], {}, {"other": 1}, without(VERSION_KEY)]
)
def test_rung_3_a_modern_header_without_the_version_in_the_body_is_invalid_params(
    meta_value: Any,
) -> None:
    found = refused(post(call(_meta=meta_value)), 400, -32602)
    assert found.message == f"_meta lacks {VERSION_KEY}"


@pytest.mark.parametrize("version", ["v999.0.0", "2026-07-29", "", "2026-07-28 ", "\u0662026"])
def test_rung_3_an_unknown_version_is_answered_with_those_we_speak(version: str) -> None:
    stated = call(_meta=meta(**{VERSION_KEY: version}))
    for found in (post(stated, {b"mcp-protocol-version": None}), line(stated)):
        refusal = refused(found, 400, -32022)
        assert json.loads(refusal.data or b"null") == {
            "supported": list(SUPPORTED),
            "requested": version,
        }
        assert_valid(MODERN, "UnsupportedProtocolVersionError", json.loads(refusal.encode()))


def test_rung_3_an_unknown_version_in_header_and_body_alike_is_unsupported() -> None:
    stated = call(_meta=meta(**{VERSION_KEY: "v999.0.0"}))
    found = refused(post(stated, {b"mcp-protocol-version": b"v999.0.0"}), 400, -32022)
    assert json.loads(found.data or b"")["requested"] == "v999.0.0"


def test_rung_3_a_very_long_version_is_not_echoed_whole() -> None:
    stated = call(_meta=meta(**{VERSION_KEY: "x" * 5000}))
    found = refused(line(stated), 400, -32022)
    assert len(json.loads(found.data or b"")["requested"]) == 100


def test_rung_3_a_legacy_version_in_a_modern_envelope_is_unsupported_there() -> None:
    stated = call(_meta=meta(**{VERSION_KEY: "2025-11-25"}))
    for found in (post(stated, {b"mcp-protocol-version": b"2025-11-25"}), line(stated)):
        data = json.loads(refused(found, 400, -32022).data or b"")
        assert data == {"supported": [MODERN], "requested": "2025-11-25"}


def test_rung_3_a_version_that_is_no_string_is_invalid_params() -> None:
    stated = call(_meta=meta(**{VERSION_KEY: 20260728}))
    refused(post(stated, {b"mcp-protocol-version": None}), 400, -32602)
    refused(line(stated), 400, -32602)


@pytest.mark.parametrize("name", ["v999", "", "2026-07-28x", "2025-11-25\xa0", "\x1c2026-07-28"])
@pytest.mark.parametrize("identifier", [1, ...])
def test_rung_3_an_unknown_version_in_the_header_alone_is_refused_for_every_message(
    name: str, identifier: Any
) -> None:
    # 2025-11-25 basic/transports, "Protocol Version Header": MUST respond with 400 Bad Request.
    message = body("notifications/initialized" if identifier is ... else "ping", identifier)
    found = post(message, {b"mcp-protocol-version": name.encode("latin-1")})
    refused(found, 400, -32022, None if identifier is ... else 1)


@pytest.mark.parametrize("version", [b" 2026-07-28", b"2026-07-28\t ", b"\t2026-07-28"])
def test_rung_3_white_space_around_the_header_is_not_part_of_it(version: bytes) -> None:
    assert isinstance(post(call(), {b"mcp-protocol-version": version}), ModernInbound)


# ------------------------------------------------------------------ rung 3: the other era
@pytest.mark.parametrize("version", [name for name in REVISIONS if name != MODERN])
@pytest.mark.parametrize(
    "message",
    [
        body("tools/call", name="echo"),
        body("notifications/initialized", ...),
        {"jsonrpc": "2.0", "id": "q", "result": {}},
        {"jsonrpc": "2.0", "id": "q", "error": {"code": -1, "message": "no"}},
    ],
)
def test_legacy_messages_are_left_to_the_session(message: Any, version: str) -> None:
    for found in (post(message, {b"mcp-protocol-version": version.encode()}), bare(message)):
        assert isinstance(found, LegacyInbound)
        assert not found.is_batch
        assert not found.is_initialize


def test_initialize_opens_a_session_only_as_a_request_of_its_own() -> None:
    found = bare(body("initialize"))
    assert isinstance(found, LegacyInbound)
    assert found.is_initialize
    notification = bare(body("initialize", ...))
    assert isinstance(notification, LegacyInbound)
    assert not notification.is_initialize
    listed = LegacyInbound(found.messages, is_batch=True)
    assert not listed.is_initialize


@pytest.mark.parametrize(
    "method", ["initialize", "ping", "logging/setLevel", "resources/subscribe"]
)
def test_a_legacy_method_in_a_modern_envelope_does_not_exist(method: str) -> None:
    message = body(method, _meta=META, uri="a:b")
    headers: dict[bytes, bytes | None] = {b"mcp-method": method.encode()}
    refused(post(message, headers), 404, -32601)
    refused(line(message), 404, -32601)


# ------------------------------------------------------------------ rung 4: the envelope
@pytest.mark.parametrize(
    "meta_value",
    [
        without(CAPABILITIES_KEY),
        meta(**{CAPABILITIES_KEY: None}),
        meta(**{CAPABILITIES_KEY: []}),
        meta(**{CAPABILITIES_KEY: "all"}),
        meta(**{LOG_LEVEL_KEY: "loud"}),
        meta(**{LOG_LEVEL_KEY: 5}),
        meta(**{LOG_LEVEL_KEY: []}),
        meta(**{LOG_LEVEL_KEY: {}}),
    ],
)
def test_rung_4_an_envelope_that_lacks_or_garbles_a_member_is_invalid_params(
    meta_value: Any,
) -> None:
    refused(post(call(_meta=meta_value)), 400, -32602)
    refused(line(call(_meta=meta_value)), 400, -32602)


@pytest.mark.parametrize("info", [..., None, 5, {}, {"name": 5}, {"name": "n" * 500}])
def test_rung_4_client_info_is_display_only_and_never_refused(info: Any) -> None:
    found = post(
        call(_meta=without(CLIENT_INFO_KEY) if info is ... else meta(**{CLIENT_INFO_KEY: info}))
    )
    assert isinstance(found, ModernInbound)
    assert found.envelope is not None
    assert len(found.envelope.client_name) <= 128


# ------------------------------------------------------------------ rung 5: headers agree
@pytest.mark.parametrize(
    ("header", "value", "word"),
    [
        (b"mcp-method", None, "missing"),
        (b"mcp-method", b"", "match"),
        (b"mcp-method", b"Tools/Call", "match"),
        (b"mcp-method", b"tools/list", "match"),
        (b"mcp-method", b"=?base64?dG9vbHMvY2FsbA==?=", "match"),
        (b"mcp-method", b"tools/call\xa0", "match"),
        (b"mcp-name", None, "missing"),
        (b"mcp-name", b"", "match"),
        (b"mcp-name", b"Echo", "match"),
        (b"mcp-name", b"ech\xc3\xb6", "match"),
        (b"mcp-name", b"=?base64?ZWNobw=?=", "match"),
        (b"mcp-name", b"=?base64?ZWNobz==?=", "match"),
        (b"mcp-name", b"=?BASE64?ZWNobw==?=", "match"),
    ],
)
def test_rung_5_headers_that_do_not_say_what_the_body_says_are_a_mismatch(
    header: bytes, value: bytes | None, word: str
) -> None:
    found = refused(post(call(), {header: value}), 400, -32020)
    assert found.message.startswith("Header mismatch: ")
    assert word in found.message


@pytest.mark.parametrize(
    "value", [b"echo", b"  echo ", b"\techo", b"=?base64?ZWNobw==?=", b" =?base64?ZWNobw==?= "]
)
def test_rung_5_a_name_may_be_padded_or_wrapped(value: bytes) -> None:
    assert isinstance(post(call(), {b"mcp-name": value}), ModernInbound)


def test_rung_5_names_beyond_ascii_are_compared_after_decoding() -> None:
    wrapped = b"=?base64?" + b"5LiW55WM" + b"?="
    assert isinstance(post(call(name="世界"), {b"mcp-name": wrapped}), ModernInbound)
    refused(post(call(name="世"), {b"mcp-name": wrapped}), 400, -32020)


def test_rung_5_a_method_that_names_nothing_needs_no_name_header() -> None:
    listing = body("tools/list", _meta=META)
    headers: dict[bytes, bytes | None] = {b"mcp-method": b"tools/list", b"mcp-name": None}
    assert isinstance(post(listing, headers), ModernInbound)


def test_rung_5_comes_before_the_method_is_looked_up() -> None:
    refused(post(body("no/such", _meta=META)), 400, -32020)


def test_a_line_has_no_headers_to_agree_with() -> None:
    found = line(call())
    assert isinstance(found, ModernInbound)
    assert found.method is METHODS["tools/call"]


# ------------------------------------------------------------------ rung 6: the method exists
@pytest.mark.parametrize("method", ["no/such", "tools/Call", "server/discover/", "__class__"])
def test_rung_6_an_unknown_method_is_not_found(method: str) -> None:
    found = post(body(method, _meta=META), {b"mcp-method": method.encode()})
    assert method in refused(found, 404, -32601).message
    refused(line(body(method, _meta=META)), 404, -32601)


# ------------------------------------------------------------------ rung 7: parameters have their types
@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"name": ...}, "params.name"),
        ({"name": None}, "params.name"),
        ({"name": 5}, "params.name"),
        ({"name": ["echo"]}, "params.name"),
        ({"arguments": []}, "params.arguments"),
        ({"arguments": "x"}, "params.arguments"),
        ({"arguments": False}, "params.arguments"),
        ({"inputResponses": []}, "params.inputResponses"),
        ({"inputResponses": None}, "params.inputResponses"),
        ({"requestState": {}}, "params.requestState"),
        ({"requestState": None}, "params.requestState"),
        ({"requestState": 1}, "params.requestState"),
        ({"cursor": 1}, "params.cursor"),
        ({"_meta": meta(progressToken=1.5)}, "progressToken"),
        ({"_meta": meta(progressToken=True)}, "progressToken"),
        ({"_meta": meta(progressToken={})}, "progressToken"),
    ],
)
def test_rung_7_a_parameter_of_the_wrong_type_is_invalid_params(
    changes: dict[str, Any], word: str
) -> None:
    headers: dict[bytes, bytes | None] = {}
    assert word in refused(post(call(**changes), headers), 400, -32602).message
    assert word in refused(line(call(**changes)), 400, -32602).message
    legacy = bare(call(**{"_meta": {"progressToken": 1}, **changes}))
    if isinstance(legacy, LegacyInbound):
        found = check_legacy(legacy.messages[0], REVISIONS["2025-11-25"])
        assert isinstance(found, Refusal)
        assert (found.status, found.code) == (200, -32602)
        assert word in found.message


@pytest.mark.parametrize(
    ("method", "params", "word"),
    [
        ("completion/complete", {"argument": {}}, "params.ref"),
        ("completion/complete", {"ref": [], "argument": {}}, "params.ref"),
        ("completion/complete", {"ref": {}, "argument": "x"}, "params.argument"),
        ("subscriptions/listen", {}, "params.notifications"),
        ("subscriptions/listen", {"notifications": [1]}, "params.notifications"),
    ],
)
def test_rung_7_what_a_method_requires_is_there(
    method: str, params: dict[str, Any], word: str
) -> None:
    message = body(method, **params, _meta=META)
    assert word in refused(post(message, {b"mcp-method": method.encode()}), 400, -32602).message
    assert word in refused(line(message), 400, -32602).message


@pytest.mark.parametrize("level", [None, [], {}, 5])
def test_rung_7_a_log_level_that_is_no_text_is_refused_in_a_session(level: Any) -> None:
    inbound = bare(body("logging/setLevel", level=level))
    assert isinstance(inbound, LegacyInbound)
    found = check_legacy(inbound.messages[0], REVISIONS["2025-11-25"])
    refused(found if isinstance(found, Refusal) else inbound, 200, -32602)


@pytest.mark.parametrize(
    "changes",
    [
        {"arguments": ...},
        {"arguments": None},
        {"arguments": {}},
        {"inputResponses": {}, "requestState": ""},
        {"cursor": None},
        {"cursor": ""},
        {"_meta": meta(progressToken=0)},
        {"_meta": meta(progressToken=None)},
        {"_meta": meta(progressToken="")},
        {"unknown": [1]},
    ],
)
def test_a_request_that_passes_every_rung_is_inbound(changes: dict[str, Any]) -> None:
    for found in (post(call(**changes)), line(call(**changes))):
        assert isinstance(found, ModernInbound)
        assert found.method is METHODS["tools/call"]
        assert found.envelope is not None
        assert found.envelope.log_level is None
        assert found.message.id == 1


@pytest.mark.parametrize(("method", "key"), [("resources/read", "uri"), ("prompts/get", "name")])
def test_every_naming_method_has_its_name_compared(method: str, key: str) -> None:
    message = body(method, _meta=META, **{key: "a:b"})
    headers: dict[bytes, bytes | None] = {b"mcp-method": method.encode(), b"mcp-name": b"a:b"}
    found = post(message, headers)
    assert isinstance(found, ModernInbound)
    assert entry_name(found.message, METHODS[method]) == "a:b"
    refused(post(message, {**headers, b"mcp-name": b"a:c"}), 400, -32020)
    refused(post(body(method, _meta=META), headers), 400, -32602)


def test_a_method_that_names_nothing_has_no_entry_name() -> None:
    found = line(body("tools/list", _meta=META, name="echo"))
    assert isinstance(found, ModernInbound)
    assert entry_name(found.message, METHODS["tools/list"]) is None


# ------------------------------------------------------------------ notifications and responses
@pytest.mark.parametrize("meta_value", [META, ..., {}, {VERSION_KEY: MODERN}])
def test_a_modern_notification_passes_without_method_and_envelope(meta_value: Any) -> None:
    params = {} if meta_value is ... else {"_meta": meta_value}
    found = post(body("notifications/cancelled", ..., **params))
    assert found == ModernInbound(found.message) if isinstance(found, ModernInbound) else False


def test_a_notification_with_a_modern_body_needs_no_header() -> None:
    assert isinstance(bare(body("notifications/cancelled", ..., _meta=META)), ModernInbound)


def test_a_notification_whose_header_differs_from_its_body_is_refused_without_id() -> None:
    message = body("notifications/cancelled", ..., _meta=META)
    refused(post(message, {b"mcp-protocol-version": b"2025-11-25"}), 400, -32020, None)


@pytest.mark.parametrize("version", [MODERN, "v999", 5])
def test_a_notification_on_a_line_is_never_answered(version: Any) -> None:
    found = line(body("notifications/cancelled", ..., _meta={VERSION_KEY: version}))
    assert isinstance(found, ModernInbound)
    assert found.method is None


def test_a_notification_on_a_line_without_version_is_left_to_the_session() -> None:
    assert isinstance(line(body("notifications/cancelled", ..., requestId=1)), LegacyInbound)


def test_a_response_in_the_modern_era_is_refused_without_the_id_it_bears() -> None:
    # The id is one the server gave out; an error bearing it could answer a request of the client's.
    found = post({"jsonrpc": "2.0", "id": 7, "result": {}})
    refused(found, 400, -32600, None)


def test_a_response_on_a_line_is_left_to_the_session() -> None:
    assert isinstance(line({"jsonrpc": "2.0", "id": 7, "result": {}}), LegacyInbound)


# ------------------------------------------------------------------ batches
BATCH = [body("ping", 1), body("notifications/initialized", ...), {"jsonrpc": "2.0", "id": 3}]


@pytest.mark.parametrize("headers", [{}, {"mcp-protocol-version": b" 2025-03-26 "}])
def test_a_batch_is_left_to_a_session_that_has_batches(headers: dict[str, bytes]) -> None:
    found = bare(BATCH, **headers)
    assert isinstance(found, LegacyInbound)
    assert found.is_batch
    assert [message.shape for message in found.messages] == ["request", "notification", "invalid"]
    on_a_line = line(BATCH)
    assert isinstance(on_a_line, LegacyInbound)
    assert on_a_line.is_batch


@pytest.mark.parametrize("version", ["2024-11-05", "2025-06-18", "2025-11-25", MODERN])
def test_a_batch_is_refused_where_the_revision_has_none(version: str) -> None:
    refused(post(BATCH, {b"mcp-protocol-version": version.encode()}), 400, -32600, None)


def test_a_batch_under_an_unknown_version_is_told_the_versions() -> None:
    refused(post(BATCH, {b"mcp-protocol-version": b"v999"}), 400, -32022, None)


@pytest.mark.parametrize(
    "items",
    [
        [],
        [body("ping", number) for number in range(MAX_BATCH + 1)],
        [body("ping", 1), body("initialize", 2)],
        [body("initialize", ...)],
    ],
)
def test_a_batch_of_the_wrong_size_or_with_initialize_inside_is_refused(items: list[Any]) -> None:
    refused(bare(items), 400, -32600, None)
    refused(line(items), 400, -32600, None)


def test_a_batch_of_the_largest_size_passes() -> None:
    assert isinstance(bare([body("ping", number) for number in range(MAX_BATCH)]), LegacyInbound)


# ------------------------------------------------------------------ legacy requests in a session
@pytest.mark.parametrize("version", [name for name in REVISIONS if name != MODERN])
@pytest.mark.parametrize(
    "method", [method for method in METHODS.values() if method.name != "server/discover"]
)
def test_a_session_knows_the_methods_of_its_era(method: Method, version: str) -> None:
    params = {name: kind() for name, kind in method.required}
    inbound = bare(body(method.name, **params))
    assert isinstance(inbound, LegacyInbound)
    found = check_legacy(inbound.messages[0], REVISIONS[version])
    if find_method(method.name, REVISIONS[version]) is None:
        assert isinstance(found, Refusal)
        assert (found.status, found.code) == (200, -32601)
    else:
        assert found is method


def test_a_session_answers_an_unknown_method_without_404_which_would_end_it() -> None:
    inbound = bare(body("no/such", "a"))
    assert isinstance(inbound, LegacyInbound)
    found = check_legacy(inbound.messages[0], REVISIONS["2025-11-25"])
    refused(found if isinstance(found, Refusal) else inbound, 200, -32601, "a")


def test_a_legacy_meta_that_is_no_object_is_refused_before_anyone_reads_it() -> None:
    inbound = bare(body("ping", _meta=[1]))
    assert isinstance(inbound, LegacyInbound)
    found = check_legacy(inbound.messages[0], REVISIONS["2024-11-05"])
    refused(found if isinstance(found, Refusal) else inbound, 200, -32602)


# --- what is remembered


@pytest.fixture
def nothing_known() -> Iterator[None]:
    ladder._known.clear()
    yield
    ladder._known.clear()


BIG = meta(x="x" * 4_000)
LOOKS: list[tuple[Any, dict[bytes, bytes | None]]] = [
    (call(), {}),
    (call(arguments={"text": "another"}), {}),
    (call(arguments=...), {}),
    (call(arguments=None), {}),
    (call(arguments=[]), {}),
    (call(name=7), {}),
    (call(name=...), {}),
    (call(name="other"), {}),
    (call(name="other"), {b"mcp-name": b"other"}),
    (call(_meta=meta(**{CAPABILITIES_KEY: {"roots": {"listChanged": 1}}})), {}),
    (call(_meta=meta(**{CAPABILITIES_KEY: {"roots": {"listChanged": True}}})), {}),
    (call(_meta=meta(progressToken=1)), {}),
    (call(_meta=meta(progressToken=True)), {}),
    (call(_meta=BIG), {}),
    (call(_meta=...), {}),
    (call(_meta=[]), {}),
    (call(requestState="s"), {}),
    (call(inputResponses=1), {}),
    ({**call(), "id": True}, {}),
    ({**call(), "id": "x"}, {}),
    ({**call(), "jsonrpc": "1.0"}, {}),
    ({**call(), "method": 7}, {}),
    ({**call(), "method": "tools/nothing"}, {}),
    ({**call(), "params": []}, {}),
    ({**call(), "result": {}}, {}),
    (call(), {b"mcp-method": b"tools/list"}),
    (call(), {b"mcp-name": None}),
    (call(), {b"mcp-protocol-version": b"2025-11-25"}),
    (body("tools/list", _meta=META), {b"mcp-method": b"tools/list", b"mcp-name": None}),
    (body(identifier=..., **call()["params"]), {}),
]


@pytest.mark.usefixtures("nothing_known")
def test_whatever_came_before_a_message_means_what_it_means_alone() -> None:
    alone: list[Inbound] = []
    for message, headers in LOOKS:
        ladder._known.clear()
        alone.append(post(message, headers))
    for _ in range(2):
        for (message, headers), expected in zip(LOOKS, alone, strict=True):
            assert post(message, headers) == expected
    assert 0 < len(ladder._known) < len(LOOKS)


@pytest.mark.usefixtures("nothing_known")
def test_a_request_that_looks_like_one_that_passed_does_not_climb_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = post(call())
    monkeypatch.setattr(ladder, "_climb", None)
    again = post({**call(arguments={"text": "y"}), "id": "another"})
    assert isinstance(first, ModernInbound)
    assert isinstance(again, ModernInbound)
    assert (again.method, again.envelope) == (first.method, first.envelope)
    assert (again.message.id, again.message.params["arguments"]) == ("another", {"text": "y"})


@pytest.mark.usefixtures("nothing_known")
def test_what_is_remembered_is_bounded() -> None:
    for number in range(ladder._KNOWN_MAX + 2):
        post(call(name=f"n{number}"), {b"mcp-name": f"n{number}".encode()})
    assert len(ladder._known) == 2
