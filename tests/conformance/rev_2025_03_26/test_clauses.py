"""2025-03-26: the clauses that concern messages alone, by page and section."""

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
    line,
    post,
    request,
    status_and_code,
    tool_result,
)
from tests.support.spec_schemas import assert_valid
from waygate_mcp.protocol.ladder import LegacyInbound
from waygate_mcp.protocol.seal import KeyRing

REVISION = "2025-03-26"
NOTIFICATION = {"jsonrpc": "2.0", "method": "notifications/initialized"}
RESPONSE = {"jsonrpc": "2.0", "id": "q", "result": {}}


@pytest.mark.parametrize(
    "batch",
    [
        [request()],
        [request(), NOTIFICATION, request("tools/list", "b")],
        [NOTIFICATION],
        [RESPONSE, RESPONSE],
    ],
)
@pytest.mark.parametrize("headers", [{}, {"mcp_protocol_version": REVISION}])
def test_basic_index_batching_implementations_must_support_receiving_batches(
    batch: list[Any], headers: dict[str, str]
) -> None:
    for found in (post(batch, **headers), line(batch)):
        assert isinstance(found, LegacyInbound)
        assert found.is_batch
        assert len(found.messages) == len(batch)


def test_basic_lifecycle_initialize_must_not_be_part_of_a_batch() -> None:
    batch = [request("initialize", protocolVersion=REVISION), request()]
    assert status_and_code(post(batch)) == (400, -32600)
    assert status_and_code(line(batch)) == (400, -32600)


def test_basic_transports_an_error_about_a_refused_batch_has_no_id() -> None:
    # "The HTTP response body MAY comprise a JSON-RPC error response that has no id."
    assert "id" not in error_of(post([]))


def test_basic_index_one_bad_message_does_not_spoil_its_batch() -> None:
    found = post([5, request()])
    assert isinstance(found, LegacyInbound)
    assert [message.shape for message in found.messages] == ["invalid", "request"]


def test_basic_index_a_message_that_is_result_and_request_at_once_is_neither() -> None:
    assert status_and_code(post({**request(), "result": {}})) == (400, -32600)


def test_basic_transports_the_session_id_must_only_contain_visible_ascii() -> None:
    ring = KeyRing.from_master(b"m" * 32)
    for number in range(200):
        text = ring.seal(b"x" * number, "session")
        assert all(0x21 <= ord(character) <= 0x7E for character in text)


def test_basic_transports_a_post_without_a_version_header_belongs_to_a_session() -> None:
    for message in (request(), NOTIFICATION, RESPONSE):
        assert isinstance(post(message), LegacyInbound)


def test_basic_lifecycle_a_supported_version_must_be_answered_with_itself() -> None:
    revision, result = greet(REVISION)
    assert revision == result["protocolVersion"] == REVISION
    assert_valid(REVISION, "InitializeResult", result)


def test_server_utilities_completion_the_capability_is_declared() -> None:
    assert "completions" in greet(REVISION)[1]["capabilities"]


@pytest.mark.parametrize("block", [TEXT, IMAGE, AUDIO, EMBEDDED, LINK])
def test_server_tools_results_hold_the_blocks_of_this_revision_only(block: dict[str, Any]) -> None:
    result = tool_result(REVISION, content=[block])
    assert_valid(REVISION, "CallToolResult", result)
    assert (result["content"][0]["type"] == block["type"]) is (block is not LINK)
    assert json.dumps(result).count("file:///a") == (block in (LINK, EMBEDDED))
