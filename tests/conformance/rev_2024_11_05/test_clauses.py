"""2024-11-05: the clauses that concern messages alone, by page and section."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.spec_messages import (
    AUDIO,
    EMBEDDED,
    IMAGE,
    LINK,
    TEXT,
    error_of,
    greet,
    post,
    request,
    status_and_code,
    tool_result,
)
from tests.support.spec_schemas import assert_valid
from waygate_mcp import errors
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.failures import describe_failure
from waygate_mcp.protocol.framing import SseDecoder, encode_event, encode_line
from waygate_mcp.protocol.jsonrpc import encode_notification, encode_result
from waygate_mcp.protocol.ladder import LegacyInbound, Refusal, check_legacy
from waygate_mcp.protocol.versions import REVISIONS

REVISION = "2024-11-05"
READER = REVISIONS[REVISION]


@pytest.mark.parametrize("identifier", ["a", "", 0, -5, 2**53 - 1])
def test_basic_messages_requests_must_include_a_string_or_integer_id(identifier: Any) -> None:
    found = post(request(identifier=identifier))
    assert isinstance(found, LegacyInbound)
    assert found.messages[0].id == identifier


@pytest.mark.parametrize("identifier", [None, 1.5, [], {}, True])
def test_basic_messages_the_id_must_not_be_null_or_anything_else(identifier: Any) -> None:
    assert status_and_code(post(request(identifier=identifier))) == (400, -32600)


@pytest.mark.parametrize("identifier", ["a", "1", 1])
def test_basic_messages_responses_must_include_the_same_id_as_the_request(identifier: Any) -> None:
    frame = json.loads(encode_result(identifier, b"{}"))
    assert frame["id"] == identifier
    assert type(frame["id"]) is type(identifier)
    assert_valid(REVISION, "JSONRPCResponse", frame)
    assert error_of(post({**request(identifier=identifier), "params": 5}))["id"] == identifier


def test_basic_messages_a_response_must_not_set_both_result_and_error() -> None:
    both = {"jsonrpc": "2.0", "id": 1, "result": {}, "error": {"code": 1, "message": "x"}}
    assert status_and_code(post(both)) == (400, -32600)


def test_basic_messages_error_codes_must_be_integers() -> None:
    wrong = {"jsonrpc": "2.0", "id": 1, "error": {"code": "1", "message": "x"}}
    assert status_and_code(post(wrong)) == (400, -32600)
    frame = describe_failure(errors.StorageError(), READER).encode(1)
    assert_valid(REVISION, "JSONRPCError", frame)


def test_basic_messages_notifications_must_not_include_an_id() -> None:
    frame = encode_notification("notifications/tools/list_changed")
    assert "id" not in json.loads(frame)
    assert_valid(REVISION, "JSONRPCNotification", frame)


def test_basic_lifecycle_a_supported_version_must_be_answered_with_itself() -> None:
    revision, result = greet(REVISION)
    assert revision == result["protocolVersion"] == REVISION
    assert_valid(REVISION, "InitializeResult", result)


def test_basic_lifecycle_a_capability_the_revision_lacks_is_not_offered() -> None:
    assert "completions" not in greet(REVISION)[1]["capabilities"]


def test_basic_lifecycle_parties_must_respect_the_negotiated_version() -> None:
    found = post(request("server/discover"))
    assert isinstance(found, LegacyInbound)
    refused = check_legacy(found.messages[0], READER)
    assert isinstance(refused, Refusal)
    assert refused.code == -32601


def test_basic_lifecycle_only_capabilities_of_the_revision_are_believed() -> None:
    declared = {"elicitation": {}, "sampling": {"tools": {}}, "roots": {"listChanged": True}}
    found = ClientCapabilities.parse(declared, READER)
    assert (found.form, found.url, found.sampling_tools) == (False, False, False)
    assert (found.sampling, found.roots) == (True, True)


def test_basic_transports_stdio_messages_must_not_contain_embedded_newlines() -> None:
    assert encode_line(b'{\n"a":\r\n1}') == b'{ "a": 1}\n'


def test_basic_transports_http_with_sse_the_endpoint_event_and_messages_are_events() -> None:
    stream = encode_event(b"/messages/1", event="endpoint") + encode_event(b"{}", event="message")
    first, second = SseDecoder(1000).feed(stream)
    assert (first.event, first.data) == ("endpoint", b"/messages/1")
    assert (second.event, second.data) == ("message", b"{}")


@pytest.mark.parametrize("block", [TEXT, IMAGE, EMBEDDED, AUDIO, LINK])
def test_server_tools_results_hold_text_images_and_resources_only(block: dict[str, Any]) -> None:
    result = tool_result(REVISION, content=[block])
    assert_valid(REVISION, "CallToolResult", result)
    assert result["content"][0]["type"] in {"text", "image", "resource"}


def test_server_resources_error_handling_not_found_is_32002() -> None:
    failure = describe_failure(errors.UnknownNameError("resource", "file:///no"), READER)
    assert (failure.code, json.loads(failure.data or b"")) == (-32002, {"uri": "file:///no"})


def test_server_tools_error_handling_an_unknown_tool_is_a_protocol_error() -> None:
    assert describe_failure(errors.UnknownNameError("tool", "no"), READER).code == -32602


def test_there_is_no_batch_in_this_revision() -> None:
    # "A single JSON-RPC message" is all basic/messages knows; batching is 2025-03-26's alone.
    found = post([request()], mcp_protocol_version=REVISION)
    assert status_and_code(found) == (400, -32600)
