from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from waygate_mcp.config.document import PluginSection
from waygate_mcp.model.call import Reply
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import ListChanged, ResourceUpdated
from waygate_mcp.model.ports import Provider
from waygate_mcp.plugins.lifecycle import open_plugins
from waygate_mcp.testing import everything
from waygate_mcp.testing.fakes import (
    Announcements,
    RecordingCaller,
    call_of,
    call_tool,
    provider_of,
    text_of,
)
from waygate_mcp.toolkit.provider import ToolboxProvider

TOOLS = [
    "test_simple_text",
    "test_image_content",
    "test_audio_content",
    "test_embedded_resource",
    "test_multiple_content_types",
    "test_error_handling",
    "test_tool_with_progress",
    "test_tool_with_logging",
    "test_sampling",
    "test_elicitation",
    "test_elicitation_sep1034_defaults",
    "test_elicitation_sep1330_enums",
    "test_missing_capability",
    "test_streaming_elicitation",
    "test_logging_tool",
    "test_trigger_tool_change",
    "test_trigger_prompt_change",
    "test_input_required_result_elicitation",
    "test_input_required_result_sampling",
    "test_input_required_result_list_roots",
    "test_input_required_result_request_state",
    "test_input_required_result_multiple_inputs",
    "test_input_required_result_multi_round",
    "test_input_required_result_tampered_state",
    "test_input_required_result_capabilities",
    "json_schema_2020_12_tool",
    "test_custom_header",
    "test_reconnection",
    "slow_cancellable",
    "cancellations_seen",
    "update_watched_resource",
]


@pytest.fixture
def provider() -> ToolboxProvider:
    return provider_of(everything.box, name="everything", lifespan=everything.Watch())


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(everything, "_STEP_S", 0)


def result(outcome: Any) -> Any:
    assert isinstance(outcome, Reply)
    return json.loads(outcome.result)


def names(kind: Kind) -> list[str]:
    return [entry.name for entry in everything.box.listing(kind).entries]


async def test_it_is_a_plugin_like_any_other() -> None:
    use = {"fixture": PluginSection(use="waygate_mcp.testing.everything")}
    async with open_plugins(use, Announcements()) as (provider,):
        assert text_of(await call_tool(provider, "cancellations_seen")) == "0"


def test_it_offers_what_the_suite_calls() -> None:
    assert sorted(names(Kind.TOOL)) == sorted(TOOLS)
    assert sorted(names(Kind.PROMPT)) == [
        "test_input_required_result_prompt",
        "test_prompt_with_arguments",
        "test_prompt_with_embedded_resource",
        "test_prompt_with_image",
        "test_simple_prompt",
    ]
    assert names(Kind.RESOURCE) == [
        "test://static-text",
        "test://static-binary",
        "test://watched-resource",
    ]
    assert names(Kind.TEMPLATE) == ["test://template/{id}/data"]
    features = everything.box.features
    assert features.subscribe
    assert features.completions


def test_every_tool_and_prompt_has_a_description_and_every_resource_a_name() -> None:
    for kind in Kind:
        for entry in everything.box.listing(kind).entries:
            definition = json.loads(entry.definition)
            assert definition["description"]
            assert definition["name"]


@pytest.mark.parametrize(
    ("tool", "arguments", "text"),
    [
        ("test_simple_text", None, "This is a simple text response for testing."),
        ("test_tool_with_progress", {}, "Tool with progress executed successfully"),
        ("test_tool_with_logging", {}, "Tool with logging executed successfully"),
        ("test_logging_tool", {}, "Logging tool executed"),
        ("test_reconnection", {}, "Reconnection test completed successfully"),
        (
            "json_schema_2020_12_tool",
            {"name": "x", "email": "e"},
            "JSON Schema 2020-12 tool called with: email, name",
        ),
        ("test_custom_header", {"region": "eu"}, "Region: eu"),
        ("slow_cancellable", {"seconds": 0}, "Waited 0 s"),
    ],
)
@pytest.mark.usefixtures("no_waiting")
async def test_tools_answer_with_their_text(
    provider: Provider, tool: str, arguments: Any, text: str
) -> None:
    reply = await call_tool(provider, tool, arguments)
    assert result(reply) == {"content": [{"type": "text", "text": text}]}


async def test_tools_of_content_answer_with_it(provider: Provider) -> None:
    (image,) = result(await call_tool(provider, "test_image_content"))["content"]
    assert base64.b64decode(image["data"]).startswith(b"\x89PNG")
    assert image["mimeType"] == "image/png"
    (audio,) = result(await call_tool(provider, "test_audio_content"))["content"]
    assert base64.b64decode(audio["data"])[:4] == b"RIFF"
    assert audio["mimeType"] == "audio/wav"
    (embedded,) = result(await call_tool(provider, "test_embedded_resource"))["content"]
    assert embedded["resource"] == {
        "uri": "test://embedded-resource",
        "mimeType": "text/plain",
        "text": "This is an embedded resource content.",
    }
    mixed = result(await call_tool(provider, "test_multiple_content_types"))["content"]
    assert [block["type"] for block in mixed] == ["text", "image", "resource"]
    assert mixed[0]["text"] == "Multiple content types test:"
    assert mixed[2]["resource"]["uri"] == "test://mixed-content-resource"
    assert mixed[2]["resource"]["mimeType"] == "application/json"


async def test_the_failing_tool_fails(provider: Provider) -> None:
    assert result(await call_tool(provider, "test_error_handling")) == {
        "content": [
            {"type": "text", "text": "This tool intentionally returns an error for testing"}
        ],
        "isError": True,
    }


@pytest.mark.usefixtures("no_waiting")
async def test_the_stream_is_closed_in_the_middle_of_the_call(provider: Provider) -> None:
    caller = RecordingCaller()
    await call_tool(provider, "test_reconnection", {}, caller=caller)
    assert caller.streams_closed == 1
    assert len(caller.logs) == 2


@pytest.mark.parametrize(
    ("arguments", "is_valid"),
    [
        ({"phone": "1", "contactMethod": "phone"}, True),
        ({"email": "1", "contactMethod": "phone"}, False),
        ({"name": "x"}, False),
        ({"email": "1", "address": {"street": 5}}, False),
        ({"email": "1", "other": 5}, False),
    ],
)
async def test_the_schema_of_2020_12_is_obeyed(
    provider: Provider, arguments: dict[str, Any], is_valid: bool
) -> None:
    reply = await call_tool(provider, "json_schema_2020_12_tool", arguments)
    assert isinstance(reply, Reply)
    assert reply.is_error is not is_valid


async def test_lists_change_and_change_back() -> None:
    announced = Announcements()
    provider = ToolboxProvider("e", everything.box, announced, lifespan=everything.Watch())
    tools, prompts = names(Kind.TOOL), names(Kind.PROMPT)
    with provider.attached():
        assert text_of(await call_tool(provider, "test_trigger_tool_change")) == "Tool added"
        assert "test_dynamic_tool" in names(Kind.TOOL)
        assert text_of(await call_tool(provider, "test_dynamic_tool")).startswith("This is")
        assert text_of(await call_tool(provider, "test_trigger_tool_change")) == "Tool removed"
        assert text_of(await call_tool(provider, "test_trigger_prompt_change")) == "Prompt added"
        assert "test_dynamic_prompt" in names(Kind.PROMPT)
        assert text_of(await call_tool(provider, "test_trigger_prompt_change")) == "Prompt removed"
    assert announced == [ListChanged("e", Kind.TOOL)] * 2 + [ListChanged("e", Kind.PROMPT)] * 2
    assert (names(Kind.TOOL), names(Kind.PROMPT)) == (tools, prompts)


async def test_a_cancelled_call_is_counted(provider: Provider) -> None:
    assert text_of(await call_tool(provider, "cancellations_seen")) == "0"
    task = asyncio.ensure_future(  # noqa: TID251 - a test's own
        call_tool(provider, "slow_cancellable", {"seconds": 60})
    )
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert text_of(await call_tool(provider, "cancellations_seen")) == "1"


async def test_a_slow_call_ends_by_itself(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(everything, "_SLOW_STEP_S", 0.001)
    assert (
        text_of(await call_tool(provider, "slow_cancellable", {"seconds": 0.01})) == "Waited 0.01 s"
    )


async def test_the_watched_resource_is_updated_and_announced() -> None:
    announced = Announcements()
    provider = ToolboxProvider("e", everything.box, announced, lifespan=everything.Watch())
    with provider.attached():
        assert text_of(await call_tool(provider, "update_watched_resource")) == "Updated"
    assert announced == [ResourceUpdated("e", "test://watched-resource")]
    read = result(await provider.call(call_of("resources/read", "test://watched-resource")))
    assert read["contents"][0]["text"] == "This is the watched resource, updated 1 times."


@pytest.mark.parametrize(
    ("uri", "content"),
    [
        (
            "test://static-text",
            {"mimeType": "text/plain", "text": "This is the content of the static text resource."},
        ),
        (
            "test://template/123/data",
            {
                "mimeType": "application/json",
                "text": '{"id":"123","templateTest":true,"data":"Data for ID: 123"}',
            },
        ),
    ],
)
async def test_resources_are_read_with_their_text(
    provider: Provider, uri: str, content: dict[str, str]
) -> None:
    read = result(await provider.call(call_of("resources/read", uri)))
    assert read == {"contents": [{"uri": uri, **content}]}


async def test_the_static_image_is_an_image(provider: Provider) -> None:
    (content,) = result(await provider.call(call_of("resources/read", "test://static-binary")))[
        "contents"
    ]
    assert content["mimeType"] == "image/png"
    assert base64.b64decode(content["blob"]).startswith(b"\x89PNG")


async def messages(provider: Provider, name: str, **arguments: str) -> list[Any]:
    found = result(await provider.call(call_of("prompts/get", name, {"arguments": arguments})))
    return [message["content"] for message in found["messages"]]


async def test_prompts_answer_with_their_messages(provider: Provider) -> None:
    (simple,) = await messages(provider, "test_simple_prompt")
    assert simple["text"] == "This is a simple prompt for testing."
    uri = "test://example-resource"
    embedded, then = await messages(provider, "test_prompt_with_embedded_resource", resourceUri=uri)
    assert embedded["resource"] == {
        "uri": uri,
        "mimeType": "text/plain",
        "text": "Embedded resource content for testing.",
    }
    assert then["text"] == "Please process the embedded resource above."
    image, then = await messages(provider, "test_prompt_with_image")
    assert image["mimeType"] == "image/png"
    assert then["text"] == "Please analyze the image above."


async def test_the_templates_variable_is_completed(provider: Provider) -> None:
    uri = "test://template/{id}/data"
    params = {
        "ref": {"type": "ref/resource", "uri": uri},
        "argument": {"name": "id", "value": "12"},
    }
    found = result(await provider.call(call_of("completion/complete", uri, params)))
    assert found["completion"]["values"] == ["123", "124"]
