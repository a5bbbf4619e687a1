from __future__ import annotations

import dataclasses
import datetime
import json
import sys
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from waygate_mcp.model.call import Reply
from waygate_mcp.toolkit.content import (
    Audio,
    EmbeddedResource,
    Image,
    Message,
    PromptResult,
    ResourceBlob,
    ResourceLink,
    ResourceText,
    Text,
    ToolResult,
)
from waygate_mcp.toolkit.failures import RegistrationError
from waygate_mcp.toolkit.questions import InputRequired
from waygate_mcp.toolkit.results import (
    Output,
    WrongResultError,
    failed_tool,
    prompt_reply,
    resource_reply,
    tool_reply,
)

PNG = b"\x89PNG\r\n\x1a\n..."


class Weather(BaseModel):
    city: str
    degrees: float = Field(alias="temp")


class Row(TypedDict):
    id: int


class OldRow(typing.TypedDict):
    id: int


@dataclasses.dataclass
class Point:
    x: int
    day: datetime.date


class Node(BaseModel):
    children: list[Node] = []


class Opaque:
    pass


def result(reply: Reply) -> Any:
    return json.loads(reply.result)


def output(annotation: Any, *, is_wanted: bool | None = None) -> Output:
    found = Output.of_annotation(annotation, is_wanted=is_wanted)
    assert found is not None
    return found


def texts(reply: Reply) -> list[str]:
    return [block["text"] for block in result(reply)["content"]]


# ---------------------------------------------------------------------- without structure


@pytest.mark.parametrize(
    ("value", "blocks"),
    [
        ("hi", [{"type": "text", "text": "hi"}]),
        ('"\n\u2028', [{"type": "text", "text": '"\n\u2028'}]),
        (None, []),
        (Text("a"), [{"type": "text", "text": "a"}]),
        ([Text("a"), "b"], [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        (("a", PNG), [{"type": "text", "text": "a"}, "image"]),
        ([], [{"type": "text", "text": "[]"}]),
        ({"a": 1}, [{"type": "text", "text": '{"a":1}'}]),
        ([1, "a"], [{"type": "text", "text": '[1,"a"]'}]),
        (5, [{"type": "text", "text": "5"}]),
        (True, [{"type": "text", "text": "true"}]),
        (ResourceLink("a://b", "b"), [{"type": "resource_link", "uri": "a://b", "name": "b"}]),
    ],
)
def test_values_become_blocks(value: Any, blocks: list[Any]) -> None:
    reply = tool_reply(value, None)
    found = result(reply)
    assert set(found) == {"content"}
    assert not reply.is_error
    assert reply.meta is None
    assert [
        b if want != "image" else b["type"]
        for b, want in zip(found["content"], blocks, strict=True)
    ] == blocks
    assert len(found["content"]) == len(blocks)


@pytest.mark.parametrize(
    ("data", "kind", "mime_type"),
    [
        (PNG, "image", "image/png"),
        (b"\xff\xd8\xff\xe0", "image", "image/jpeg"),
        (b"GIF89a", "image", "image/gif"),
        (b"RIFF....WEBP", "image", "image/webp"),
        (b"RIFF....WAVE", "audio", "audio/wav"),
        (b"ID3..", "audio", "audio/mpeg"),
        (b"OggS", "audio", "audio/ogg"),
        (b"fLaC", "audio", "audio/flac"),
    ],
)
def test_bytes_are_recognised_by_what_they_begin_with(
    data: bytes, kind: str, mime_type: str
) -> None:
    (block,) = result(tool_reply(data, None))["content"]
    assert (block["type"], block["mimeType"]) == (kind, mime_type)


def test_bytes_nobody_knows_go_as_a_resource() -> None:
    (block,) = result(tool_reply(bytearray(b"?"), None))["content"]
    assert block["resource"] == {
        "blob": "Pw==",
        "uri": "attachment:///data",
        "mimeType": "application/octet-stream",
    }


def test_a_model_is_structured_even_where_nothing_was_declared() -> None:
    found = result(tool_reply(Weather(city="x", temp=1.5), None))
    assert found["structuredContent"] == {"city": "x", "temp": 1.5}
    assert json.loads(found["content"][0]["text"]) == {"city": "x", "temp": 1.5}


def test_a_list_that_mixes_blocks_with_other_things_is_the_tools_fault() -> None:
    with pytest.raises(WrongResultError, match="blocks, texts and bytes only"):
        tool_reply([Text("a"), 5], None)


def test_what_cannot_be_json_is_the_tools_fault() -> None:
    with pytest.raises(WrongResultError, match="cannot be written as JSON"):
        tool_reply(Opaque(), None)


# ---------------------------------------------------------------------- structured


@pytest.mark.parametrize(
    "annotation",
    [
        None,
        Any,
        object,
        Text,
        Image | Audio,
        list[Text | Image],
        tuple[Text, ...],
        list[bytes],
        bytes,
        ToolResult,
        str | Image,
        Annotated[Image, "a picture"],
        InputRequired,
        Opaque,
    ],
)
def test_results_that_are_content_have_no_output_schema(annotation: Any) -> None:
    assert Output.of_annotation(annotation, is_wanted=None) is None


def test_structure_can_be_declined_and_insisted_on() -> None:
    assert Output.of_annotation(str, is_wanted=False) is None
    with pytest.raises(RegistrationError, match="no JSON schema"):
        Output.of_annotation(Opaque, is_wanted=True)


@pytest.mark.parametrize(
    ("annotation", "value", "structured"),
    [
        (str, "a", {"result": "a"}),
        (int, 1, {"result": 1}),
        (float, 1, {"result": 1}),
        (bool, True, {"result": True}),
        (str | None, None, {"result": None}),
        (list[str], ["a"], {"result": ["a"]}),
        (list[Row], [{"id": 1}], {"result": [{"id": 1}]}),
        (Literal["a", "b"], "b", {"result": "b"}),
        (datetime.date, datetime.date(2026, 1, 2), {"result": "2026-01-02"}),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (Row, {"id": 1}, {"id": 1}),
        (Point, Point(1, datetime.date(2026, 1, 2)), {"x": 1, "day": "2026-01-02"}),
        (Weather, Weather(city="x", temp=1), {"city": "x", "temp": 1.0}),
        (list[Weather], [Weather(city="x", temp=1)], {"result": [{"city": "x", "temp": 1.0}]}),
        (Node, Node(children=[Node()]), {"children": [{"children": []}]}),
        (str | InputRequired, "a", {"result": "a"}),
    ],
)
def test_a_declared_result_is_structured_fits_its_schema_and_is_readable_as_text(
    annotation: Any, value: Any, structured: Any
) -> None:
    import jsonschema_rs

    found = output(annotation)
    sent = result(tool_reply(value, found))
    assert sent["structuredContent"] == structured
    jsonschema_rs.validate(dict(found.schema), structured)
    assert found.schema["type"] == "object"
    (text,) = [block["text"] for block in sent["content"]]
    whole = structured["result"] if found.is_wrapped else structured
    assert (
        text == whole
        if isinstance(whole, str) and isinstance(value, str)
        else json.loads(text) == whole
    )


def test_a_typed_dict_pydantic_cannot_read_is_refused_and_not_forgotten() -> None:
    if sys.version_info >= (3, 12):
        pytest.skip("Pydantic reads it here")
    with pytest.raises(RegistrationError, match="typing_extensions"):
        Output.of_annotation(OldRow, is_wanted=None)


def test_definitions_of_a_wrapped_result_stay_reachable() -> None:
    schema = output(list[Weather]).schema
    assert schema["properties"]["result"]["items"] == {"$ref": "#/$defs/Weather"}
    assert "Weather" in schema["$defs"]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (str, 5),
        (int, "5"),
        (list[str], [1]),
        (Weather, {"city": 1}),
        (Row, {"id": "x"}),
        (int, None),
    ],
)
def test_a_result_that_is_not_what_was_declared_is_the_tools_fault(
    annotation: Any, value: Any
) -> None:
    with pytest.raises(WrongResultError):
        tool_reply(value, output(annotation))


RAW = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def test_a_raw_output_schema_is_checked() -> None:
    declared = Output.of_schema(RAW, what="test")
    assert result(tool_reply({"n": 1}, declared))["structuredContent"] == {"n": 1}
    with pytest.raises(WrongResultError, match="`n`: required"):
        tool_reply({}, declared)
    with pytest.raises(WrongResultError, match="expected object"):
        tool_reply([1], declared)


def test_a_declared_result_that_cannot_be_json_is_the_tools_fault() -> None:
    with pytest.raises(WrongResultError, match="cannot be written as JSON"):
        tool_reply({"n": Opaque()}, Output.of_schema(RAW, what="test"))


# ---------------------------------------------------------------------- ToolResult


def test_a_full_result_says_everything() -> None:
    reply = tool_reply(
        ToolResult(["a", Text("b")], structured={"n": 1}, meta={"trace": "x"}),
        Output.of_schema(RAW, what="test"),
    )
    assert texts(reply) == ["a", "b"]
    assert result(reply)["structuredContent"] == {"n": 1}
    assert reply.meta == b'{"trace":"x"}'


def test_a_full_result_without_content_shows_its_structure() -> None:
    reply = tool_reply(ToolResult(structured=Weather(city="x", temp=1)), None)
    assert json.loads(texts(reply)[0]) == result(reply)["structuredContent"]


def test_a_full_result_may_be_a_failure_and_needs_no_structure_then() -> None:
    reply = tool_reply(ToolResult("broken", is_error=True), Output.of_schema(RAW, what="test"))
    assert reply.is_error
    assert result(reply) == {"content": [{"type": "text", "text": "broken"}], "isError": True}
    assert tool_reply(ToolResult("a"), None).is_error is False


@pytest.mark.parametrize(
    "wrong", [ToolResult("a"), ToolResult(structured={"n": "x"}), ToolResult(structured=[1])]
)
def test_a_full_result_that_does_not_fit_is_the_tools_fault(wrong: ToolResult) -> None:
    with pytest.raises(WrongResultError):
        tool_reply(wrong, Output.of_schema(RAW, what="test"))


def test_a_full_result_is_checked_against_an_annotation_too() -> None:
    assert result(tool_reply(ToolResult(structured={"a": 1}), output(dict[str, int])))
    with pytest.raises(WrongResultError):
        tool_reply(ToolResult(structured={"a": "x"}), output(dict[str, int]))


def test_a_failed_tool_answers_with_its_text() -> None:
    reply = failed_tool("no")
    assert reply.is_error
    assert result(reply) == {"content": [{"type": "text", "text": "no"}], "isError": True}


# ---------------------------------------------------------------------- prompts, resources


def test_a_prompt_is_made_of_texts_messages_and_blocks() -> None:
    reply = prompt_reply(["a", Message("b", "assistant"), Image(b"abc", "image/png")], "About")
    assert result(reply) == {
        "messages": [
            {"role": "user", "content": {"type": "text", "text": "a"}},
            {"role": "assistant", "content": {"type": "text", "text": "b"}},
            {"role": "user", "content": {"type": "image", "data": "YWJj", "mimeType": "image/png"}},
        ],
        "description": "About",
    }
    assert result(prompt_reply("a", "")) == {
        "messages": [{"role": "user", "content": {"type": "text", "text": "a"}}]
    }


def test_a_full_prompt_may_change_its_description() -> None:
    reply = prompt_reply(PromptResult(["a"], "Today", {"x": 1}), "Always")
    assert result(reply)["description"] == "Today"
    assert reply.meta == b'{"x":1}'
    assert result(prompt_reply(PromptResult(["a"]), "Always"))["description"] == "Always"


@pytest.mark.parametrize("wrong", [None, 5, [5], {"a": 1}])
def test_a_prompt_that_returns_something_else_is_at_fault(wrong: Any) -> None:
    with pytest.raises(WrongResultError):
        prompt_reply(wrong, None)


@pytest.mark.parametrize(
    ("value", "mime_type", "content"),
    [
        ("t", None, {"text": "t", "uri": "a://b", "mimeType": "text/plain"}),
        ("t", "text/html", {"text": "t", "uri": "a://b", "mimeType": "text/html"}),
        (b"abc", None, {"blob": "YWJj", "uri": "a://b", "mimeType": "application/octet-stream"}),
        ({"a": 1}, None, {"text": '{"a":1}', "uri": "a://b", "mimeType": "application/json"}),
        ([1], None, {"text": "[1]", "uri": "a://b", "mimeType": "application/json"}),
        (5, None, {"text": "5", "uri": "a://b", "mimeType": "application/json"}),
        (ResourceText("t"), "text/css", {"text": "t", "uri": "a://b", "mimeType": "text/css"}),
        (ResourceBlob(b"", "c://d", "x/y"), None, {"blob": "", "uri": "c://d", "mimeType": "x/y"}),
    ],
)
def test_a_resource_has_one_content(value: Any, mime_type: str | None, content: Any) -> None:
    assert result(resource_reply(value, "a://b", mime_type)) == {"contents": [content]}


def test_a_resource_may_have_several_contents() -> None:
    several = [ResourceText("t", "a://1"), ResourceBlob(b"b", "a://2")]
    assert [one["uri"] for one in result(resource_reply(several, "a://b", None))["contents"]] == [
        "a://1",
        "a://2",
    ]


def test_models_and_dataclasses_are_resources_too() -> None:
    reply = resource_reply(Weather(city="x", temp=1), "a://b", None)
    assert json.loads(result(reply)["contents"][0]["text"]) == {"city": "x", "temp": 1.0}
    reply = resource_reply(Point(1, datetime.date(2026, 1, 1)), "a://b", None)
    assert json.loads(result(reply)["contents"][0]["text"]) == {"x": 1, "day": "2026-01-01"}


@pytest.mark.parametrize("wrong", [None, Text("t"), Opaque(), {"a": Opaque()}])
def test_a_resource_that_returns_something_else_is_at_fault(wrong: Any) -> None:
    with pytest.raises(WrongResultError):
        resource_reply(wrong, "a://b", None)


def test_an_embedded_resource_is_a_block() -> None:
    block = EmbeddedResource(ResourceText("t", "a://b"))
    found: Mapping[str, Any] = result(tool_reply(block, None))
    assert found["content"][0]["resource"] == {"text": "t", "uri": "a://b"}
