from __future__ import annotations

import pytest

from waygate_mcp.errors import CapabilityMissingError
from waygate_mcp.model.call import Answer, InputRequired, LogEvent, Progress, Question, Reply
from waygate_mcp.model.event import ResourceUpdated
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES
from waygate_mcp.protocol.versions import LATEST_LEGACY
from waygate_mcp.testing.fakes import (
    ALL_CAPABILITIES,
    Announcements,
    RecordingCaller,
    accepted,
    call_of,
    call_tool,
    provider_of,
    sampled,
    text_of,
)
from waygate_mcp.toolkit.toolbox import Toolbox

ROOTS = Question("roots/list")


async def test_events_are_remembered_in_order_and_quiet_ones_dropped() -> None:
    caller = RecordingCaller(log_level="warning")
    assert caller.log_level == "warning"
    events: list[Progress | LogEvent] = [
        Progress(1),
        LogEvent("info", b'"low"'),
        LogEvent("error", b'"high"'),
    ]
    for event in events:
        await caller.emit(event)
    assert caller.events == [events[0], events[2]]
    assert caller.progress == [Progress(1)]
    assert caller.logs == [("error", "high")]
    silent = RecordingCaller(log_level=None)
    await silent.emit(events[2])
    assert silent.events == []


async def test_answers_are_given_in_order_whatever_their_form() -> None:
    async def slow(question: Question) -> Answer:
        return Answer(b'"slow"')

    def quick(question: Question) -> Answer:
        return Answer(question.params)

    caller = RecordingCaller([{"a": 1}, Answer(None, -1, "no"), quick, slow])
    assert [await caller.ask(ROOTS) for _ in range(4)] == [
        Answer(b'{"a": 1}'),
        Answer(None, -1, "no"),
        Answer(b"{}"),
        Answer(b'"slow"'),
    ]
    assert caller.questions == [ROOTS] * 4
    with pytest.raises(AssertionError, match="no answer is left for roots/list"):
        await caller.ask(ROOTS)


async def test_a_question_the_client_cannot_answer_is_refused_and_not_recorded() -> None:
    caller = RecordingCaller([{}], capabilities=NO_CAPABILITIES)
    with pytest.raises(CapabilityMissingError):
        await caller.ask(ROOTS)
    assert caller.questions == []


async def test_closing_the_stream_is_counted() -> None:
    caller = RecordingCaller()
    await caller.close_stream()
    assert caller.streams_closed == 1


def test_announcements_are_a_list_that_can_be_called() -> None:
    announced = Announcements()
    announced(ResourceUpdated("p", "a://b"))
    assert announced == [ResourceUpdated("p", "a://b")]


def test_results_of_clients_are_made_by_hand() -> None:
    assert accepted() == {"action": "accept"}
    assert accepted({"a": 1}) == {"action": "accept", "content": {"a": 1}}
    assert sampled("hi")["content"] == {"type": "text", "text": "hi"}


def test_a_call_is_made_as_the_router_gives_it() -> None:
    call = call_of("tools/call", "add", {"arguments": {"a": 1}}, revision=LATEST_LEGACY)
    assert (call.name, call.target) == ("add", "add")
    assert call.params == {"name": "add", "arguments": {"a": 1}}
    assert call.capabilities is NO_CAPABILITIES
    assert call.revision is LATEST_LEGACY
    read = call_of("resources/read", "a://b", caller=RecordingCaller(), request_id="r1")
    assert read.params == {"uri": "a://b"}
    assert read.capabilities is ALL_CAPABILITIES
    assert read.request_id == "r1"
    assert call_of("completion/complete", "p", {"ref": {}}).params == {"ref": {}}


async def test_a_box_is_called_as_a_provider() -> None:
    box = Toolbox()

    @box.tool
    async def add(a: int, b: int) -> int:
        return a + b

    reply = await call_tool(provider_of(box), "add", {"a": 1, "b": 2})
    assert text_of(reply) == "3"


def test_only_a_reply_has_a_text() -> None:
    two = Reply(
        b'{"content":[{"type":"text","text":"a"},{"type":"image"},{"type":"text","text":"b"}]}'
    )
    assert text_of(two) == "a\nb"
    with pytest.raises(AssertionError, match="expected a reply"):
        text_of(InputRequired({}))
