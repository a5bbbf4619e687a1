from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.spec_schemas import assert_valid
from waygate_mcp.protocol.handshake import (
    Hello,
    downgrade_content,
    downgrade_definition,
    downgrade_form,
    downgrade_sampled,
    downgrade_sampling,
    initialize_result,
    name_elicitation,
    name_input_key,
    read_initialize,
    unname_elicitation,
)
from waygate_mcp.protocol.jsonrpc import encode_json, encode_result
from waygate_mcp.protocol.versions import REVISIONS

LEGACY = [name for name in REVISIONS if name != "2026-07-28"]
REVISION_NAMES = st.sampled_from(list(REVISIONS))
SERVER = {"name": "waygate", "version": "1"}


# ------------------------------------------------------------------ initialize
@pytest.mark.parametrize("revision", LEGACY)
def test_a_greeting_is_read_and_answered_in_its_revision(revision: str) -> None:
    hello = read_initialize(
        {
            "protocolVersion": revision,
            "capabilities": {"roots": {}},
            "clientInfo": {"name": "client", "version": "1"},
        }
    )
    assert isinstance(hello, Hello)
    assert hello.revision.text == revision
    assert hello.client_name == "client"
    assert hello.capabilities.roots
    offered = {"tools": {"listChanged": True}, "completions": {}, "logging": {}}
    result = initialize_result(hello.revision, offered, SERVER, "advice")
    assert_valid(revision, "InitializeResult", result)
    value = json.loads(result)
    assert value["protocolVersion"] == revision
    assert value["serverInfo"] == SERVER
    assert value["instructions"] == "advice"
    assert ("completions" in value["capabilities"]) is (revision != "2024-11-05")
    assert offered["completions"] == {}
    assert_valid(revision, "JSONRPCMessage", encode_result(1, result))


@pytest.mark.parametrize("instructions", [None, ""])
def test_no_advice_is_no_member(instructions: str | None) -> None:
    result = initialize_result(REVISIONS["2025-06-18"], {}, SERVER, instructions)
    assert "instructions" not in json.loads(result)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"protocolVersion": None},
        {"protocolVersion": 20250618},
        {"protocolVersion": ["2025-06-18"]},
        {"protocolVersion": "2025-06-18", "capabilities": None},
        {"protocolVersion": "2025-06-18", "capabilities": []},
    ],
)
def test_a_garbled_greeting_is_told_so(params: dict[str, Any]) -> None:
    assert isinstance(read_initialize(params), str)


@pytest.mark.parametrize("info", [None, 5, [], {}, {"name": 5}, {"name": []}])
def test_a_client_without_a_readable_name_is_greeted_all_the_same(info: Any) -> None:
    hello = read_initialize({"protocolVersion": "2025-06-18", "clientInfo": info})
    assert isinstance(hello, Hello)
    assert hello.client_name == ""


def test_a_clients_name_is_clipped() -> None:
    hello = read_initialize({"protocolVersion": "x", "clientInfo": {"name": "n" * 9_999}})
    assert isinstance(hello, Hello)
    assert hello.client_name == "n" * 128
    assert hello.revision.text == "2025-11-25"


# ------------------------------------------------------------------ content for old readers
TEXT = {"type": "text", "text": "x"}
AUDIO = {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"}
LINK = {"type": "resource_link", "uri": "a:b", "name": "n", "title": "T"}
IMAGE = {"type": "image", "data": "AAAA", "mimeType": "image/png"}


def content(block: Any, revision: str) -> Any:
    """One block of a tool's result, as a reader of `revision` gets it."""
    result = encode_json({"content": [TEXT, block], "isError": False})
    value = json.loads(downgrade_content(result, REVISIONS[revision]))
    assert value["isError"] is False
    assert value["content"][0] == TEXT
    return value["content"][1]


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize("block", [AUDIO, LINK, IMAGE, TEXT], ids=lambda block: str(block["type"]))
def test_every_reader_gets_content_its_schema_knows(block: dict[str, Any], revision: str) -> None:
    result = encode_json({"content": [block], "resultType": "complete"})
    assert_valid(revision, "CallToolResult", downgrade_content(result, REVISIONS[revision]))
    prompt = encode_json(
        {"messages": [{"role": "user", "content": block}], "resultType": "complete"}
    )
    assert_valid(revision, "GetPromptResult", downgrade_content(prompt, REVISIONS[revision]))


def test_audio_becomes_an_embedded_blob_for_2024_11_05_only() -> None:
    assert content(AUDIO, "2024-11-05") == {
        "type": "resource",
        "resource": {"uri": "data:,audio", "mimeType": "audio/wav", "blob": "AAAA"},
    }
    assert content(AUDIO, "2025-03-26") == AUDIO
    assert content({"type": "audio", "data": 5}, "2024-11-05")["resource"] == {
        "uri": "data:,audio",
        "mimeType": "application/octet-stream",
        "blob": "",
    }


def test_a_link_becomes_text_before_2025_06_18() -> None:
    for revision in ("2024-11-05", "2025-03-26"):
        assert content(LINK, revision) == {"type": "text", "text": "T: a:b"}
        named = {"type": "resource_link", "uri": "a:b", "name": "n"}
        assert content(named, revision) == {"type": "text", "text": "n: a:b"}
        odd = {"type": "resource_link", "title": [], "name": 5, "uri": {}}
        assert content(odd, revision) == {"type": "text", "text": "resource: "}
    assert content(LINK, "2025-06-18") == LINK


@pytest.mark.parametrize("structured", [[1, 2], "text", 5, 1.5, True, None, []])
@pytest.mark.parametrize("revision", LEGACY)
def test_structured_content_that_is_no_object_becomes_text(structured: Any, revision: str) -> None:
    cases: list[dict[str, Any]] = [{}, {"content": []}, {"content": [IMAGE]}, {"content": 5}]
    for others in cases:
        result = encode_json({**others, "structuredContent": structured})
        value = json.loads(downgrade_content(result, REVISIONS[revision]))
        assert "structuredContent" not in value
        assert json.loads(value["content"][-1]["text"]) == structured
        assert len(value["content"]) == 1 + (others.get("content") == [IMAGE])


def test_text_that_is_there_already_is_not_repeated() -> None:
    result = encode_json({"content": [IMAGE, TEXT], "structuredContent": [1]})
    value = json.loads(downgrade_content(result, REVISIONS["2025-11-25"]))
    assert value == {"content": [IMAGE, TEXT]}


@pytest.mark.parametrize(
    "result",
    [
        b'{"content":[],"structuredContent":{"a":1}}',
        b'{"content":[],"_meta":{"structuredContent":[1]}}',
        b'{"content":[],"structuredContent": {"structuredContent":5}}',
        rb'{"content":[{"type":"text","text":"\"structuredContent\":5, \"audio\""}]}',
        b'{"n":1.0,"e":1E5,"big":123456789012345678901234567890,"x":[ 1 ]}',
    ],
)
@pytest.mark.parametrize("revision", REVISIONS)
def test_what_needs_no_change_keeps_its_meaning(result: bytes, revision: str) -> None:
    assert json.loads(downgrade_content(result, REVISIONS[revision])) == json.loads(result)


def test_numbers_and_unknown_members_keep_their_very_bytes() -> None:
    rest = b'"n":1.0,"e":1E5,"z":-0,"precise":0.1000000000000000055511151231257827,"a":{ "b": 1 }'
    result = b'{"content":[{"type":"audio","data":""}],' + rest + b"}"
    assert rest in downgrade_content(result, REVISIONS["2024-11-05"])


# ------------------------------------------------------------------ hostile upstream data
WORDS = st.sampled_from(
    [
        "audio",
        "resource_link",
        "text",
        "array",
        "url",
        "object",
        "content",
        "messages",
        "type",
        "structuredContent",
        "outputSchema",
        "requestedSchema",
        "properties",
        "oneOf",
        "const",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS | st.text()
HOSTILE = st.recursive(
    SCALARS.filter(lambda value: value not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=6),
    max_leaves=25,
)


@given(HOSTILE, REVISION_NAMES, st.sampled_from([None, 1]), st.booleans())
def test_downgrades_take_any_json_and_give_json(
    value: Any, revision: str, indent: int | None, is_ascii: bool
) -> None:
    data = json.dumps(value, indent=indent, ensure_ascii=is_ascii).encode()
    reader = REVISIONS[revision]
    json.loads(downgrade_content(data, reader))
    json.loads(downgrade_definition(data, reader))
    form = downgrade_form(data, reader)
    assert form is None or json.loads(form) is not ...
    if reader.is_modern:
        assert downgrade_content(data, reader) == downgrade_definition(data, reader) == form == data


@given(
    st.lists(HOSTILE, max_size=4),
    st.dictionaries(st.sampled_from(["role", "content"]), HOSTILE),
    st.dictionaries(st.sampled_from(["type", "oneOf", "enum"]), HOSTILE),
)
def test_downgrades_take_anything_where_lists_and_blocks_belong(
    blocks: list[Any], message: dict[str, Any], field: dict[str, Any]
) -> None:
    reader = REVISIONS["2024-11-05"]
    whole = {"content": blocks, "messages": [*blocks, message], "structuredContent": blocks}
    assert isinstance(json.loads(downgrade_content(encode_json(whole), reader)), dict)
    fields = {"a": field, "b": blocks, "c": {"oneOf": [*blocks, message]}}
    form = {"requestedSchema": {"type": "object", "properties": fields}}
    found = downgrade_form(encode_json(form), reader)
    assert (found is None) is (field.get("type") == "array")
    json.loads(downgrade_definition(encode_json({"outputSchema": message}), reader))


@pytest.mark.parametrize(
    "broken",
    [
        b'{"type":"audio"',
        b'{"type":"audio","\xff":1}',
        b'{"content":[{"type":"audio","data":"\\ud800"}],"structuredContent":1}',
        b'{"content":[{"type":"\xff"}],"x":"audio" ,"structuredContent":1}',
        b'{"messages":[{"content":{"type":"audio"' + b'},"x":' + b"[" * 5000 + b"]" * 5000 + b"}]}",
        b'{"outputSchema":{"type":"\xff"},"structuredContent":[],"audio":"resource_link"}',
    ],
)
def test_even_broken_bytes_raise_nothing(broken: bytes) -> None:
    for revision in REVISIONS.values():
        assert isinstance(downgrade_content(broken, revision), bytes)
        assert isinstance(downgrade_definition(broken, revision), bytes)
        assert downgrade_form(broken, revision) is not None


# ------------------------------------------------------------------ definitions
@pytest.mark.parametrize("revision", LEGACY)
@pytest.mark.parametrize(
    "root", [{"type": "array"}, {"type": "string"}, {}, True, None, {"type": []}]
)
def test_an_output_schema_that_is_no_object_is_dropped(root: Any, revision: str) -> None:
    tool = {"name": "t", "inputSchema": {"type": "object"}, "outputSchema": root, "x": 1}
    found = downgrade_definition(encode_json(tool), REVISIONS[revision])
    assert_valid(revision, "Tool", found)
    assert json.loads(found) == {"name": "t", "inputSchema": {"type": "object"}, "x": 1}


@pytest.mark.parametrize(
    "tool",
    [
        b'{"name":"t","outputSchema":{"type":"object"}}',
        b'{"name":"t","outputSchema" : { "type" : "object" }}',
        b'{"name":"t"}',
        b'{"name":"t","_meta":{"outputSchema":1}}',
    ],
)
@pytest.mark.parametrize("revision", REVISIONS)
def test_other_definitions_keep_their_bytes(tool: bytes, revision: str) -> None:
    assert downgrade_definition(tool, REVISIONS[revision]) == tool


# ------------------------------------------------------------------ forms
def form(**fields: Any) -> dict[str, Any]:
    """The parameters of a form elicitation."""
    return {
        "message": "Which?",
        "requestedSchema": {"type": "object", "properties": fields, "required": list(fields)},
    }


CHOICE = {
    "type": "string",
    "title": "Colour",
    "oneOf": [{"const": "r", "title": "Red"}, {"const": "g"}],
}


def test_titled_choices_are_named_the_old_way_for_2025_06_18() -> None:
    found = downgrade_form(
        encode_json(form(a=CHOICE, b={"type": "boolean"})), REVISIONS["2025-06-18"]
    )
    assert found is not None
    assert_valid(
        "2025-06-18", "ElicitRequest", {"method": "elicitation/create", "params": json.loads(found)}
    )
    value = json.loads(found)
    assert value["message"] == "Which?"
    assert value["requestedSchema"] == {
        "type": "object",
        "required": ["a", "b"],
        "properties": {
            "a": {
                "type": "string",
                "title": "Colour",
                "enum": ["r", "g"],
                "enumNames": ["Red", "g"],
            },
            "b": {"type": "boolean"},
        },
    }


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
def test_newer_readers_get_the_form_as_it_is(revision: str) -> None:
    params = encode_json(form(a=CHOICE, b={"type": "array", "items": {}}))
    assert downgrade_form(params, REVISIONS[revision]) is params


@pytest.mark.parametrize(
    "params",
    [
        form(a={"type": "array", "items": {"enum": ["x"]}}),
        form(a={"type": "string"}, b={"type": "array"}),
        {"mode": "url", "message": "Go", "url": "https://example.com"},
    ],
)
def test_what_an_old_reader_cannot_show_is_not_asked(params: dict[str, Any]) -> None:
    assert downgrade_form(encode_json(params), REVISIONS["2025-06-18"]) is None


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"requestedSchema": None},
        {"requestedSchema": {}},
        {"requestedSchema": {"properties": []}},
        {"requestedSchema": {"properties": {}}},
        form(a=None, b=5, c=[], d={"oneOf": 5}, e={"oneOf": []}, f={"oneOf": [{}]}),
    ],
)
def test_a_form_of_another_shape_is_left_alone(params: dict[str, Any]) -> None:
    found = downgrade_form(encode_json(params), REVISIONS["2025-06-18"])
    assert found is not None
    assert json.loads(found) == params


def test_a_key_is_named_beside_what_meta_holds_and_everything_else_stays_as_written() -> None:
    named = name_input_key(b'{"_meta":{"x":1.50},"n":1e2}', "user_name")
    assert named == b'{"_meta":{"x":1.50,"waygate-mcp/inputKey":"user_name"},"n":1e2}'
    assert name_input_key(b"{}", "k") == b'{"_meta":{"waygate-mcp/inputKey":"k"}}'


def test_a_question_by_url_gets_and_loses_its_id_and_nothing_else_changes() -> None:
    bare = b'{"n":1.10,"url":"https:\\/\\/a.example","i":12345678901234567890}'
    named = (
        b'{"n":1.10,"url":"https:\\/\\/a.example","i":12345678901234567890,"elicitationId":"e1"}'
    )
    assert name_elicitation(bare, "e1") == named
    assert unname_elicitation(named) == bare


# ------------------------------------------------------------------ sampling
HI = {"type": "text", "text": "Hi"}
THERE = {"type": "text", "text": "there", "x": 1}
IMAGE = {"type": "image", "data": "AAAA", "mimeType": "image/png"}
SOUND = {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"}
NO_SOUND = {"type": "text", "text": "[audio/wav: left out, 2024-11-05 has no audio]"}


def _sampling(*contents: Any) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": content, "y": 2} for content in contents],
        "maxTokens": 1,
        "z": 1.50,
    }


@pytest.mark.parametrize("revision", LEGACY[:3])
@pytest.mark.parametrize(
    ("asked", "read"),
    [
        (_sampling([HI, IMAGE], HI), _sampling(HI, IMAGE, HI)),
        (_sampling([HI]), _sampling(HI)),
        (_sampling([]), _sampling()),
    ],
)
def test_a_message_of_several_blocks_is_several_messages_for_an_old_reader(
    asked: Any, read: Any, revision: str
) -> None:
    params = downgrade_sampling(encode_json(asked), REVISIONS[revision])
    assert json.loads(params) == read
    request = {"method": "sampling/createMessage", "params": json.loads(params)}
    assert_valid(revision, "CreateMessageRequest", request)


def test_a_sampling_without_audio_says_so_to_2024_11_05_alone() -> None:
    raw = encode_json(_sampling(SOUND, HI))
    assert json.loads(downgrade_sampling(raw, REVISIONS["2024-11-05"])) == _sampling(NO_SOUND, HI)
    assert downgrade_sampling(raw, REVISIONS["2025-03-26"]) is raw
    answer = encode_json({"role": "assistant", "model": "m", "content": SOUND})
    said = downgrade_sampled(answer, REVISIONS["2024-11-05"])
    assert json.loads(said)["content"] == NO_SOUND
    assert downgrade_sampled(answer, REVISIONS["2025-06-18"]) is answer


@pytest.mark.parametrize("revision", LEGACY[:3])
@pytest.mark.parametrize(
    ("said", "read"),
    [
        ([HI], HI),
        ([HI, IMAGE, THERE], {"type": "text", "text": "Hi\n\nthere"}),
        ([IMAGE, {**IMAGE, "data": "BBBB"}], IMAGE),
        ([], {"type": "text", "text": ""}),
        (THERE, THERE),
    ],
)
def test_an_answer_of_several_blocks_is_one_for_an_old_server(
    said: Any, read: Any, revision: str
) -> None:
    answer = {"role": "assistant", "model": "m", "content": said, "stopReason": "endTurn"}
    written = json.loads(downgrade_sampled(encode_json(answer), REVISIONS[revision]))
    assert written == {**answer, "content": read}
    assert_valid(revision, "CreateMessageResult", written)


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
def test_newer_readers_and_servers_get_samplings_as_they_are(revision: str) -> None:
    raw = encode_json(_sampling([HI, SOUND]))
    assert downgrade_sampling(raw, REVISIONS[revision]) is raw
    assert downgrade_sampled(raw, REVISIONS[revision]) is raw


@pytest.mark.parametrize(
    "raw",
    [
        b"[]", b"{}", b'{"messages":1,"content": "x"}', b'{ "messages": [1, {"role": "user"}] }',
        b'{"messages": [{"content": "x"}], "content": "x"}', b"{",
    ],
)  # fmt: skip
def test_samplings_of_another_shape_are_left_alone(raw: bytes) -> None:
    oldest = REVISIONS["2024-11-05"]
    assert downgrade_sampling(raw, oldest) is raw
    assert downgrade_sampled(raw, oldest) is raw
