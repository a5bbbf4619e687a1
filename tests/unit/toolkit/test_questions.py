from __future__ import annotations

import enum
import json
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from waygate_mcp.model.call import Answer
from waygate_mcp.toolkit.content import Image, Message, Text
from waygate_mcp.toolkit.failures import QuestionRefusedError, RegistrationError, ToolError
from waygate_mcp.toolkit.questions import (
    Elicit,
    Elicitation,
    ElicitUrl,
    ListRoots,
    Root,
    Sample,
    SamplingResult,
    form_schema,
    parse_answer,
    read_elicitation,
    read_roots,
    read_sampling,
)


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


class Order(BaseModel):
    name: str = Field(description="Of what", min_length=1)
    count: int = 1
    price: float | None = None
    size: Size = Size.SMALL
    sizes: list[Size] = []
    kind: Literal["a", "b"] = "a"
    only: Literal["x"] = "x"
    gift: bool = False
    note: str | None = Field(None, description="For the cook")


class Nested(BaseModel):
    order: Order


class Listed(BaseModel):
    names: list[str]


def params_of(question: Any, **more: Any) -> dict[str, Any]:
    params: dict[str, Any] = json.loads(question.to_question(**more).params)
    return params


def test_a_form_is_asked_with_the_flat_schema_of_a_model() -> None:
    question = Elicit("Order?", Order).to_question("order")
    assert (question.method, question.key) == ("elicitation/create", "order")
    params = json.loads(question.params)
    assert params["message"] == "Order?"
    schema = params["requestedSchema"]
    assert set(schema) == {"type", "properties", "required"}
    assert schema["required"] == ["name"]
    fields = schema["properties"]
    assert fields["name"]["minLength"] == 1
    assert fields["count"] == {"default": 1, "title": "Count", "type": "integer"}
    assert fields["price"] == {"title": "Price", "type": "number"}
    assert fields["size"]["enum"] == ["small", "large"]
    assert fields["size"]["default"] == "small"
    assert fields["sizes"]["items"] == {"type": "string", "enum": ["small", "large"]}
    assert fields["kind"]["enum"] == ["a", "b"]
    assert fields["only"]["enum"] == ["x"]
    assert fields["note"] == {"description": "For the cook", "title": "Note", "type": "string"}
    assert "$ref" not in json.dumps(schema)


def test_a_schema_written_by_hand_is_sent_as_it_is() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string", "enumNames": []}}}
    assert params_of(Elicit("m", schema))["requestedSchema"] == schema


class Loose(BaseModel):
    maybe: str | None = Field(default_factory=lambda: None)


def test_a_form_may_require_nothing_and_default_to_nothing() -> None:
    form = form_schema(Loose)
    assert "required" not in form
    assert form["properties"]["maybe"] == {"title": "Maybe", "type": "string"}


@pytest.mark.parametrize("model", [Nested, Listed])
def test_a_form_that_nests_is_refused(model: type[BaseModel]) -> None:
    with pytest.raises(RegistrationError, match="cannot stand in a form"):
        form_schema(model)


def test_a_url_question_has_an_id_for_legacy_clients_only() -> None:
    modern = params_of(ElicitUrl("Sign", "https://x", "id-1"))
    assert modern == {"mode": "url", "message": "Sign", "url": "https://x"}
    assert (
        params_of(ElicitUrl("Sign", "https://x", "id-1"), is_modern=False)["elicitationId"]
        == "id-1"
    )
    made_up = params_of(ElicitUrl("Sign", "https://x"), is_modern=False)["elicitationId"]
    assert len(made_up) == 16


def test_a_sampling_is_asked_with_what_was_given_and_no_more() -> None:
    assert params_of(Sample(messages=["Hi"], max_tokens=9)) == {
        "messages": [{"role": "user", "content": {"type": "text", "text": "Hi"}}],
        "maxTokens": 9,
    }
    full = Sample(
        messages=[Message(Text("Hi"), "assistant"), Message(Image(b"abc", "image/png"))],
        max_tokens=9,
        system_prompt="Be short",
        temperature=0.0,
        stop_sequences=["."],
        extra={"toolChoice": {"mode": "auto"}},
    )
    assert params_of(full) == {
        "messages": [
            {"role": "assistant", "content": {"type": "text", "text": "Hi"}},
            {"role": "user", "content": {"type": "image", "data": "YWJj", "mimeType": "image/png"}},
        ],
        "maxTokens": 9,
        "systemPrompt": "Be short",
        "temperature": 0.0,
        "stopSequences": ["."],
        "toolChoice": {"mode": "auto"},
    }
    assert full.to_question().method == "sampling/createMessage"


def test_roots_are_asked_for_without_parameters() -> None:
    question = ListRoots().to_question("r")
    assert (question.method, question.params, question.key) == ("roots/list", b"{}", "r")


def test_an_answer_is_an_object_or_an_error() -> None:
    assert parse_answer(Answer(b'{"a":1}')) == {"a": 1}
    with pytest.raises(QuestionRefusedError, match="no thanks") as caught:
        parse_answer(Answer(None, -1, "no thanks"))
    assert caught.value.code == -1
    with pytest.raises(ToolError, match="not an object"):
        parse_answer(Answer(b"[]"))


def test_an_accepted_form_is_made_a_model() -> None:
    answer = read_elicitation(
        {"action": "accept", "content": {"name": "Tea", "size": "large"}}, Order
    )
    assert answer is not None
    assert answer.is_accepted
    assert answer.content == {"name": "Tea", "size": "large"}
    assert answer.data == Order(name="Tea", size=Size.LARGE)


def test_content_of_a_raw_schema_is_taken_unchecked() -> None:
    raw = {"action": "accept", "content": {"x": ["?"]}}
    assert read_elicitation(raw, {"type": "object"}) == Elicitation(
        "accept", {"x": ["?"]}, {"x": ["?"]}
    )
    assert read_elicitation({"action": "accept"}) == Elicitation("accept")


@pytest.mark.parametrize("action", ["decline", "cancel"])
def test_a_declined_or_cancelled_form_has_no_content(action: str) -> None:
    answer = read_elicitation({"action": action, "content": {"name": "x"}}, Order)
    assert answer is not None
    assert not answer.is_accepted
    assert (answer.action, answer.content, answer.data) == (action, None, None)


def test_content_that_does_not_fit_the_model_is_a_tool_error_that_names_the_field() -> None:
    with pytest.raises(ToolError, match=r"does not fit the form: name: Field required"):
        read_elicitation({"action": "accept", "content": {}}, Order)
    with pytest.raises(ToolError, match="name: Field required"):
        read_elicitation({"action": "accept"}, Order)


@pytest.mark.parametrize(
    "raw", [None, 5, [], {}, {"action": "maybe"}, {"action": "accept", "content": 5}]
)
def test_what_is_no_elicitation_is_none(raw: Any) -> None:
    assert read_elicitation(raw) is None


def test_a_sampling_result_is_read() -> None:
    block = {"type": "text", "text": "Hi"}
    assert read_sampling(
        {"role": "assistant", "content": block, "model": "m", "stopReason": "endTurn"}
    ) == SamplingResult("assistant", (block,), "m", "endTurn")
    several = read_sampling({"content": [block, {"type": "image"}, block], "model": "m"})
    assert several is not None
    assert several.text == "Hi\nHi"
    assert (several.role, several.stop_reason) == ("assistant", None)


@pytest.mark.parametrize("raw", [None, 5, {}, {"model": 1}, {"model": "m", "content": 5}])
def test_what_is_no_sampling_result_is_none(raw: Any) -> None:
    assert read_sampling(raw) is None


def test_roots_are_read_and_those_without_an_address_left_out() -> None:
    raw = {"roots": [{"uri": "file:///a", "name": "A"}, {"uri": "file:///b", "name": 1}, {}, 5]}
    assert read_roots(raw) == [Root("file:///a", "A"), Root("file:///b")]
    for nothing in (None, {}, {"roots": 5}):
        assert read_roots(nothing) is None
