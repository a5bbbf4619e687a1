"""2025-11-25: the clauses that concern messages alone, by page and section."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.spec_messages import error_of, greet, post, request, status_and_code
from tests.support.spec_schemas import assert_valid
from waygate_mcp import errors
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.failures import describe_failure
from waygate_mcp.protocol.framing import SseDecoder, SseEvent, encode_event
from waygate_mcp.protocol.handshake import downgrade_form
from waygate_mcp.protocol.jsonrpc import encode_json
from waygate_mcp.protocol.versions import REVISIONS, negotiate

REVISION = "2025-11-25"
READER = REVISIONS[REVISION]


def test_basic_index_an_error_about_an_unreadable_id_has_no_id() -> None:
    frame = error_of(post(b"{"))
    assert "id" not in frame
    assert_valid(REVISION, "JSONRPCErrorResponse", frame)


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "id": 5, "result": "no object"},
        {"jsonrpc": "2.0", "id": 5, "error": {}},
        {"jsonrpc": "2.0", "id": 5, "result": {}, "error": {"code": 1, "message": "x"}},
    ],
)
def test_basic_transports_an_error_about_a_response_that_cannot_be_accepted_has_no_id(
    message: dict[str, Any],
) -> None:
    # "If the server cannot accept the input, it MUST return an HTTP error status code (e.g., 400)."
    found = post(message, mcp_protocol_version=REVISION)
    assert status_and_code(found) == (400, -32600)
    assert "id" not in error_of(found)


@pytest.mark.parametrize("requested", ["2026-07-28", "2027-01-01", "1999-01-01", ""])
def test_basic_lifecycle_version_negotiation_another_version_should_be_the_latest(
    requested: str,
) -> None:
    assert negotiate(requested).text == REVISION
    assert greet(requested)[1]["protocolVersion"] == REVISION


def test_basic_lifecycle_the_server_must_respond_with_its_capabilities_and_information() -> None:
    result = greet(REVISION)[1]
    assert_valid(REVISION, "InitializeResult", result)
    assert {"protocolVersion", "capabilities", "serverInfo"} <= set(result)


def test_basic_transports_the_priming_event_is_an_id_and_empty_data() -> None:
    stream = encode_event(b"", id="s-0", retry_ms=500)
    assert SseDecoder(100).feed(stream) == [SseEvent(b"", id="s-0", retry_ms=500)]


def test_client_elicitation_capabilities_an_empty_object_means_form_mode_only() -> None:
    found = ClientCapabilities.parse({"elicitation": {}}, READER)
    assert (found.form, found.url) == (True, False)


@pytest.mark.parametrize("modes", [{"form"}, {"url"}, {"form", "url"}])
def test_client_elicitation_servers_must_not_use_modes_not_supported_by_the_client(
    modes: set[str],
) -> None:
    declared: dict[str, Any] = {"elicitation": {mode: {} for mode in modes}}
    found = ClientCapabilities.parse(declared, READER)
    for mode in ("form", "url"):
        missing = found.missing_for("elicitation/create", {"mode": mode})
        assert (missing is None) is (mode in modes)


def test_client_sampling_tools_need_the_tools_capability() -> None:
    plain = ClientCapabilities.parse({"sampling": {}}, READER)
    assert plain.missing_for("sampling/createMessage", {"tools": [{}]})
    assert plain.missing_for("sampling/createMessage", {"toolChoice": {"mode": "auto"}})
    assert plain.missing_for("sampling/createMessage", {"messages": []}) is None


@pytest.mark.parametrize(
    "field",
    [
        {"type": "string", "oneOf": [{"const": "a", "title": "A"}]},
        {"type": "array", "items": {"type": "string", "enum": ["a"]}},
        {"type": "array", "items": {"anyOf": [{"const": "a", "title": "A"}]}},
    ],
)
def test_client_elicitation_titled_and_multiple_choices_are_supported(
    field: dict[str, Any],
) -> None:
    schema = {"type": "object", "properties": {"a": field}}
    params = encode_json({"message": "Which?", "requestedSchema": schema})
    assert downgrade_form(params, READER) == params
    question = {"jsonrpc": "2.0", "id": 1, "method": "elicitation/create"}
    assert_valid(REVISION, "ElicitRequest", {**question, "params": json.loads(params)})


def test_client_elicitation_url_required_is_an_error_of_this_revision() -> None:
    data = encode_json(
        {
            "elicitations": [
                {"mode": "url", "elicitationId": "1", "url": "https://a", "message": "m"}
            ]
        }
    )
    failure = describe_failure(errors.RpcError(-32042, "Go there first", data), READER)
    assert_valid(REVISION, "URLElicitationRequiredError", failure.encode(1))
    for other in ("2025-06-18", "2026-07-28"):
        error = errors.RpcError(-32042, "Go there first", data)
        assert describe_failure(error, REVISIONS[other]).code == -32603


def test_server_resources_error_handling_not_found_is_32002() -> None:
    assert describe_failure(errors.UnknownNameError("resource", "a:b"), READER).code == -32002


def test_basic_transports_an_unknown_method_never_answers_404_which_would_end_the_session() -> None:
    assert describe_failure(errors.UnknownMethodError("x"), READER).status == 200
    assert status_and_code(post(request(), mcp_protocol_version="x"))[0] == 400
