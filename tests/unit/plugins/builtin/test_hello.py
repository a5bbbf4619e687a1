from __future__ import annotations

import json

from waygate_mcp.model.call import Reply
from waygate_mcp.model.catalog import Kind
from waygate_mcp.plugins.builtin import hello
from waygate_mcp.testing.fakes import call_tool, provider_of, text_of


async def test_greet_greets_whom_it_is_told_to_with_the_configured_word() -> None:
    provider = provider_of(hello.box, config=hello.Config())
    assert text_of(await call_tool(provider, "greet")) == "Hello, world!"
    provider = provider_of(hello.box, config=hello.Config(greeting="Moin"))
    assert text_of(await call_tool(provider, "greet", {"name": "Ada"})) == "Moin, Ada!"


async def test_echo_answers_the_text_unchanged_and_without_structure() -> None:
    text = 'ü "quoted"\n\u2028 end'
    reply = await call_tool(provider_of(hello.box), "echo", {"text": text})
    assert isinstance(reply, Reply)
    assert json.loads(reply.result) == {"content": [{"type": "text", "text": text}]}


def test_its_tools_are_greet_and_echo() -> None:
    definitions = [json.loads(one.definition) for one in hello.box.listing(Kind.TOOL).entries]
    assert [one["name"] for one in definitions] == ["greet", "echo"]
    greet, echo = (one["inputSchema"] for one in definitions)
    assert greet["properties"] == {
        "name": {"type": "string", "default": "world", "description": "Whom to greet."}
    }
    assert "required" not in greet
    assert echo["properties"] == {"text": {"type": "string"}}
    assert echo["required"] == ["text"]
    assert all(one["description"] for one in definitions)
