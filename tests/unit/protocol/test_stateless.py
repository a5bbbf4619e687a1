from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.spec_schemas import assert_valid
from waygate_mcp.errors import LocalProtocolError
from waygate_mcp.protocol.jsonrpc import encode_json
from waygate_mcp.protocol.log_levels import LOG_LEVELS
from waygate_mcp.protocol.stateless import (
    CAPABILITIES_KEY,
    CLIENT_INFO_KEY,
    LOG_LEVEL_KEY,
    SERVER_INFO_KEY,
    SUBSCRIPTION_KEY,
    Envelope,
    ListenFilter,
    acknowledgement,
    discover_result,
    encode_complete,
    input_required_result,
    listen_end_result,
    read_envelope,
    read_listen_filter,
    server_info_meta,
    tag_notification,
)

MODERN = "2026-07-28"
SERVER = {"name": "waygate", "version": "1"}
INFO = server_info_meta(SERVER)
RESERVED = {"resultType", "_meta", "ttlMs", "cacheScope"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)

_HEAD = b'{"jsonrpc":"2.0","id":1,"result":'


def finish_result(
    result: bytes, meta: bytes | None, info: bytes, cache: tuple[int, str] | None = None
) -> bytes:
    """Give the result alone of the response `encode_complete` frames."""
    framed = encode_complete(1, result, meta, info, cache)
    assert framed.startswith(_HEAD)
    return framed[len(_HEAD) : -1]


OBJECTS = st.dictionaries(st.text(max_size=8).filter(lambda key: key not in RESERVED), JSON)
IDS = st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=10)


def written(value: dict[str, Any], form: str) -> bytes:
    """An object as our encoder, a pretty printer, or an odd peer writes it."""
    if form == "compact":
        return encode_json(value)
    if form == "pretty":
        return json.dumps(value, indent=2).encode()
    text = json.dumps(value, separators=(" , ", " : "))
    return b" \n{ \t" + text[1:].encode() + b"\r\n "


def finished(
    result: bytes, meta: bytes | None, cache: tuple[int, str] | None = None, identifier: Any = 1
) -> bytes:
    """The result of a whole response, still as bytes."""
    frame = encode_complete(identifier, result, meta, INFO, cache)
    head = b'{"jsonrpc":"2.0","id":%b,"result":' % encode_json(identifier)
    assert frame.startswith(head)
    assert frame.endswith(b"}")
    return frame[len(head) : -1]


# ------------------------------------------------------------------ the envelope
@pytest.mark.parametrize("level", [None, *LOG_LEVELS])
def test_an_envelope_holds_what_the_request_states(level: str | None) -> None:
    meta = {
        CAPABILITIES_KEY: {"elicitation": {}},
        CLIENT_INFO_KEY: {"name": "c", "version": "1"},
        LOG_LEVEL_KEY: level,
    }
    found = read_envelope(meta)
    assert isinstance(found, Envelope)
    assert (found.client_name, found.log_level, found.capabilities.form) == ("c", level, True)


@pytest.mark.parametrize("info", [None, 5, [], {}, {"name": None}, {"name": []}])
def test_a_client_without_a_readable_name_has_none(info: Any) -> None:
    found = read_envelope({CAPABILITIES_KEY: {}, CLIENT_INFO_KEY: info})
    assert isinstance(found, Envelope)
    assert found.client_name == ""


def test_a_clients_name_is_clipped() -> None:
    found = read_envelope({CAPABILITIES_KEY: {}, CLIENT_INFO_KEY: {"name": "x" * 10_000}})
    assert isinstance(found, Envelope)
    assert found.client_name == "x" * 128


@given(
    st.dictionaries(
        st.sampled_from([CAPABILITIES_KEY, CLIENT_INFO_KEY, LOG_LEVEL_KEY, "progressToken"]), JSON
    )
)
def test_any_meta_is_read_or_answered_with_a_sentence(meta: dict[str, Any]) -> None:
    found = read_envelope(meta)
    if isinstance(found, str):
        assert "io.modelcontextprotocol/" in found
    else:
        assert type(meta[CAPABILITIES_KEY]) is dict


# ------------------------------------------------------------------ results
@given(
    OBJECTS,
    st.none() | st.dictionaries(st.text(max_size=8) | st.just(SERVER_INFO_KEY), JSON),
    st.none() | st.tuples(st.integers(-5, 10**12), st.sampled_from(["public", "private"])),
    st.sampled_from(["compact", "pretty", "odd"]),
    IDS,
)
def test_a_finished_result_is_json_with_all_its_members(
    result: dict[str, Any],
    meta: dict[str, Any] | None,
    cache: tuple[int, str] | None,
    form: str,
    identifier: str | int,
) -> None:
    raw_meta = None if meta is None else written(meta, form)
    raw = finished(written(result, form), raw_meta, cache, identifier)
    pairs = json.loads(raw, object_pairs_hook=lambda found: found)
    assert len({key for key, _ in pairs}) == len(pairs)
    value = json.loads(raw)
    assert value.pop("resultType") == "complete"
    assert value.pop("_meta") == {**(meta or {}), SERVER_INFO_KEY: SERVER}
    if cache is not None:
        assert (value.pop("ttlMs"), value.pop("cacheScope")) == (max(0, cache[0]), cache[1])
    assert value == result


def test_a_finished_meta_has_no_key_twice() -> None:
    meta = encode_json({SERVER_INFO_KEY: {"name": "upstream"}, "a": 1})
    raw = finished(b"{}", meta)
    assert raw.count(SERVER_INFO_KEY.encode()) == 1
    assert b"upstream" not in raw


def test_a_meta_that_cannot_be_taken_apart_is_dropped() -> None:
    meta = b'{"' + SERVER_INFO_KEY.encode() + b'":1,"a":"\\ud800"}'
    assert json.loads(finished(b"{}", meta))["_meta"] == {SERVER_INFO_KEY: SERVER}


@pytest.mark.parametrize(
    ("name", "result", "cache"),
    [
        ("CallToolResult", {"content": [{"type": "text", "text": "x"}]}, None),
        ("CallToolResult", {"content": [], "structuredContent": [1], "isError": True}, None),
        ("ListToolsResult", {"tools": []}, (0, "private")),
        ("ListPromptsResult", {"prompts": [], "nextCursor": "x"}, (5, "public")),
        ("ListResourcesResult", {"resources": []}, (5, "public")),
        ("ListResourceTemplatesResult", {"resourceTemplates": []}, (5, "public")),
        ("ReadResourceResult", {"contents": [{"uri": "a:b", "text": "x"}]}, (-1, "private")),
        ("GetPromptResult", {"messages": []}, None),
        ("CompleteResult", {"completion": {"values": []}}, None),
        ("DiscoverResult", json.loads(discover_result({"tools": {}}, "advice")), (1, "public")),
        ("DiscoverResult", json.loads(discover_result({}, None)), (1, "public")),
    ],
)
def test_finished_results_are_those_of_the_schema(
    name: str, result: dict[str, Any], cache: tuple[int, str] | None
) -> None:
    frame = encode_complete("one", encode_json(result), None, INFO, cache)
    assert_valid(MODERN, f"{name}Response", frame)
    assert_valid(MODERN, name, json.loads(frame)["result"])


def test_discover_names_every_version_and_advice_only_where_there_is_some() -> None:
    value = json.loads(discover_result({}, ""))
    assert value["supportedVersions"][0] == MODERN
    assert len(value["supportedVersions"]) == 5
    assert "instructions" not in value
    assert json.loads(discover_result({}, "advice"))["instructions"] == "advice"


# ------------------------------------------------------------------ questions
QUESTIONS = {
    "w1": (
        "elicitation/create",
        b'{"mode":"form","message":"Who?","requestedSchema":{"type":"object","properties":{}}}',
    ),
    "w2": ("sampling/createMessage", b'{"messages":[],"maxTokens":5}'),
    "w3": ("roots/list", b"{}"),
    'a "key"': ("elicitation/create", b'{"mode":"url","message":"Go","url":"https://example.com"}'),
}


@pytest.mark.parametrize(
    ("keys", "state"),
    [([], ""), ([], "s"), (["w1"], None), (["w2", "w3"], None), (list(QUESTIONS), 'a "state"')],
)
def test_questions_are_results_of_the_schema(keys: list[str], state: str | None) -> None:
    result = input_required_result({key: QUESTIONS[key] for key in keys}, state, INFO)
    assert_valid(MODERN, "InputRequiredResult", result)
    value = json.loads(result)
    assert value["resultType"] == "input_required"
    assert value.get("requestState") == state
    assert list(value.get("inputRequests", {})) == keys
    assert not {"ttlMs", "cacheScope"} & set(value)
    for key in keys:
        method, params = QUESTIONS[key]
        assert value["inputRequests"][key] == {"method": method, "params": json.loads(params)}


def test_a_question_of_nothing_is_our_own_fault() -> None:
    with pytest.raises(LocalProtocolError):
        input_required_result({}, None, INFO)


# ------------------------------------------------------------------ listening
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ListenFilter()),
        ({"toolsListChanged": True}, ListenFilter(tools=True)),
        ({"promptsListChanged": True, "toolsListChanged": False}, ListenFilter(prompts=True)),
        ({"resourcesListChanged": True}, ListenFilter(resources=True)),
        ({"resourceSubscriptions": ["a:b", "c:d", "a:b"]}, ListenFilter(uris=("a:b", "c:d"))),
        ({"taskIds": ["1", "2", "1"]}, ListenFilter(tasks=("1", "2"))),
        ({"unknown": 5}, ListenFilter()),
    ],
)
def test_a_filter_holds_what_is_asked_for_and_nothing_else(
    wanted: dict[str, Any], expected: ListenFilter
) -> None:
    assert read_listen_filter({"notifications": wanted}) == expected


@pytest.mark.parametrize(
    "wanted",
    [
        None,
        [],
        True,
        "all",
        {"toolsListChanged": 1},
        {"promptsListChanged": None},
        {"resourcesListChanged": "true"},
        {"resourceSubscriptions": "a:b"},
        {"resourceSubscriptions": None},
        {"resourceSubscriptions": ["a:b", 5]},
        {"resourceSubscriptions": [[]]},
        {"resourceSubscriptions": ["a:b"] * 1001},
        {"resourceSubscriptions": ["a:" + "b" * 4096]},
        {"taskIds": "1"},
        {"taskIds": None},
        {"taskIds": ["1", 5]},
        {"taskIds": ["1"] * 101},
        {"taskIds": ["b" * 4097]},
    ],
)
def test_a_filter_of_the_wrong_shape_or_size_is_told_so(wanted: Any) -> None:
    assert isinstance(read_listen_filter({"notifications": wanted}), str)
    assert isinstance(read_listen_filter({}), str)


FILTERS = st.builds(
    ListenFilter,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.lists(st.text(max_size=9), unique=True).map(tuple),
    st.lists(st.text(max_size=9), unique=True).map(tuple),
)


@given(FILTERS, IDS)
def test_an_acknowledgement_reflects_the_filter(
    wanted: ListenFilter, identifier: str | int
) -> None:
    message = acknowledgement(identifier, wanted)
    assert_valid(MODERN, "SubscriptionsAcknowledgedNotification", message)
    params = json.loads(message)["params"]
    assert read_listen_filter(params) == wanted
    assert params["_meta"] == {SUBSCRIPTION_KEY: identifier}
    assert type(params["_meta"][SUBSCRIPTION_KEY]) is type(identifier)
    assert not [value for value in params["notifications"].values() if not value]


@pytest.mark.parametrize(
    ("name", "method", "uri"),
    [
        ("ToolListChangedNotification", "notifications/tools/list_changed", None),
        ("PromptListChangedNotification", "notifications/prompts/list_changed", None),
        ("ResourceListChangedNotification", "notifications/resources/list_changed", None),
        ("ResourceUpdatedNotification", "notifications/resources/updated", 'a:"b"'),
    ],
)
@pytest.mark.parametrize("identifier", [1, "1", ""])
def test_every_message_of_a_stream_names_its_subscription(
    name: str, method: str, uri: str | None, identifier: str | int
) -> None:
    message = tag_notification(method, identifier, uri)
    assert_valid(MODERN, name, message)
    params = json.loads(message)["params"]
    assert params["_meta"] == {SUBSCRIPTION_KEY: identifier}
    assert params.get("uri") == uri


@pytest.mark.parametrize("more", [b"{}", b'{"taskId":"1","n":1.50}', b' { "a": 1 } '])
def test_a_notification_keeps_the_parameters_it_has(more: bytes) -> None:
    message = tag_notification("notifications/tasks", "one", None, more)
    params = json.loads(message)["params"]
    assert params == {"_meta": {SUBSCRIPTION_KEY: "one"}, **json.loads(more)}
    assert more.strip()[1:-1].strip() in message


def test_a_task_is_no_complete_result() -> None:
    framed = encode_complete(1, b'{"taskId":"1"}', None, INFO, None, b"task")
    assert json.loads(framed)["result"]["resultType"] == "task"


@pytest.mark.parametrize("identifier", [1, "one"])
def test_a_graceful_end_is_a_result_that_names_its_subscription(identifier: str | int) -> None:
    result = listen_end_result(identifier, INFO)
    assert_valid(MODERN, "SubscriptionsListenResult", result)
    assert json.loads(result)["_meta"] == {SERVER_INFO_KEY: SERVER, SUBSCRIPTION_KEY: identifier}
