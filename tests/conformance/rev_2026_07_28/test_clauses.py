"""2026-07-28: the clauses that concern messages alone, by page and section."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.spec_messages import (
    META,
    MODERN,
    error_of,
    line,
    modern,
    post,
    post_modern,
    request,
    status_and_code,
)
from tests.support.spec_schemas import assert_valid
from waygate_mcp import errors
from waygate_mcp.errors import LocalProtocolError
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES, ClientCapabilities
from waygate_mcp.protocol.failures import CODES, describe_failure
from waygate_mcp.protocol.headers import (
    HeaderParam,
    HeaderParamsError,
    find_header_params,
    param_mismatch,
)
from waygate_mcp.protocol.ladder import LegacyInbound, ModernInbound
from waygate_mcp.protocol.methods import METHODS
from waygate_mcp.protocol.stateless import (
    CAPABILITIES_KEY,
    CLIENT_INFO_KEY,
    LOG_LEVEL_KEY,
    SERVER_INFO_KEY,
    SUBSCRIPTION_KEY,
    VERSION_KEY,
    ListenFilter,
    acknowledgement,
    discover_result,
    encode_complete,
    input_required_result,
    listen_end_result,
    read_listen_filter,
    server_info_meta,
    tag_notification,
)
from waygate_mcp.protocol.versions import REVISIONS

READER = REVISIONS[MODERN]
INFO = server_info_meta({"name": "waygate", "version": "1"})
CALL = modern("tools/call", name="get_weather", arguments={"location": "Seattle, WA"})


# ------------------------------------------------------------------ basic/index
@pytest.mark.parametrize("key", [VERSION_KEY, CAPABILITIES_KEY])
def test_basic_index_meta_a_request_missing_a_required_field_must_get_32602_and_400(
    key: str,
) -> None:
    meta = {name: value for name, value in META.items() if name != key}
    message = modern("tools/list", _meta=meta)
    found = post_modern(message)
    assert status_and_code(found) == (400, -32602)
    assert_valid(MODERN, "InvalidParamsError", error_of(found)["error"])


def test_basic_index_meta_client_info_is_not_required() -> None:
    assert CLIENT_INFO_KEY not in META
    assert isinstance(post_modern(modern("tools/list")), ModernInbound)


def test_basic_index_meta_a_missing_capability_must_get_32021_and_400() -> None:
    failure = describe_failure(errors.CapabilityMissingError({"sampling": {}}), READER)
    assert (failure.status, failure.code) == (400, -32021)
    frame = json.loads(failure.encode(1))
    assert_valid(MODERN, "MissingRequiredClientCapabilityError", frame)
    assert frame["error"]["data"]["requiredCapabilities"] == {"sampling": {}}


def test_basic_index_responses_every_result_must_include_a_result_type() -> None:
    complete = json.loads(encode_complete(1, b'{"tools":[]}', None, INFO, (0, "public")))
    asking = json.loads(input_required_result({}, "state", INFO))
    ended = json.loads(listen_end_result(1, INFO))
    assert complete["result"]["resultType"] == "complete"
    assert asking["resultType"] == "input_required"
    assert ended["resultType"] == "complete"
    for result in (complete["result"], asking, ended):
        # "Servers SHOULD include io.modelcontextprotocol/serverInfo in every result's _meta"
        assert result["_meta"][SERVER_INFO_KEY]["name"] == "waygate"


def test_basic_index_error_codes_implementations_must_not_emit_retired_or_undefined_codes() -> None:
    for code in (-32002, -32042, *range(-32099, -32022)):
        passed_on = describe_failure(errors.RpcError(code, "x"), READER).code
        assert passed_on in {-32602, -32603}, code


def test_basic_index_error_codes_new_codes_should_lie_outside_the_reserved_range() -> None:
    own = {code for code in CODES.values() if code > -32000 or code < -32768}
    assert own == {4401, 4403, 4408, 4413, 4420, 4429}


@pytest.mark.parametrize(
    "body", [b"{", b'{"jsonrpc":"2.0","id":null,"method":"x"}', b"[]", b"5", b'"x"']
)
def test_basic_index_error_responses_have_no_id_where_it_could_not_be_read(body: bytes) -> None:
    frame = error_of(post(body, mcp_protocol_version=MODERN))
    assert "id" not in frame
    assert_valid(MODERN, "JSONRPCErrorResponse", frame)


# ------------------------------------------------------------------ basic/versioning
@pytest.mark.parametrize("version", ["1900-01-01", "2026-07-29", "v999.0.0"])
def test_basic_versioning_an_unsupported_version_must_be_answered_with_those_supported(
    version: str,
) -> None:
    message = modern("tools/list", _meta={**META, VERSION_KEY: version})
    for found in (post_modern(message, mcp_protocol_version=version), line(message)):
        assert status_and_code(found) == (400, -32022)
        frame = error_of(found)
        assert_valid(MODERN, "UnsupportedProtocolVersionError", frame)
        assert frame["error"]["data"]["requested"] == version
        assert MODERN in frame["error"]["data"]["supported"]


def test_basic_versioning_a_known_version_that_is_not_served_this_way_is_unsupported_too() -> None:
    message = modern("tools/list", _meta={**META, VERSION_KEY: "2025-06-18"})
    assert status_and_code(post_modern(message, mcp_protocol_version="2025-06-18"))[1] == -32022


def test_basic_versioning_the_supported_versions_are_among_those_discovered() -> None:
    found = line(modern("tools/list", _meta={**META, VERSION_KEY: "x"}))
    supported = error_of(found)["error"]["data"]["supported"]
    assert set(supported) <= set(json.loads(discover_result({}, None))["supportedVersions"])


def test_basic_versioning_a_dual_era_server_selects_its_behaviour_from_how_the_client_opens() -> (
    None
):
    assert isinstance(post_modern(modern("tools/list")), ModernInbound)
    opening = post(request("initialize", protocolVersion="2025-11-25", capabilities={}))
    assert isinstance(opening, LegacyInbound)
    assert opening.is_initialize
    assert isinstance(line(modern("tools/list")), ModernInbound)
    assert isinstance(line(request("tools/list")), LegacyInbound)


# ------------------------------------------------------------------ basic/transports/streamable-http
def test_streamable_http_protocol_version_header_must_match_the_body() -> None:
    for version in ("2025-11-25", "1900-01-01", "2026-07-28x"):
        found = post_modern(CALL, mcp_protocol_version=version)
        assert status_and_code(found) == (400, -32020)
        assert_valid(MODERN, "HeaderMismatchError", error_of(found))
        assert error_of(found)["id"] == 1


@pytest.mark.parametrize("header", ["mcp_protocol_version", "mcp_method", "mcp_name"])
def test_streamable_http_server_validation_a_missing_standard_header_must_get_32020(
    header: str,
) -> None:
    assert status_and_code(post_modern(CALL, **{header: None})) == (400, -32020)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("mcp_method", "tools/list"),
        ("mcp_method", "TOOLS/CALL"),
        ("mcp_name", "get_Weather"),
        ("mcp_name", "=?base64?Zm9v?="),
        ("mcp_name", "=?base64?not base64!?="),
        ("mcp_name", "get_weather\x7f"),
        ("mcp_name", "get_weath\xe9r"),
    ],
)
def test_streamable_http_server_validation_a_header_that_does_not_match_must_get_32020(
    header: str, value: str
) -> None:
    assert status_and_code(post_modern(CALL, **{header: value})) == (400, -32020)


def test_streamable_http_value_encoding_servers_must_decode_before_comparing() -> None:
    assert isinstance(post_modern(CALL, mcp_name="=?base64?Z2V0X3dlYXRoZXI=?="), ModernInbound)


def test_streamable_http_required_for_names_the_methods_that_need_a_name() -> None:
    for method, key in (("tools/call", "name"), ("prompts/get", "name"), ("resources/read", "uri")):
        message = modern(method, **{key: "x:y"})
        assert isinstance(post_modern(message), ModernInbound)
        assert status_and_code(post_modern(message, mcp_name=None)) == (400, -32020)
    assert isinstance(post_modern(modern("tools/list"), mcp_name=None), ModernInbound)


@pytest.mark.parametrize("method", ["no/such", "ping", "initialize", "logging/setLevel"])
def test_streamable_http_a_method_that_is_not_implemented_must_get_404_and_32601(
    method: str,
) -> None:
    found = post_modern(modern(method))
    assert status_and_code(found) == (404, -32601)
    assert_valid(MODERN, "MethodNotFoundError", error_of(found)["error"])


def test_streamable_http_the_client_must_not_send_responses() -> None:
    message = {"jsonrpc": "2.0", "id": 1, "result": {}}
    found = post(message, mcp_protocol_version=MODERN)
    assert status_and_code(found) == (400, -32600)
    assert "id" not in error_of(found)


def test_streamable_http_a_notification_is_accepted_whatever_its_headers_leave_out() -> None:
    # "header requirements for notification POSTs are not defined by this revision"
    message = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    found = post(message, mcp_protocol_version=MODERN)
    assert isinstance(found, ModernInbound)
    assert found.method is None


def test_streamable_http_a_body_must_be_a_single_message() -> None:
    assert status_and_code(post([CALL], mcp_protocol_version=MODERN)) == (400, -32600)


# The table under "Server Behavior for Custom Headers".
@pytest.mark.parametrize(
    ("arguments", "headers", "is_accepted"),
    [
        ({"region": "us-west1"}, {b"mcp-param-region": b"us-west1"}, True),
        ({"region": None}, {}, True),
        ({}, {}, True),
        ({"region": "us-west1"}, {}, False),
        ({"region": "us-west1"}, {b"mcp-param-region": b"eu"}, False),
        ({"region": "us-west1"}, {b"mcp-param-region": b"\xff"}, False),
        ({"region": 42}, {b"mcp-param-region": b"42.0"}, True),
        (
            {"region": "Hello, 世界"},
            {b"mcp-param-region": b"=?base64?SGVsbG8sIOS4lueVjA==?="},
            True,
        ),
        ({"region": "us-west1"}, {b"mcp-param-region": b"us-west1", b"mcp-param-x": b"y"}, True),
    ],
)
def test_streamable_http_custom_headers_are_validated_as_the_table_says(
    arguments: dict[str, Any], headers: dict[bytes, bytes], is_accepted: bool
) -> None:
    problem = param_mismatch((HeaderParam("Region", ("region",)),), arguments, headers)
    assert (problem is None) is is_accepted


@pytest.mark.parametrize(
    "field",
    [
        {"type": "string", "x-mcp-header": ""},
        {"type": "string", "x-mcp-header": "a b"},
        {"type": "string", "x-mcp-header": "a\r\nb"},
        {"type": "number", "x-mcp-header": "A"},
        {"type": "array", "items": {"type": "string", "x-mcp-header": "A"}},
        {"anyOf": [{"type": "string", "x-mcp-header": "A"}]},
        {"not": {"type": "string", "x-mcp-header": "A"}},
        {"type": "string", "x-mcp-header": "SAME"},
    ],
)
def test_streamable_http_schema_extension_what_breaks_a_constraint_is_rejected(
    field: dict[str, Any],
) -> None:
    properties = {"first": {"type": "string", "x-mcp-header": "same"}, "second": field}
    with pytest.raises(HeaderParamsError):
        find_header_params({"type": "object", "properties": properties})


# ------------------------------------------------------------------ basic/transports/stdio
def test_stdio_request_metadata_is_carried_in_the_body_and_there_is_no_header_layer() -> None:
    assert isinstance(line(CALL), ModernInbound)


def test_stdio_a_cancellation_carries_no_version_and_is_no_error() -> None:
    message = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    assert_valid(MODERN, "CancelledNotification", message)
    assert isinstance(line(message), LegacyInbound)


# ------------------------------------------------------------------ basic/patterns/mrtr
def test_mrtr_supported_requests_are_three() -> None:
    asking = {name for name, method in METHODS.items() if method.may_ask}
    assert asking == {"prompts/get", "resources/read", "tools/call"}


def test_mrtr_7_at_least_one_of_input_requests_or_request_state_must_be_there() -> None:
    with pytest.raises(LocalProtocolError):
        input_required_result({}, None, INFO)
    for result in (
        input_required_result({}, "state", INFO),
        input_required_result({"w1": ("roots/list", b"{}")}, None, INFO),
    ):
        assert_valid(MODERN, "InputRequiredResult", result)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("elicitation/create", {"mode": "form"}),
        ("elicitation/create", {"mode": "url"}),
        ("sampling/createMessage", {}),
        ("sampling/createMessage", {"tools": [{}]}),
        ("roots/list", {}),
    ],
)
def test_mrtr_8_nothing_is_asked_that_the_client_has_not_declared(
    method: str, params: dict[str, Any]
) -> None:
    assert NO_CAPABILITIES.missing_for(method, params) is not None


@pytest.mark.parametrize("member", ["inputResponses", "requestState"])
@pytest.mark.parametrize("value", [[], 5, None, True])
def test_mrtr_error_handling_a_garbled_retry_is_a_json_rpc_error(member: str, value: Any) -> None:
    message = modern("tools/call", name="x", **{member: value})
    assert status_and_code(post_modern(message)) == (400, -32602)


# ------------------------------------------------------------------ basic/patterns/subscriptions
@pytest.mark.parametrize("identifier", [1, "1", "listen-é"])
def test_subscriptions_every_message_must_carry_the_id_of_its_listen_request(
    identifier: str | int,
) -> None:
    messages = [
        acknowledgement(identifier, ListenFilter(tools=True)),
        tag_notification("notifications/tools/list_changed", identifier),
        tag_notification("notifications/resources/updated", identifier, "file:///a"),
    ]
    for message in messages:
        tag = json.loads(message)["params"]["_meta"][SUBSCRIPTION_KEY]
        assert tag == identifier
        assert type(tag) is type(identifier)
    assert json.loads(listen_end_result(identifier, INFO))["_meta"][SUBSCRIPTION_KEY] == identifier


def test_subscriptions_types_not_requested_must_not_be_sent() -> None:
    assert read_listen_filter({"notifications": {}}) == ListenFilter()
    sent = json.loads(acknowledgement(1, ListenFilter(prompts=True)))
    assert sent["params"]["notifications"] == {"promptsListChanged": True}


# ------------------------------------------------------------------ server/utilities
@pytest.mark.parametrize(("given", "sent"), [(0, 0), (60_000, 60_000), (-1, 0)])
def test_caching_servers_must_provide_a_ttl_that_is_not_negative(given: int, sent: int) -> None:
    frame = json.loads(encode_complete(1, b"{}", None, INFO, (given, "private")))
    assert (frame["result"]["ttlMs"], frame["result"]["cacheScope"]) == (sent, "private")


def test_caching_input_required_results_carry_no_hints() -> None:
    assert not {"ttlMs", "cacheScope"} & set(json.loads(input_required_result({}, "s", INFO)))


def test_caching_cacheable_results_are_six() -> None:
    cacheable = {name for name, method in METHODS.items() if method.is_cacheable}
    lists = {"tools/list", "prompts/list", "resources/list", "resources/templates/list"}
    assert cacheable == lists | {"server/discover", "resources/read"}


@pytest.mark.parametrize("level", ["loud", "", 5, [], {}, "INFO"])
def test_logging_an_unrecognised_level_should_get_32602(level: Any) -> None:
    message = modern("tools/list", _meta={**META, LOG_LEVEL_KEY: level})
    assert status_and_code(post_modern(message)) == (400, -32602)


def test_logging_without_a_level_no_messages_are_wanted() -> None:
    found = post_modern(modern("tools/list"))
    assert isinstance(found, ModernInbound)
    assert found.envelope is not None
    assert found.envelope.log_level is None


# ------------------------------------------------------------------ client/elicitation, server/resources
def test_elicitation_an_empty_object_means_form_mode_only() -> None:
    found = ClientCapabilities.parse({"elicitation": {}}, READER)
    assert (found.form, found.url) == (True, False)


def test_resources_error_handling_not_found_is_32602_with_the_uri() -> None:
    failure = describe_failure(errors.UnknownNameError("resource", "file:///no"), READER)
    assert (failure.code, json.loads(failure.data or b"")) == (-32602, {"uri": "file:///no"})
