"""Where a call's messages go: JSON if the answer comes first, a stream from the first event on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.dialogues import Desk, Visitor, accepted
from tests.support.scripted import Scripted, content_of, form, text
from tests.support.virtual_time import pass_time, settle, virtual_time
from waygate_mcp.errors import UnknownMethodError
from waygate_mcp.model.call import Call, LogEvent, Outcome, Progress
from waygate_mcp.model.principal import ANONYMOUS

LARGE = "x" * 600_000


class Box(Scripted):
    """Tools that tell how far they are, before, while and after they wait for `go_on`."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.tool("greet", lambda call: text("hello"))
        self.tool("large", lambda call: text(LARGE))
        self.tool("count", self._count)
        self.tool("wait", self._wait)
        self.tool("ask", self._ask)
        self.tool("late", self._late)
        self.tool("poll", self._poll)

    async def _wait(self, call: Call) -> Outcome:
        await self.go_on.wait()
        return text("waited")

    @staticmethod
    async def _count(call: Call) -> Outcome:
        await call.caller.emit(Progress(1, 2))
        await call.caller.emit(LogEvent("info", b'"half"'))
        return text(str(call.arguments.get("say", "counted")))

    @staticmethod
    async def _ask(call: Call) -> Outcome:
        return text(str(content_of(await call.caller.ask(form()))))

    @staticmethod
    async def _late(call: Call) -> Outcome:
        await call.caller.emit(Progress(1))
        raise UnknownMethodError("gone")

    async def _poll(self, call: Call) -> Outcome:
        await call.caller.emit(Progress(1))
        await call.caller.close_stream()
        await self.go_on.wait()
        await call.caller.emit(Progress(2))
        await call.caller.close_stream()
        await call.caller.emit(Progress(3))
        return text("polled")


def methods(response: Any) -> list[str | None]:
    return [event.get("method") for event in response.events]


# --- modern


@virtual_time
async def test_the_first_event_turns_a_modern_response_into_a_stream() -> None:
    async with Desk(Box()) as desk:
        client = Visitor(desk.door)
        answer = await client.modern("tools/call", name="count", token="t", level="info")
        assert answer.status == 200
        assert answer.headers[b"content-type"].startswith(b"text/event-stream")
        assert answer.headers[b"cache-control"] == b"no-store"
        assert methods(answer) == ["notifications/progress", "notifications/message", None]
        assert answer.words == "counted"
        assert (answer.ids, answer.primed) == ([None] * 3, [])


@virtual_time
async def test_events_nobody_asked_for_leave_the_answer_json() -> None:
    async with Desk(Box()) as desk:
        answer = await Visitor(desk.door).modern("tools/call", name="count")
        assert not answer.is_stream


@virtual_time
async def test_an_error_before_any_event_has_its_own_status_and_after_one_has_200() -> None:
    async with Desk(Box()) as desk:
        client = Visitor(desk.door)
        before = await client.modern("tools/call", name="late")
        assert (before.status, before.is_stream, before.error["code"]) == (404, False, -32601)
        after = await client.modern("tools/call", name="late", token=1)
        assert (after.status, after.is_stream, after.error["code"]) == (200, True, -32601)


@virtual_time
async def test_a_silence_is_broken_by_comments_until_the_answer_comes() -> None:
    async with Desk(box := Box()) as desk:
        running = Visitor(desk.door).begin("tools/call", name="wait")
        await pass_time(14)
        assert running.response.status is None
        await pass_time(2)
        assert running.response.is_stream
        assert running.response.comments == 1
        await pass_time(31)
        assert running.response.comments == 3
        box.go_on.set()
        answer = await running.over()
        assert answer.words == "waited"
        await running.done()


@virtual_time
async def test_a_large_answer_is_never_a_stream_of_its_own_accord() -> None:
    async with Desk(Box()) as desk:
        client = Visitor(desk.door)
        assert not (await client.modern("tools/call", name="large")).is_stream
        await client.open()
        reads_events = [(b"accept", b"text/event-stream, application/json")]
        small = await client.send(
            {"jsonrpc": "2.0", "id": "s", "method": "tools/call", "params": {"name": "greet"}},
            [*client.session_headers, *reads_events],
        ).over()
        assert small.is_stream
        large = await client.send(
            {"jsonrpc": "2.0", "id": "l", "method": "tools/call", "params": {"name": "large"}},
            [*client.session_headers, *reads_events],
        ).over()
        assert not large.is_stream
        assert large.words == LARGE


@virtual_time
async def test_a_large_answer_after_an_event_is_sent_all_the_same() -> None:
    async with Desk(Box()) as desk:
        answer = await Visitor(desk.door).modern(
            "tools/call", name="count", token="t", arguments={"say": LARGE}
        )
        assert answer.is_stream
        assert answer.words == LARGE


@virtual_time
async def test_a_modern_stream_is_not_ended_in_the_middle_of_a_call() -> None:
    async with Desk(box := Box()) as desk:
        running = Visitor(desk.door).begin("tools/call", name="poll", token="t")
        await pass_time(1)
        assert not running.response.is_over
        box.go_on.set()
        answer = await running.over()
        assert [e["params"]["progress"] for e in answer.events[:-1]] == [1, 2, 3]


@virtual_time
async def test_a_question_that_comes_after_an_event_ends_the_stream_with_what_is_asked() -> None:
    async with Desk(box := Box()) as desk:

        async def works(call: Call) -> Outcome:
            await call.caller.emit(Progress(1))
            return await box._ask(call)

        box.tool("works", works)
        client = Visitor(desk.door)
        asked = await client.modern("tools/call", name="works", token="a")
        assert asked.is_stream
        assert asked.result["resultType"] == "input_required"
        answer = await client.retry(asked, {"w1": accepted(n=1)}, name="works", token="b").over()
        assert not answer.is_stream
        assert answer.words == "{'n': 1}"


@virtual_time
async def test_a_slow_client_holds_up_its_own_call_only() -> None:
    async with Desk(Box()) as desk:
        client = Visitor(desk.door)
        slow = client.begin("tools/call", name="count", token="t")
        slow.may_send.clear()
        await settle()
        assert (await client.modern("tools/call", name="greet")).words == "hello"
        slow.may_send.set()
        assert (await slow.over()).words == "counted"


@virtual_time
async def test_a_retry_is_answered_even_if_who_asked_was_cancelled_while_the_client_read() -> None:
    async with Desk(box := Box()) as desk:

        async def impatient(call: Call) -> Outcome:
            await call.caller.ask(form())
            try:
                async with asyncio.timeout(1):
                    await call.caller.ask(form())
            except TimeoutError:
                return text("gave up")
            raise AssertionError

        box.tool("impatient", impatient)
        client = Visitor(desk.door)
        asked = await client.modern("tools/call", name="impatient")
        retry = client.retry(asked, {"w1": accepted()}, name="impatient")
        retry.may_send.clear()  # the second question is on its way, and nobody reads
        await pass_time(2)
        assert retry.task.done()
        assert len(desk.live.parking) == 0


# --- legacy


@virtual_time
async def test_a_legacy_stream_can_be_come_back_to_and_says_so_where_clients_understand() -> None:
    async with Desk(Box()) as desk:
        for revision, primes in (("2025-11-25", 1), ("2025-06-18", 0), ("2024-11-05", 0)):
            client = Visitor(desk.door)
            await client.open(revision)
            answer = await client.legacy("tools/call", name="count", token=1)
            assert answer.is_stream
            assert len(answer.primed) == primes
            assert (b"retry: 500" in answer.body) is bool(primes)
            stream_id = str(answer.ids[0]).rpartition("-")[0]
            assert answer.ids == [f"{stream_id}-{number}" for number in (1, 2, 3)]
            assert answer.primed == [f"{stream_id}-0"] * primes
            assert answer.words == "counted"


@virtual_time
async def test_errors_of_legacy_calls_are_answers() -> None:
    async with Desk(Box()) as desk:
        client = Visitor(desk.door)
        await client.open()
        for method, given, code in (
            ("tools/call", {"name": "none"}, -32602),
            ("tools/call", {"name": "late"}, -32601),
            ("tools/call", {}, -32602),
            ("server/discover", {}, -32601),
            ("prompts/get", {"name": "none"}, -32602),
        ):
            answer = await client.legacy(method, **given)
            assert (answer.status, answer.error["code"]) == (200, code)


@virtual_time
async def test_a_question_is_asked_on_the_calls_stream_and_answered_by_a_post() -> None:
    async with Desk(Box()) as desk:
        alice, bob = Visitor(desk.door, "alice"), Visitor(desk.door, "bob")
        await alice.open()
        await bob.open()
        running = alice.say("tools/call", name="ask")
        question = await running.response.next_event()
        assert question["method"] == "elicitation/create"
        stolen = await bob.answer(question, accepted(who="bob"))
        assert (stolen.status, stolen.body) == (202, b"")
        answered = await alice.answer(question, accepted(who="alice"))
        assert (answered.status, answered.body) == (202, b"")
        assert (await running.over()).words == "{'who': 'alice'}"


@virtual_time
async def test_a_legacy_silence_is_broken_by_comments() -> None:
    async with Desk(box := Box()) as desk:
        client = Visitor(desk.door)
        await client.open()
        running = client.say("tools/call", name="wait")
        await pass_time(31)
        assert running.response.comments == 2
        assert len(running.response.primed) == 1
        box.go_on.set()
        assert (await running.over()).words == "waited"


@virtual_time
async def test_a_cancelled_legacy_call_just_ends() -> None:
    async with Desk(Box()) as desk:
        client = Visitor(desk.door)
        await client.open()
        quiet = client.say("tools/call", id=1, name="wait")
        loud = client.say("tools/call", id=2, name="ask")
        await loud.response.next_event()
        for identifier in (1, 2):
            await client.tell("notifications/cancelled", requestId=identifier)
        ended = await quiet.over()
        assert (ended.status, ended.body, ended.is_stream) == (200, b"", True)
        assert methods(await loud.over()) == ["elicitation/create"]
        outcomes = [record.outcome for record in desk.records if record.name]
        assert outcomes == ["cancelled", "cancelled"]


@virtual_time
async def test_the_end_of_a_session_ends_its_calls() -> None:
    async with Desk(Box()) as desk:
        client = Visitor(desk.door)
        await client.open()
        running = client.say("tools/call", name="wait")
        await settle()
        assert (await client.end()).status == 204
        assert (await running.over()).body == b""


@virtual_time
async def test_an_id_in_use_is_refused_and_free_again_afterwards() -> None:
    async with Desk(box := Box()) as desk:
        client = Visitor(desk.door)
        await client.open()
        running = client.say("tools/call", id=1, name="wait")
        await settle()
        refused = await client.legacy("tools/call", id=1, name="greet")
        assert (refused.status, refused.error["code"]) == (400, -32600)
        assert (await client.legacy("tools/call", id="1", name="greet")).words == "hello"
        box.go_on.set()
        assert (await running.over()).words == "waited"
        assert (await client.legacy("tools/call", id=1, name="greet")).words == "hello"


# --- a stream that is ended, left and come back to


@virtual_time
async def test_a_provider_may_end_the_stream_and_the_client_comes_back_for_the_rest() -> None:
    async with Desk(box := Box()) as desk:
        client = Visitor(desk.door)
        await client.open()
        first = await client.say("tools/call", name="poll", token=1).over()
        assert [e["params"]["progress"] for e in first.events] == [1]
        second = client.listen(first.ids[-1])
        await settle()
        box.go_on.set()
        ended = await second.over()  # the provider ends this one too
        assert [e["params"]["progress"] for e in ended.events] == [2]
        third = await client.listen(ended.ids[-1]).over()
        assert third.events[0]["params"]["progress"] == 3
        assert third.words == "polled"
        assert (third.primed, ended.primed) == ([], [])


@virtual_time
async def test_a_stream_is_not_ended_for_clients_that_cannot_come_back() -> None:
    async with Desk(box := Box()) as desk:
        client = Visitor(desk.door)
        await client.open("2025-06-18")
        running = client.say("tools/call", name="poll", token=1)
        await pass_time(1)
        assert not running.response.is_over
        box.go_on.set()
        answer = await running.over()
        assert [e["params"]["progress"] for e in answer.events[:-1]] == [1, 2, 3]


@virtual_time
async def test_a_stream_may_be_ended_before_its_first_event() -> None:
    async with Desk(box := Box()) as desk:

        async def closes(call: Call) -> Outcome:
            await call.caller.close_stream()
            return text("done")

        box.tool("closes", closes)
        client = Visitor(desk.door)
        await client.open()
        first = await client.legacy("tools/call", name="closes")
        assert (first.events, len(first.primed)) == ([], 1)
        second = await client.listen(first.primed[0]).over()
        assert second.words == "done"


@virtual_time
async def test_what_happens_while_the_client_is_away_waits_for_it() -> None:
    async with Desk(Box()) as desk:
        client = Visitor(desk.door)
        await client.open()
        running = client.say("tools/call", name="ask")
        question = await running.response.next_event()
        await pass_time(1)
        running.leave()
        await settle()
        await client.answer(question, accepted(n=1))
        await running.done()
        back = await client.listen(running.response.ids[0]).over()
        assert back.words == "{'n': 1}"


@virtual_time
async def test_a_client_that_left_before_any_event_gets_nothing_written() -> None:
    async with Desk(box := Box()) as desk:
        client = Visitor(desk.door)
        await client.open()

        async def counts_later(call: Call) -> Outcome:
            await box.go_on.wait()
            await call.caller.emit(Progress(1))
            return text("done")

        box.tool("later", counts_later)
        running = client.say("tools/call", name="later", token=1)
        await pass_time(1)
        running.leave()
        await settle()
        box.go_on.set()
        await running.done()
        assert running.response.status is None
        assert client.session is not None
        session = desk.live.sessions.find(client.session, "default", ANONYMOUS)
        assert session is not None
        assert [stream.is_attached for stream in session._streams.values()] == [False]
        assert desk.records[-1].status == 499


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_a_call_that_ends_leaves_no_watch_behind(era: str) -> None:
    @virtual_time
    async def dialogue() -> None:
        async with Desk(box := Box()) as desk:
            client = Visitor(desk.door)
            await client.open()
            say = client.begin if era == "modern" else client.say
            running = say("tools/call", name="wait")
            await pass_time(1)
            assert len(desk.supervisor) == 1
            box.go_on.set()
            await running.done()
            await settle()
            assert len(desk.supervisor) == 0

    dialogue()
