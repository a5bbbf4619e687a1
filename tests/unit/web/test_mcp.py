"""The MCP door as dialogues: one URL, both eras, every status."""

from __future__ import annotations

from tests.support.dialogues import Desk, Visitor
from tests.support.scripted import Scripted, text
from tests.support.virtual_time import virtual_time


def greeter() -> Scripted:
    box = Scripted()
    box.tool("greet", lambda call: text(f"Hello {call.arguments.get('name')}"))
    return box


@virtual_time
async def test_a_modern_call_is_answered_as_json() -> None:
    async with Desk(greeter()) as desk:
        answer = await Visitor(desk.door).modern(
            "tools/call", name="greet", arguments={"name": "Bo"}
        )
    assert (answer.status, answer.words) == (200, "Hello Bo")
    assert answer.headers[b"content-type"] == b"application/json"
    assert answer.result["resultType"] == "complete"


@virtual_time
async def test_a_legacy_call_is_answered_as_json() -> None:
    async with Desk(greeter()) as desk:
        client = Visitor(desk.door)
        await client.open()
        answer = await client.legacy("tools/call", name="greet", arguments={"name": "Bo"})
    assert (answer.status, answer.words) == (200, "Hello Bo")
    assert "resultType" not in answer.result
