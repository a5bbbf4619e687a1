"""What every Provider keeps to, whatever stands behind it.

A subclass gives `provider`, a Provider in front of the fixture `waygate_mcp.testing.everything`, under
the fixture's own names. The class is not collected by itself: `test_*.py` files subclass it as `Test…`.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from waygate_mcp.errors import InvalidArgumentsError, RpcError, UnknownNameError
from waygate_mcp.model.call import InputRequired, Reply
from waygate_mcp.model.catalog import Kind, Viewer
from waygate_mcp.model.ports import Provider
from waygate_mcp.model.principal import LOCAL
from waygate_mcp.testing.fakes import (
    ALL_CAPABILITIES,
    RecordingCaller,
    accepted,
    call_of,
    call_tool,
    sampled,
    text_of,
)

VIEWER = Viewer(LOCAL, ALL_CAPABILITIES)
MEMBER = {
    Kind.TOOL: "name",
    Kind.PROMPT: "name",
    Kind.RESOURCE: "uri",
    Kind.TEMPLATE: "uriTemplate",
}
INVALID_PARAMS, NOT_FOUND_LEGACY = -32602, -32002
ROOTS = {"roots": [{"uri": "file:///project", "name": "Project"}]}


def parsed(outcome: Reply | InputRequired) -> dict[str, Any]:
    assert isinstance(outcome, Reply), f"expected a reply, got {outcome}"
    result: dict[str, Any] = json.loads(outcome.result)
    foreign = {"resultType", "ttlMs", "cacheScope", "_meta"} & set(result)
    assert not foreign, f"a reply has no era's shape: {foreign}"
    return result


class ProviderContract:
    """The suite."""

    @pytest.fixture
    def provider(self) -> Provider:
        raise NotImplementedError

    def test_it_knows_its_name_and_what_it_can_do_without_asking(self, provider: Provider) -> None:
        assert provider.name
        features = provider.features
        assert features.tools
        assert features.prompts
        assert features.resources

    @pytest.mark.parametrize("kind", Kind)
    async def test_every_entry_is_a_definition_under_its_own_name(
        self, provider: Provider, kind: Kind
    ) -> None:
        listing = await provider.listing(kind, VIEWER)
        assert listing.entries
        names = [entry.name for entry in listing.entries]
        assert len(set(names)) == len(names)
        for entry in listing.entries:
            assert entry.kind is kind
            assert json.loads(entry.definition)[MEMBER[kind]] == entry.name

    async def test_a_listing_that_did_not_change_keeps_its_version(
        self, provider: Provider
    ) -> None:
        first = await provider.listing(Kind.TOOL, VIEWER)
        second = await provider.listing(Kind.TOOL, VIEWER)
        assert first.version == second.version
        assert first.entries == second.entries

    async def test_mirrored_headers_are_known(self, provider: Provider) -> None:
        listing = await provider.listing(Kind.TOOL, VIEWER)
        mirrored = {one.name: one.header_params for one in listing.entries if one.header_params}
        assert [param.name for param in mirrored["test_custom_header"]] == ["Region"]

    async def test_schemas_are_published_as_they_were_written(self, provider: Provider) -> None:
        listing = await provider.listing(Kind.TOOL, VIEWER)
        (entry,) = [one for one in listing.entries if one.name == "json_schema_2020_12_tool"]
        schema = json.loads(entry.definition)["inputSchema"]
        assert schema["$defs"]["address"]["$anchor"] == "addressDef"
        assert {"$schema", "allOf", "if", "then", "else", "additionalProperties"} <= set(schema)

    async def test_a_tool_is_called(self, provider: Provider) -> None:
        reply = await call_tool(provider, "test_simple_text")
        assert parsed(reply)
        assert text_of(reply) == "This is a simple text response for testing."

    async def test_a_tools_own_failure_is_a_reply(self, provider: Provider) -> None:
        reply = await call_tool(provider, "test_error_handling", {})
        assert isinstance(reply, Reply)
        assert reply.is_error
        assert parsed(reply)["isError"] is True
        assert text_of(reply) == "This tool intentionally returns an error for testing"

    async def test_invalid_arguments_of_a_tool_are_a_reply(self, provider: Provider) -> None:
        reply = await call_tool(provider, "test_sampling", {"prompt": 5}, caller=RecordingCaller())
        assert isinstance(reply, Reply)
        assert reply.is_error
        assert "prompt" in text_of(reply)

    async def test_an_unknown_tool_is_an_error(self, provider: Provider) -> None:
        with pytest.raises((UnknownNameError, RpcError)) as caught:
            await call_tool(provider, "no_such_tool", {})
        if isinstance(caught.value, RpcError):
            assert caught.value.rpc_code == INVALID_PARAMS

    async def test_progress_arrives_before_the_answer_and_in_order(
        self, provider: Provider
    ) -> None:
        caller = RecordingCaller()
        await call_tool(
            provider, "test_tool_with_progress", {}, caller=caller, progress_token="p-1"
        )
        assert [(one.progress, one.total) for one in caller.progress] == [
            (0, 100),
            (50, 100),
            (100, 100),
        ]

    async def test_log_messages_arrive_before_the_answer_and_in_order(
        self, provider: Provider
    ) -> None:
        caller = RecordingCaller(log_level="debug")
        await call_tool(provider, "test_tool_with_logging", {}, caller=caller)
        assert caller.logs == [
            ("info", "Tool execution started"),
            ("info", "Tool processing data"),
            ("info", "Tool execution completed"),
        ]

    @pytest.mark.parametrize(
        ("tool", "answer", "method", "text"),
        [
            ("test_elicitation", accepted({"username": "a"}), "elicitation/create", "accept"),
            ("test_sampling", sampled("Paris"), "sampling/createMessage", "LLM response: Paris"),
            ("test_input_required_result_list_roots", ROOTS, "roots/list", "file:///project"),
        ],
    )
    async def test_a_question_in_the_middle_of_a_call_is_asked_and_answered(
        self, provider: Provider, tool: str, answer: Any, method: str, text: str
    ) -> None:
        caller = RecordingCaller([answer])
        arguments = {"test_elicitation": {"message": "m"}, "test_sampling": {"prompt": "p"}}
        outcome = await call_tool(provider, tool, arguments.get(tool, {}), caller=caller)
        if isinstance(outcome, InputRequired):  # the same question, asked without waiting
            ((key, question),) = outcome.requests.items()
            assert question.method == method
            outcome = await call_tool(
                provider,
                tool,
                arguments.get(tool, {}),
                caller=caller,
                input_responses={key: json.dumps(answer).encode()},
                request_state=outcome.state,
            )
        else:
            assert [question.method for question in caller.questions] == [method]
        assert text in text_of(outcome)

    async def test_a_prompt_is_given(self, provider: Provider) -> None:
        call = call_of(
            "prompts/get",
            "test_prompt_with_arguments",
            {"arguments": {"arg1": "hello", "arg2": "world"}},
        )
        (message,) = parsed(await provider.call(call))["messages"]
        assert message["role"] == "user"
        assert message["content"]["text"] == "Prompt with arguments: arg1='hello', arg2='world'"

    async def test_a_prompt_without_its_arguments_is_an_error(self, provider: Provider) -> None:
        with pytest.raises((InvalidArgumentsError, RpcError)) as caught:
            await provider.call(call_of("prompts/get", "test_prompt_with_arguments", {}))
        if isinstance(caught.value, RpcError):
            assert caught.value.rpc_code == INVALID_PARAMS

    @pytest.mark.parametrize(
        ("uri", "member"),
        [
            ("test://static-text", "text"),
            ("test://static-binary", "blob"),
            ("test://template/123/data", "text"),
        ],
    )
    async def test_a_resource_is_read(self, provider: Provider, uri: str, member: str) -> None:
        (content,) = parsed(await provider.call(call_of("resources/read", uri)))["contents"]
        assert content["uri"] == uri
        assert content[member]
        assert content["mimeType"]

    async def test_an_unknown_resource_is_an_error(self, provider: Provider) -> None:
        with pytest.raises((UnknownNameError, RpcError)) as caught:
            await provider.call(call_of("resources/read", "test://no-such-resource"))
        if isinstance(caught.value, RpcError):
            assert caught.value.rpc_code in {INVALID_PARAMS, NOT_FOUND_LEGACY}

    async def test_an_argument_is_completed(self, provider: Provider) -> None:
        ref = {"type": "ref/prompt", "name": "test_prompt_with_arguments"}
        params = {"ref": ref, "argument": {"name": "arg1", "value": "par"}}
        call = call_of("completion/complete", "test_prompt_with_arguments", params)
        completion = parsed(await provider.call(call))["completion"]
        assert completion["values"] == ["paris", "park", "party"]
