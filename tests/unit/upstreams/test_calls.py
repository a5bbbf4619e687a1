from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tests.support.providers import EVERYTHING, LEGACY, make_call
from waygate_mcp.errors import CapabilityMissingError, RpcError, UpstreamProtocolError
from waygate_mcp.model.call import InputRequired, Reply
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES, ClientCapabilities
from waygate_mcp.protocol.versions import MODERN, REVISIONS
from waygate_mcp.upstreams import calls
from waygate_mcp.upstreams.calls import (
    ModernContext,
    declaration,
    error_for,
    legacy_outcome,
    legacy_params,
    modern_outcome,
    modern_params,
)
from waygate_mcp.upstreams.channel import RemoteError

CONTEXT = ModernContext({"name": "w", "version": "1"}, EVERYTHING, "info")
VERSION = "io.modelcontextprotocol/protocolVersion"


def remote(code: int, message: str = "no", data: Any = None) -> RemoteError:
    raw = b"" if data is None else json.dumps(data).encode()
    return RemoteError(code, message, msgspec.Raw(raw))


# --- what is sent


def test_arguments_travel_byte_for_byte_and_the_name_is_the_providers() -> None:
    call = make_call(
        "tools/call",
        {"name": "p__t", "arguments": {"n": 1.5}},
        raw_params=b'{"name":"p__t", "arguments": {"n":1.50, "big":12345678901234567890123}, "x":[ 1]}',
    )
    call.target = "t"
    sent = modern_params(call, CONTEXT, None)
    assert sent.startswith(
        b'{"name":"t","arguments":{"n":1.50, "big":12345678901234567890123},"x":[ 1],"_meta":{'
    )


def test_a_meta_seen_before_is_read_again_as_it_was() -> None:
    own = {VERSION: "2026-07-28", "io.modelcontextprotocol/clientInfo": {"name": "theirs"}}
    plain = make_call("tools/call", {"name": "t", "_meta": own})
    foreign = make_call("tools/call", {"name": "t", "_meta": {**own, "vendor/key": 1}})
    context = ModernContext({"name": "w", "version": "1"}, EVERYTHING, "info")
    for _ in range(2):
        sent = json.loads(modern_params(plain, context, None))
        assert sent["_meta"]["io.modelcontextprotocol/clientInfo"]["name"] == "w"
        assert "vendor/key" not in sent["_meta"]
        assert json.loads(modern_params(foreign, context, None))["_meta"]["vendor/key"] == 1
        assert json.loads(modern_params(plain, context, "mine"))["_meta"]["progressToken"] == "mine"
        assert json.loads(legacy_params(plain, LEGACY, None)) == {"name": "t"}


def test_metas_seen_are_kept_in_bounds() -> None:
    for number in range(600):
        call = make_call("tools/call", {"name": "t", "_meta": {"progressToken": number}})
        assert json.loads(legacy_params(call, LEGACY, None)) == {"name": "t"}
    assert len(calls._metas_without) <= 256


def test_a_modern_request_says_who_sends_it_and_relays_the_clients_other_meta() -> None:
    meta = {
        VERSION: "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "theirs"},
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/logLevel": "debug",
        "progressToken": 9,
        "traceparent": "00-1",
        "baggage": "secret",
        "vendor/key": {"a": 1},
    }
    call = make_call("tools/call", {"name": "t", "_meta": meta})
    sent = json.loads(modern_params(call, CONTEXT, "mine"))["_meta"]
    assert sent == {
        VERSION: "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "w", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": declaration(
            EVERYTHING.without_roots_changed()
        ),
        "io.modelcontextprotocol/logLevel": "info",
        "progressToken": "mine",
        "traceparent": "00-1",
        "vendor/key": {"a": 1},
    }


def test_a_retry_carries_answers_and_state_to_a_modern_upstream_only() -> None:
    call = make_call(
        "tools/call",
        {"name": "t", "inputResponses": {"k": {}}, "requestState": "sealed by us"},
        input_responses={"k": b'{"action":"accept"}'},
        request_state="theirs",
    )
    sent = json.loads(modern_params(call, CONTEXT, None))
    assert sent["inputResponses"] == {"k": {"action": "accept"}}
    assert sent["requestState"] == "theirs"
    legacy = json.loads(legacy_params(call, LEGACY, None))
    assert legacy == {"name": "t"}


def test_a_legacy_request_has_no_modern_envelope() -> None:
    call = make_call("tools/call", {"name": "t", "_meta": {VERSION: "2026-07-28", "k": 1}})
    assert json.loads(legacy_params(call, LEGACY, "mine")) == {
        "name": "t", "_meta": {"k": 1, "progressToken": "mine"}
    }  # fmt: skip
    assert json.loads(legacy_params(make_call("tools/call", {"name": "t"}), LEGACY, None)) == {
        "name": "t"
    }


def test_parameters_that_a_step_changed_are_sent_as_it_left_them() -> None:
    call = make_call("tools/call", {"name": "t", "arguments": {"secret": "x"}})
    call.params["arguments"] = {"secret": "masked"}
    call.body = b""
    assert json.loads(legacy_params(call, LEGACY, None))["arguments"] == {"secret": "masked"}


def test_a_call_out_of_a_batch_is_written_from_its_parsed_parameters() -> None:
    call = make_call("tools/call", {"name": "t", "arguments": {"n": 1}})
    call.body = b'[{"method":"tools/call","params":{"name":"other"}}]'
    assert json.loads(legacy_params(call, LEGACY, None)) == {"name": "t", "arguments": {"n": 1}}


@pytest.mark.parametrize(("kind", "member"), [("ref/prompt", "name"), ("ref/resource", "uri")])
def test_a_completion_names_the_providers_own_entry(kind: str, member: str) -> None:
    params = {"ref": {"type": kind, member: "p__x"}, "argument": {"name": "a", "value": "v"}}
    call = make_call("completion/complete", {**params, "context": {"arguments": {}}})
    call.target = "x"
    assert json.loads(legacy_params(call, LEGACY, None))["ref"] == {"type": kind, member: "x"}
    old = json.loads(legacy_params(call, REVISIONS["2025-03-26"], None))
    assert "context" not in old
    assert "context" in json.loads(legacy_params(call, LEGACY, None))


def test_extensions_are_not_offered_since_none_is_bridged() -> None:
    assert declaration(ClientCapabilities(0, ("io.modelcontextprotocol/tasks",))) == {}


# --- what comes back


def test_a_result_loses_the_eras_members_and_nothing_else() -> None:
    raw = msgspec.Raw(
        b'{"resultType":"complete","content":[{"type":"text","text":"x","vendor":1.50}],'
        b'"isError":true,"ttlMs":5,"cacheScope":"public","odd":{"a":[ ]},'
        b'"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"},"k": 1}}'
    )
    reply = modern_outcome("up", "tools/call", raw)
    assert reply == Reply(
        b'{"content":[{"type":"text","text":"x","vendor":1.50}],"isError":true,"odd":{"a":[ ]}}',
        b'{"k":1}', is_error=True, ttl_ms=5, cache_scope="public",
    )  # fmt: skip


def test_a_result_with_nothing_to_take_out_is_the_same_bytes() -> None:
    raw = b'{ "content" : [] }'
    assert legacy_outcome("up", msgspec.Raw(raw)).result == raw


@pytest.mark.parametrize("ttl", [b"-1", b'"x"', b"1.5", b"null"])
def test_hints_that_make_no_sense_mean_do_not_cache(ttl: bytes) -> None:
    raw = b'{"resultType":"complete","ttlMs":%b,"cacheScope":"everyone"}' % ttl
    reply = modern_outcome("up", "resources/read", msgspec.Raw(raw))
    assert isinstance(reply, Reply)
    assert (reply.ttl_ms, reply.cache_scope) == (0, "private")


def test_input_required_is_an_outcome_where_it_may_stand() -> None:
    raw = msgspec.Raw(b'{"resultType":"input_required","requestState":"s"}')
    outcome = modern_outcome("up", "tools/call", raw)
    assert outcome == InputRequired({}, "s")
    with pytest.raises(UpstreamProtocolError):
        modern_outcome("up", "completion/complete", raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"resultType":"task"}',
        b'{"resultType":5}',
        b'{"resultType":"input_required"}',
        b"[]",
        b"null",
        b'{"_meta":5}',
    ],
)
def test_a_result_nobody_agreed_on_is_refused(raw: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        modern_outcome("up", "tools/call", msgspec.Raw(raw))


# --- errors


@pytest.mark.parametrize("is_modern", [True, False])
@pytest.mark.parametrize("revision", [MODERN, LEGACY], ids=["modern reader", "legacy reader"])
@pytest.mark.parametrize("code", [-32000, -32019, -32603, 1234])
def test_an_error_without_an_eras_meaning_is_relayed_untouched(
    code: int, revision: Any, is_modern: bool
) -> None:
    call = make_call("tools/call", {"name": "t"}, revision=revision)
    said = error_for(call, "up", remote(code, "why", {"a": 1}), is_modern=is_modern)
    assert isinstance(said, RpcError)
    assert (said.rpc_code, said.safe_message, said.data) == (code, "why", b'{"a": 1}')


def test_a_missing_resource_is_said_in_the_readers_era() -> None:
    read = make_call("resources/read", {"uri": "a://b"})
    said = error_for(read, "up", remote(-32002, "gone", {"hint": 1}), is_modern=False)
    assert isinstance(said, RpcError)
    assert (said.rpc_code, json.loads(said.data or b"")) == (-32602, {"hint": 1, "uri": "a://b"})
    odd = error_for(read, "up", remote(-32002, "gone", "text"), is_modern=False)
    assert isinstance(odd, RpcError)
    assert json.loads(odd.data or b"") == {"reason": "text", "uri": "a://b"}
    old = make_call("resources/read", {"uri": "a://b"}, revision=LEGACY)
    said = error_for(old, "up", remote(-32602), is_modern=True)
    assert isinstance(said, RpcError)
    assert said.rpc_code == -32002
    call = make_call("tools/call", {"name": "t"}, revision=LEGACY)
    said = error_for(call, "up", remote(-32602), is_modern=True)
    assert isinstance(said, RpcError)
    assert said.rpc_code == -32602


def test_faults_between_the_upstream_and_us_are_not_the_clients() -> None:
    call = make_call("tools/call", {"name": "t"})
    for code in (-32020, -32022):
        assert isinstance(
            error_for(call, "up", remote(code), is_modern=True), UpstreamProtocolError
        )


def test_a_missing_capability_reaches_who_can_read_it() -> None:
    error = remote(-32021, "needs sampling", {"requiredCapabilities": {"sampling": {}}})
    modern = error_for(make_call("tools/call", {"name": "t"}), "up", error, is_modern=True)
    assert isinstance(modern, RpcError)
    assert modern.rpc_code == -32021
    old = make_call("tools/call", {"name": "t"}, revision=LEGACY)
    said = error_for(old, "up", error, is_modern=True)
    assert isinstance(said, RpcError)
    assert (said.rpc_code, said.safe_message) == (-32603, "needs sampling")


def test_a_legacy_upstream_that_names_the_missing_capability_is_understood() -> None:
    error = remote(-32603, "needs sampling", {"requiredCapabilities": {"sampling": {}}})
    call = make_call("tools/call", {"name": "t"})
    said = error_for(call, "up", error, is_modern=False)
    assert isinstance(said, CapabilityMissingError)
    assert said.required == {"sampling": {}}
    old = make_call("tools/call", {"name": "t"}, revision=LEGACY)
    assert isinstance(error_for(old, "up", error, is_modern=False), RpcError)
    malformed: list[Any] = [
        {"requiredCapabilities": {}},
        {"requiredCapabilities": 5},
        [1],
        "x",
        None,
    ]
    for data in malformed:
        said = error_for(call, "up", remote(-32603, "no", data), is_modern=False)
        assert isinstance(said, RpcError), data


URL_DATA = {
    "elicitations": [{"mode": "url", "elicitationId": "e", "url": "https://a/b", "message": "go"}]
}


def test_a_url_that_is_needed_is_asked_of_a_modern_client_without_keeping_anything() -> None:
    call = make_call("tools/call", {"name": "t"})
    outcome = error_for(call, "up", remote(-32042, "sign in", URL_DATA), is_modern=False)
    assert isinstance(outcome, InputRequired)
    assert outcome.state is None
    assert [json.loads(q.params)["url"] for q in outcome.requests.values()] == ["https://a/b"]


def test_a_declined_url_ends_the_matter() -> None:
    call = make_call("tools/call", {"name": "t"}, input_responses={"url1": b'{"action":"decline"}'})
    said = error_for(call, "up", remote(-32042, "sign in", URL_DATA), is_modern=False)
    assert isinstance(said, RpcError)
    assert said.rpc_code == -32603


def test_a_client_that_cannot_show_urls_is_told_what_it_lacks() -> None:
    call = make_call("tools/call", {"name": "t"}, capabilities=NO_CAPABILITIES)
    said = error_for(call, "up", remote(-32042, "sign in", URL_DATA), is_modern=False)
    assert isinstance(said, CapabilityMissingError)
    assert said.required == {"elicitation": {"url": {}}}


def test_older_clients_get_the_url_as_they_know_it() -> None:
    newest = make_call("tools/call", {"name": "t"}, revision=LEGACY)
    said = error_for(newest, "up", remote(-32042, "sign in", URL_DATA), is_modern=False)
    assert isinstance(said, RpcError)
    assert (said.rpc_code, json.loads(said.data or b"")) == (-32042, URL_DATA)
    older = make_call("tools/call", {"name": "t"}, revision=REVISIONS["2025-06-18"])
    said = error_for(older, "up", remote(-32042, "sign in", URL_DATA), is_modern=False)
    assert isinstance(said, RpcError)
    assert (said.rpc_code, said.safe_message) == (-32603, "sign in https://a/b")
