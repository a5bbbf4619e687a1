from __future__ import annotations

import json
from typing import Any

import pytest

from waygate_mcp.errors import CapabilityMissingError, RpcError
from waygate_mcp.model.call import InputRequired, Reply
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES, ClientCapabilities
from waygate_mcp.protocol.versions import MODERN
from waygate_mcp.testing.asking import asking
from waygate_mcp.testing.fakes import (
    RecordingCaller,
    accepted,
    call_of,
    call_tool,
    provider_of,
    sampled,
    text_of,
)

PROVIDER = provider_of(asking, name="everything")
ROOTS = {"roots": [{"uri": "file:///a", "name": "A"}, {"uri": "file:///b"}]}
DECLINED = {"action": "decline"}


async def awaited(tool: str, *answers: Any, **arguments: Any) -> tuple[str, list[Any]]:
    """Call a tool that awaits its answers; gives its text and the parameters it asked with."""
    caller = RecordingCaller(answers)
    text = text_of(await call_tool(PROVIDER, tool, arguments, caller=caller))
    return text, [json.loads(question.params) for question in caller.questions]


async def returned(tool: str, **answers: Any) -> tuple[str, InputRequired]:
    """Call a tool that returns its questions, and again with answers."""
    first = await call_tool(PROVIDER, tool, {})
    assert isinstance(first, InputRequired)
    responses = {key: json.dumps(value).encode() for key, value in answers.items()}
    second = await call_tool(
        PROVIDER, tool, {}, input_responses=responses, request_state=first.state
    )
    return text_of(second), first


async def test_sampling_sends_the_prompt() -> None:
    text, (params,) = await awaited("test_sampling", sampled("Paris"), prompt="Capital?")
    assert text == "LLM response: Paris"
    assert params["maxTokens"] == 100
    assert params["messages"][0]["content"]["text"] == "Capital?"


async def test_elicitation_sends_the_message_and_both_fields() -> None:
    answer = accepted({"username": "a", "email": "b"})
    text, (params,) = await awaited("test_elicitation", answer, message="Who?")
    assert text == 'User response: action=accept, content={"username":"a","email":"b"}'
    assert params["message"] == "Who?"
    assert params["requestedSchema"]["required"] == ["username", "email"]
    text, _ = await awaited("test_elicitation", DECLINED, message="Who?")
    assert text == "User response: action=decline, content={}"


async def test_defaults_of_every_type_are_sent() -> None:
    text, (params,) = await awaited("test_elicitation_sep1034_defaults", accepted({"age": 1}))
    assert text == 'Elicitation completed: action=accept, content={"age":1}'
    fields = params["requestedSchema"]["properties"]
    assert {name: (one["type"], one["default"]) for name, one in fields.items()} == {
        "name": ("string", "John Doe"),
        "age": ("integer", 30),
        "score": ("number", 95.5),
        "status": ("string", "active"),
        "verified": ("boolean", True),
    }


async def test_every_way_to_write_an_enumeration_is_sent_and_any_answer_taken() -> None:
    text, (params,) = await awaited(
        "test_elicitation_sep1330_enums", accepted({"untitledSingle": "no option"})
    )
    assert text.startswith("Elicitation completed: action=accept")
    fields = params["requestedSchema"]["properties"]
    assert "oneOf" not in fields["untitledSingle"]
    assert "enum" not in fields["titledSingle"]
    assert len(fields["legacyEnum"]["enum"]) == len(fields["legacyEnum"]["enumNames"])
    assert "anyOf" not in fields["untitledMulti"]["items"]
    assert "enum" not in fields["titledMulti"]["items"]


async def test_a_missing_capability_is_the_callers_to_say() -> None:
    caller = RecordingCaller(capabilities=NO_CAPABILITIES)
    with pytest.raises(CapabilityMissingError) as caught:
        await call_tool(PROVIDER, "test_missing_capability", {}, caller=caller)
    assert caught.value.required == {"sampling": {}}
    text, _ = await awaited("test_missing_capability", sampled("yes"))
    assert text == "Sampled: yes"


async def test_progress_comes_before_the_streamed_question() -> None:
    caller = RecordingCaller([accepted({"name": "Ada"})])
    reply = await call_tool(PROVIDER, "test_streaming_elicitation", {}, caller=caller)
    assert "Ada" in text_of(reply)
    assert [one.progress for one in caller.progress] == [1]


async def test_awaited_questions_have_the_keys_modern_clients_see() -> None:
    caller = RecordingCaller([sampled("Paris")])
    reply = await call_tool(PROVIDER, "test_input_required_result_sampling", {}, caller=caller)
    assert text_of(reply) == "Paris"
    assert caller.questions[0].key == "capital_question"
    text, _ = await awaited("test_input_required_result_list_roots", ROOTS)
    assert text == "Roots: A (file:///a), unnamed (file:///b)"


async def test_two_rounds_are_asked_one_after_the_other() -> None:
    tool = "test_input_required_result_multi_round"
    text, asked = await awaited(tool, accepted({"name": "Ada"}), accepted({"color": "red"}))
    assert text == "Ada likes red."
    assert [list(one["requestedSchema"]["properties"]) for one in asked] == [["name"], ["color"]]
    assert (await awaited(tool, DECLINED))[0] == "Stopped at step 1: decline"
    assert (await awaited(tool, accepted({}), DECLINED))[0] == "Stopped at step 2: decline"


async def test_a_returned_form_greets() -> None:
    tool = "test_input_required_result_elicitation"
    text, first = await returned(tool, user_name=accepted({"name": "Alice"}), unknown=5)
    assert text == "Hello, Alice!"
    assert list(first.requests) == ["user_name"]
    assert first.state is None
    assert (await returned(tool, user_name=DECLINED))[0] == "No name was given: decline"


@pytest.mark.parametrize("responses", [{"other": b"{}"}, {"user_name": b"12345"}, {}])
async def test_a_wrong_answer_is_asked_for_again(responses: dict[str, bytes]) -> None:
    again = await call_tool(
        PROVIDER, "test_input_required_result_elicitation", {}, input_responses=responses
    )
    assert isinstance(again, InputRequired)


@pytest.mark.parametrize(
    "tool",
    ["test_input_required_result_request_state", "test_input_required_result_tampered_state"],
)
async def test_the_state_has_to_come_back(tool: str) -> None:
    text, first = await returned(tool, confirm=accepted({"ok": True}))
    assert "state-ok" in text
    assert first.state
    with pytest.raises(RpcError) as caught:
        await call_tool(
            PROVIDER,
            tool,
            {},
            input_responses={"confirm": b'{"action":"accept","content":{"ok":true}}'},
            request_state=f"{first.state}-TAMPERED",
        )
    assert caught.value.rpc_code == -32602


async def test_three_questions_are_asked_at_once() -> None:
    tool = "test_input_required_result_multiple_inputs"
    text, first = await returned(
        tool,
        user_name=accepted({"name": "Ada"}),
        greeting=sampled("Good day"),
        client_roots=ROOTS,
    )
    assert text == "Good day Ada, with 2 roots."
    assert {question.method for question in first.requests.values()} == {
        "elicitation/create",
        "sampling/createMessage",
        "roots/list",
    }
    assert first.state
    partial = await call_tool(
        PROVIDER, tool, {}, input_responses={"client_roots": b'{"roots":[]}'}, request_state="x"
    )
    assert isinstance(partial, InputRequired)


@pytest.mark.parametrize(
    ("declared", "keys"),
    [
        ({"sampling": {}}, ["capital_question"]),
        ({"elicitation": {}}, ["user_name"]),
        ({"roots": {}}, ["client_roots"]),
    ],
)
async def test_only_what_the_client_declared_is_asked(
    declared: dict[str, Any], keys: list[str]
) -> None:
    caller = RecordingCaller(capabilities=ClientCapabilities.parse(declared, MODERN))
    tool = "test_input_required_result_capabilities"
    outcome = await call_tool(PROVIDER, tool, {}, caller=caller)
    assert isinstance(outcome, InputRequired)
    assert list(outcome.requests) == keys
    answered = await call_tool(PROVIDER, tool, {}, caller=caller, input_responses={keys[0]: b"{}"})
    assert text_of(answered) == f"Answered: {keys[0]}"


async def test_a_client_that_declared_nothing_is_asked_nothing() -> None:
    reply = await call_tool(PROVIDER, "test_input_required_result_capabilities", {})
    assert text_of(reply) == "The client declared nothing to ask for."


async def test_the_prompt_asks_first() -> None:
    name = "test_input_required_result_prompt"
    first = await PROVIDER.call(call_of("prompts/get", name))
    assert isinstance(first, InputRequired)
    assert list(first.requests) == ["user_context"]
    responses = {"user_context": json.dumps(accepted({"context": "tea"})).encode()}
    reply = await PROVIDER.call(call_of("prompts/get", name, input_responses=responses))
    assert isinstance(reply, Reply)
    (message,) = json.loads(reply.result)["messages"]
    assert message["content"]["text"] == "Prompt with context: tea"
