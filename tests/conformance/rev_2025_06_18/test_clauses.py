"""2025-06-18: the clauses that concern messages alone, by page and section."""

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
    greet,
    post,
    request,
    status_and_code,
    tool_result,
)
from tests.support.spec_schemas import assert_valid
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.handshake import downgrade_definition, downgrade_form
from waygate_mcp.protocol.jsonrpc import encode_json
from waygate_mcp.protocol.ladder import LegacyInbound
from waygate_mcp.protocol.versions import REVISIONS

REVISION = "2025-06-18"
READER = REVISIONS[REVISION]


@pytest.mark.parametrize("version", ["1.0", "2025-06-17", "latest", "", "2025-06-18, 2025-11-25"])
@pytest.mark.parametrize(
    "message", [request(), {"jsonrpc": "2.0", "method": "notifications/initialized"}]
)
def test_basic_transports_an_invalid_or_unsupported_version_header_must_get_400(
    version: str, message: dict[str, Any]
) -> None:
    assert status_and_code(post(message, mcp_protocol_version=version)) == (400, -32022)


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", None])
def test_basic_transports_a_supported_or_missing_version_header_is_not_refused(
    version: str | None,
) -> None:
    assert isinstance(post(request(), mcp_protocol_version=version), LegacyInbound)


def test_changelog_json_rpc_batching_is_gone() -> None:
    found = post([request()], mcp_protocol_version=REVISION)
    assert status_and_code(found) == (400, -32600)


def test_basic_lifecycle_a_supported_version_must_be_answered_with_itself() -> None:
    revision, result = greet(REVISION)
    assert revision == result["protocolVersion"] == REVISION
    assert_valid(REVISION, "InitializeResult", result)


@pytest.mark.parametrize("block", [TEXT, IMAGE, AUDIO, EMBEDDED, LINK])
def test_server_tools_every_block_of_ours_is_one_of_this_revision(block: dict[str, Any]) -> None:
    result = tool_result(REVISION, content=[block])
    assert result["content"] == [block]
    assert_valid(REVISION, "CallToolResult", result)


@pytest.mark.parametrize("structured", [[1, 2], "x", 5, None, True])
def test_server_tools_structured_content_is_an_object_here(structured: Any) -> None:
    result = tool_result(REVISION, structuredContent=structured)
    assert_valid(REVISION, "CallToolResult", result)
    assert "structuredContent" not in result
    # "a tool that returns structured content SHOULD also return the serialized JSON in a TextContent block"
    assert json.loads(result["content"][0]["text"]) == structured


def test_server_tools_an_output_schema_is_an_object_schema_here() -> None:
    tool = {"name": "t", "inputSchema": {"type": "object"}, "outputSchema": {"type": "array"}}
    assert_valid(REVISION, "Tool", downgrade_definition(encode_json(tool), READER))
    tool["outputSchema"] = {"type": "object"}
    assert json.loads(downgrade_definition(encode_json(tool), READER)) == tool


def test_client_elicitation_a_bare_declaration_means_forms() -> None:
    found = ClientCapabilities.parse({"elicitation": {}}, READER)
    assert (found.form, found.url) == (True, False)


def form(field: dict[str, Any]) -> bytes:
    schema = {"type": "object", "properties": {"a": field}}
    return encode_json({"message": "Which?", "requestedSchema": schema})


@pytest.mark.parametrize(
    "field",
    [
        {"type": "string", "enum": ["a", "b"]},
        {"type": "string", "oneOf": [{"const": "a", "title": "A"}, {"const": "b", "title": "B"}]},
        {"type": "string", "format": "email"},
        {"type": "integer", "minimum": 0},
        {"type": "boolean", "default": True},
    ],
)
def test_client_elicitation_supported_schema_types_are_flat_and_primitive(
    field: dict[str, Any],
) -> None:
    params = downgrade_form(form(field), READER)
    assert params is not None
    question = {"method": "elicitation/create", "params": json.loads(params)}
    assert_valid(REVISION, "ElicitRequest", question)
    assert "oneOf" not in question["params"]["requestedSchema"]["properties"]["a"]


def test_client_elicitation_what_is_not_supported_is_not_asked() -> None:
    several = {"type": "array", "items": {"type": "string", "enum": ["a"]}}
    assert downgrade_form(form(several), READER) is None
    link = {"mode": "url", "message": "Go", "url": "https://example.com", "elicitationId": "1"}
    assert downgrade_form(encode_json(link), READER) is None
