"""URIs where MCP has them: all of them rewritten, nothing else touched."""

from __future__ import annotations

import json
from typing import Any

import pytest

from waygate_mcp.gateway.links import map_definition, map_error_data, map_meta, map_result

TEXT = {"type": "text", "text": "see memo://a"}
LINK = {"type": "resource_link", "uri": "memo://a", "name": "a", "x-vendor": 1.50}
EMBEDDED = {"type": "resource", "resource": {"uri": "memo://b", "text": "memo://b"}}


def mark(uri: str) -> str:
    return f"two+{uri}"


def raw(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_links_and_embedded_resources_of_a_tool_are_rewritten_and_text_is_not() -> None:
    result = raw({"content": [TEXT, LINK, EMBEDDED, {"type": "image", "uri": "memo://c"}]})
    read = json.loads(map_result("tools/call", result, mark))
    assert read["content"][0] == TEXT
    assert read["content"][1] == {**LINK, "uri": "two+memo://a"}
    assert read["content"][2]["resource"] == {"uri": "two+memo://b", "text": "memo://b"}
    assert read["content"][3]["uri"] == "memo://c"


def test_messages_of_a_prompt_hold_one_block_or_several() -> None:
    messages = [
        {"role": "user", "content": LINK},
        {"role": "user", "content": [TEXT, EMBEDDED]},
        {"role": "user", "content": TEXT},
    ]
    read = json.loads(map_result("prompts/get", raw({"messages": messages}), mark))["messages"]
    assert read[0]["content"]["uri"] == "two+memo://a"
    assert read[1]["content"][1]["resource"]["uri"] == "two+memo://b"
    assert read[2] == messages[2]


def test_every_part_of_what_was_read_is_rewritten() -> None:
    contents = [{"uri": "memo://a", "text": "x"}, {"uri": "memo://a/b", "blob": "AA=="}]
    read = json.loads(map_result("resources/read", raw({"contents": contents}), mark))
    assert [item["uri"] for item in read["contents"]] == ["two+memo://a", "two+memo://a/b"]


def test_definitions_are_rewritten_with_the_link_to_their_user_interface() -> None:
    meta = {"ui": {"resourceUri": "ui://w", "csp": {}}, "ui/resourceUri": "ui://w", "k": 1}
    tool = {"name": "t", "uri": "left://alone", "_meta": meta}
    read = json.loads(map_definition(raw(tool), None, mark))
    assert read["uri"] == "left://alone"
    assert read["_meta"] == {
        "ui": {"resourceUri": "two+ui://w", "csp": {}},
        "ui/resourceUri": "two+ui://w",
        "k": 1,
    }
    resource = json.loads(map_definition(raw({"uri": "memo://a", "name": "a"}), "uri", mark))
    assert resource == {"uri": "two+memo://a", "name": "a"}
    assert json.loads(map_meta(raw(meta), mark)) == read["_meta"]


def test_an_error_names_the_uri_clients_know() -> None:
    assert json.loads(map_error_data(raw({"uri": "memo://a", "x": 1}), mark)) == {
        "uri": "two+memo://a",
        "x": 1,
    }


@pytest.mark.parametrize(
    ("method", "result"),
    [
        ("tools/call", b'{"content":[{"type":"text","text":"\\ud800 1.50"}],"n":1.50 }'),
        ("tools/call", b'{ "content" : "none" }'),
        ("tools/call", b'{"content":[7,null,"x",{"type":7},{"type":"resource"}]}'),
        ("tools/call", b'{"content":[{"type":"resource","resource":7}]}'),
        ("tools/call", b'{"content":[{"type":"resource_link","uri":7}]}'),
        ("tools/call", b'{"content":[{"type":"resource_link","uri":"\\ud800"}]}'),
        ("tools/call", b"[]"),
        ("tools/call", b"broken"),
        ("prompts/get", b'{"messages":[{"role":"user"},{"content":7}]}'),
        ("resources/read", b'{"contents":[{"text":"x"}]}'),
        ("completion/complete", b'{"completion":{"values":["memo://a"]}}'),
    ],
)
def test_what_holds_no_uri_keeps_its_bytes(method: str, result: bytes) -> None:
    assert map_result(method, result, mark) == result


def test_the_bytes_stay_where_no_uri_is_changed() -> None:
    result = b'{ "content": [ {"type": "resource_link", "uri": "memo://a"} ] }'
    seen: list[str] = []

    def note(uri: str) -> str:
        seen.append(uri)
        return uri

    assert map_result("tools/call", result, note) is result
    assert seen == ["memo://a"]


def test_numbers_and_unknown_members_survive_a_change() -> None:
    result = (
        b'{"content":[{"type":"resource_link","uri":"a:","n":1.50}],"big":123456789012345678901}'
    )
    assert map_result("tools/call", result, mark) == (
        b'{"content":[{"type":"resource_link","uri":"two+a:","n":1.50}],"big":123456789012345678901}'
    )
