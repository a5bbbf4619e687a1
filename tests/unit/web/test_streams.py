"""Long-lived responses: a session's own stream, one that is come back to, a modern listener."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.dialogues import Desk, Request, Visitor
from tests.support.scripted import Scripted, text
from tests.support.virtual_time import now, pass_time, settle, virtual_time
from waygate_mcp.gateway.gateway import EndpointPlan
from waygate_mcp.gateway.stream_buffer import StreamLimits
from waygate_mcp.model.call import Call, LogEvent, Outcome, Progress, Reply
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import ListChanged, ResourceUpdated
from waygate_mcp.web.streams import hold_open

TOOLS = "notifications/tools/list_changed"
PROMPTS = "notifications/prompts/list_changed"
UPDATED = "notifications/resources/updated"
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


class Box(Scripted):
    """A tool that counts up to `arguments.to`, one number for each `step`."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: asyncio.Queue[None] = asyncio.Queue()
        self.tool("count", self._count)
        self.resource("memo://a")
        for method in ("resources/subscribe", "resources/unsubscribe"):
            self.on(method, "memo://a", lambda call: Reply(b"{}"))

    async def _count(self, call: Call) -> Outcome:
        for number in range(1, call.arguments["to"] + 1):
            await call.caller.emit(Progress(number))
            await self.steps.get()
        return text("counted")

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            self.steps.put_nowait(None)


def methods(request: Request) -> list[Any]:
    return [event.get("method") for event in request.response.events]


def progress(events: list[Any]) -> list[Any]:
    return [event["params"]["progress"] for event in events if "method" in event]


async def opened(desk: Desk, name: str | None = None, revision: str = "2025-11-25") -> Visitor:
    client = Visitor(desk.door, name)
    await client.open(revision)
    return client


# --- a session's own stream


@virtual_time
async def test_a_session_hears_of_lists_and_of_what_it_subscribed_to_on_its_own_stream() -> None:
    async with Desk(Box()) as desk:
        client = await opened(desk)
        stream = client.listen()
        await settle()
        assert stream.response.status == 200
        assert (await client.legacy("resources/subscribe", uri="memo://a")).result == {}
        desk.announce(ListChanged("box", Kind.TOOL))
        desk.announce(ResourceUpdated("box", "memo://a"))
        desk.announce(ResourceUpdated("box", "memo://b"))
        await settle()
        assert methods(stream) == [TOOLS, UPDATED]
        assert stream.response.events[1]["params"] == {"uri": "memo://a"}
        assert "params" not in stream.response.events[0]
        await client.legacy("resources/unsubscribe", uri="memo://a")
        desk.announce(ResourceUpdated("box", "memo://a"))
        await settle()
        assert methods(stream) == [TOOLS, UPDATED]
        stream.leave()


@virtual_time
async def test_what_belongs_to_a_call_never_comes_on_the_sessions_own_stream() -> None:
    async with Desk(box := Box()) as desk:
        client = await opened(desk)
        stream = client.listen()
        await settle()
        box.step(2)
        answer = await client.legacy("tools/call", name="count", token=1, arguments={"to": 2})
        desk.announce(ListChanged("box", Kind.TOOL))
        await settle()
        assert methods(stream) == [TOOLS]
        assert TOOLS not in [event.get("method") for event in answer.events]
        stream.leave()


@virtual_time
async def test_only_revisions_that_understand_it_get_the_priming_event() -> None:
    async with Desk(Box()) as desk:
        for revision, primes in (("2025-11-25", 1), ("2025-06-18", 0), ("2025-03-26", 0)):
            client = await opened(desk, revision=revision)
            stream = client.listen()
            await settle()
            assert len(stream.response.primed) == primes
            assert bool(stream.response.body) is bool(primes)
            stream.leave()
            await settle()


@virtual_time
async def test_a_newer_stream_takes_over_and_each_message_comes_on_one_only() -> None:
    async with Desk(Box()) as desk:
        client = await opened(desk)
        older = client.listen()
        await settle()
        desk.announce(ListChanged("box", Kind.TOOL))
        await settle()
        newer = client.listen()
        await older.over()
        desk.announce(ListChanged("box", Kind.PROMPT))
        await settle()
        assert methods(older) == [TOOLS]
        assert methods(newer) == [PROMPTS]
        await older.done()
        newer.leave()
        await settle()
        assert len(desk.supervisor) == 0


@virtual_time
async def test_a_change_between_two_streams_is_not_lost_and_comes_once() -> None:
    async with Desk(Box()) as desk:
        client = await opened(desk)
        older = client.listen()
        await settle()
        newer = client.listen()
        desk.announce(ListChanged("box", Kind.TOOL))
        await settle()
        assert methods(older) + methods(newer) == [TOOLS]
        newer.leave()
        await settle()
        desk.announce(ListChanged("box", Kind.PROMPT))
        last = client.listen()
        await settle()
        assert methods(last) == [PROMPTS]
        last.leave()


@virtual_time
async def test_a_client_that_comes_back_gets_what_it_missed_and_nothing_twice() -> None:
    async with Desk(Box()) as desk:
        client = await opened(desk)
        stream = client.listen()
        await settle()
        for kind in (Kind.TOOL, Kind.PROMPT):
            desk.announce(ListChanged("box", kind))
            await settle()
        ids = stream.response.ids
        stream.leave()
        await settle()
        desk.announce(ListChanged("box", Kind.RESOURCE))
        back = client.listen(ids[0])
        await settle()
        assert methods(back) == [PROMPTS, "notifications/resources/list_changed"]
        assert back.response.ids[0] == ids[1]
        assert back.response.primed == []
        back.leave()
        await settle()
        fresh = client.listen()
        await settle()
        assert methods(fresh) == []
        fresh.leave()
        await settle()
        again = client.listen(fresh.response.primed[0])
        await settle()
        assert methods(again) == []  # the place it was told is behind all of that
        again.leave()


@virtual_time
async def test_a_silent_stream_is_kept_alive() -> None:
    async with Desk(Box()) as desk:
        client = await opened(desk)
        stream = client.listen()
        await pass_time(31)
        assert stream.response.comments == 2
        stream.leave()


@virtual_time
async def test_the_end_of_a_session_or_of_the_server_ends_its_stream() -> None:
    async with Desk(Box()) as desk:
        first, second = await opened(desk), await opened(desk)
        streams = [first.listen(), second.listen()]
        await settle()
        assert (await first.end()).status == 204
        await streams[0].over()
        desk.live.drain()
        await streams[1].over()
        for stream in streams:
            await stream.done()
        assert [record.status for record in desk.records if record.method == "GET"] == [200, 200]


@virtual_time
async def test_a_stream_needs_a_session_that_is_known_and_a_client_that_reads_events() -> None:
    async with Desk(Box()) as desk:
        client = await opened(desk, "alice")
        assert (await client.send(method="GET").over()).status == 405
        only_json = [(b"accept", b"application/json")]
        refused = await client.send(
            method="GET", headers=[*client.session_headers, *only_json]
        ).over()
        assert refused.status == 406
        thief = Visitor(desk.door, "bob")
        thief.session, thief.revision = client.session, client.revision
        assert (await thief.listen().over()).status == 404
        any_form = client.send(method="GET", headers=[*client.session_headers, (b"accept", b"*/*")])
        await settle()
        assert any_form.response.status == 200
        any_form.leave()


# --- sessions on the wire


@virtual_time
async def test_a_session_ends_once_and_is_unknown_from_then_on() -> None:
    async with Desk(Box()) as desk:
        client = await opened(desk)
        assert (await client.end()).status == 204
        for answer in (
            await client.legacy("ping"),
            await client.tell("notifications/initialized"),
            await client.listen().over(),
            await client.end(),
        ):
            assert (answer.status, answer.error["code"]) == (404, -32600)
        assert desk.records[-1].outcome == "unknown_session"


@virtual_time
async def test_a_session_of_somebody_else_or_of_another_endpoint_is_unknown() -> None:
    box = Box()
    plans = [EndpointPlan("default", (box,)), EndpointPlan("second", (box,))]
    async with Desk(plans=plans) as desk:
        client = await opened(desk, "alice")
        thief = Visitor(desk.door, "bob")
        elsewhere = Visitor(desk.door, "alice", endpoint="second")
        for other in (thief, elsewhere):
            other.session, other.revision = client.session, client.revision
            unknown = await other.legacy("ping")
            assert (unknown.status, unknown.error["message"][:17]) == (404, "Session not found")
            assert (await other.end()).status == 404
        assert (await client.legacy("ping")).result == {}


@virtual_time
async def test_a_session_survives_the_process_that_opened_it() -> None:
    async with Desk(Box()) as desk:
        client = await opened(desk)
        await client.legacy("logging/setLevel", level="error")
        stream = client.listen()
        await settle()
        desk.announce(ListChanged("box", Kind.TOOL))
        await settle()
        desk.live.close()
        await stream.done()
        desk.restart()
        assert (await client.legacy("ping")).result == {}
        back = client.listen(stream.response.ids[-1])
        await settle()
        desk.announce(ListChanged("box", Kind.PROMPT))
        await settle()
        assert methods(back) == [PROMPTS]
        back.leave()


@virtual_time
@pytest.mark.parametrize(
    ("stated", "status"),
    [
        (b"2025-11-25", 200),
        (b"2025-06-18", 400),
        (b"2024-11-05", 400),
        (None, 200),
    ],
)
async def test_the_version_a_request_states_must_be_its_sessions(
    stated: bytes | None, status: int
) -> None:
    async with Desk(Box()) as desk:
        client = await opened(desk)
        headers = [pair for pair in client.session_headers if pair[0] == b"mcp-session-id"]
        if stated is not None:
            headers.append((b"mcp-protocol-version", stated))
        answer = await client.post({"jsonrpc": "2.0", "id": 1, "method": "ping"}, headers)
        assert answer.status == status
        ended = await client.send(method="DELETE", headers=headers).over()
        assert ended.status == (204 if status == 200 else 400)


@virtual_time
async def test_a_version_nobody_knows_is_refused_where_only_headers_are_read() -> None:
    async with Desk(Box()) as desk:
        client = await opened(desk)
        client.revision = "1999-01-01"
        refused = await client.listen().over()
        assert (refused.status, refused.error["message"]) == (
            400,
            "MCP-Protocol-Version: unknown revision",
        )
        client.revision = "2025-06-18"
        refused = await client.listen().over()
        assert "another revision" in refused.error["message"]


@virtual_time
async def test_a_handshake_is_answered_in_the_revision_that_was_agreed() -> None:
    async with Desk(Box()) as desk:
        for asked, agreed in (
            ("2024-11-05", "2024-11-05"),
            ("2025-03-26", "2025-03-26"),
            ("1999-01-01", "2025-11-25"),
        ):
            opened_ = await Visitor(desk.door).open(asked)
            assert opened_.result["protocolVersion"] == agreed
        refused = await Visitor(desk.door).post(
            {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
        )
        assert (refused.status, refused.error["code"]) == (400, -32602)


# --- a call's stream that is come back to


@virtual_time
async def test_a_lost_stream_is_resumed_where_it_was_lost() -> None:
    async with Desk(box := Box()) as desk:
        client = await opened(desk)
        running = client.say("tools/call", name="count", token=1, arguments={"to": 5})
        await pass_time(1)
        box.step()
        await settle()
        assert progress(running.response.events) == [1, 2]
        running.leave()
        await settle()
        box.step()
        await settle()
        back = client.listen(running.response.ids[0])
        await settle()
        assert progress(back.response.events) == [2, 3]
        box.step(3)
        answer = await back.over()
        assert progress(answer.events) == [2, 3, 4, 5]
        assert answer.words == "counted"
        await back.done()


@virtual_time
async def test_events_that_come_while_the_missed_ones_are_written_keep_their_order() -> None:
    async with Desk(box := Box()) as desk:
        client = await opened(desk)
        running = client.say("tools/call", name="count", token=1, arguments={"to": 6})
        await pass_time(1)
        running.leave()
        await settle()
        box.step(2)
        await settle()
        back = client.listen(f"{running.response.ids[0].rpartition('-')[0]}-0")  # type: ignore[union-attr]
        back.slowness = 7
        await back.response.when(lambda: len(back.response.events) == 1)
        box.step(4)
        assert progress((await back.over()).events) == [1, 2, 3, 4, 5, 6]


@virtual_time
@pytest.mark.parametrize("delay", range(12))
async def test_no_event_is_lost_or_doubled_however_it_meets_the_client_that_comes_back(
    delay: int,
) -> None:
    async with Desk(box := Box()) as desk:
        client = await opened(desk)
        running = client.say("tools/call", name="count", token=1, arguments={"to": 40})
        await pass_time(1)
        running.leave()
        await settle()
        back = client.listen(running.response.ids[0])
        await settle(delay)
        for _ in range(40):
            box.step()
            await asyncio.sleep(0)
        assert progress((await back.over()).events) == list(range(2, 41))


@virtual_time
@pytest.mark.parametrize("delay", range(12))
async def test_no_change_is_lost_or_doubled_however_it_meets_the_client_that_comes_back(
    delay: int,
) -> None:
    async with Desk(Box()) as desk:
        client = await opened(desk)
        first = client.listen()
        await settle()
        desk.announce(ListChanged("box", Kind.TOOL))
        await settle()
        second = client.listen(first.response.ids[0])
        await settle(delay)
        desk.announce(ListChanged("box", Kind.PROMPT))
        await settle()
        assert methods(second) == [PROMPTS]  # it said that it had seen the first only
        third = client.listen(first.response.ids[0])
        await settle()
        assert methods(third) == [PROMPTS]
        third.leave()


@virtual_time
async def test_a_resumed_stream_takes_over_from_a_connection_nobody_reads() -> None:
    async with Desk(box := Box()) as desk:
        client = await opened(desk)
        dead = client.say("tools/call", name="count", token=1, arguments={"to": 3})
        await pass_time(1)
        back = client.listen(dead.response.ids[0])
        await settle()
        box.step(3)
        assert progress((await back.over()).events) == [2, 3]
        ended = await dead.over()
        assert progress(ended.events) == [1]


@virtual_time
async def test_a_resumed_stream_that_is_lost_again_can_be_resumed_again() -> None:
    async with Desk(box := Box()) as desk:
        client = await opened(desk)
        running = client.say("tools/call", name="count", token=1, arguments={"to": 3})
        await pass_time(1)
        running.leave()
        await settle()
        second = client.listen(running.response.ids[0])
        await settle()
        second.leave()
        await settle()
        box.step(3)
        await settle()
        third = await client.listen(running.response.ids[0]).over()
        assert progress(third.events) == [2, 3]
        assert third.words == "counted"


@virtual_time
async def test_a_stream_that_is_over_gives_its_end_to_who_comes_back_for_it() -> None:
    async with Desk(box := Box()) as desk:
        client = await opened(desk)
        box.step(1)
        answer = await client.legacy("tools/call", name="count", token=1, arguments={"to": 1})
        again = await client.listen(answer.ids[0]).over()
        assert again.words == "counted"
        nothing = await client.listen(answer.ids[-1]).over()
        assert nothing.events == []


@virtual_time
async def test_a_resumed_stream_is_kept_alive() -> None:
    async with Desk(box := Box()) as desk:
        client = await opened(desk)
        running = client.say("tools/call", name="count", token=1, arguments={"to": 1})
        await pass_time(1)
        running.leave()
        await settle()
        back = client.listen(running.response.ids[0])
        await pass_time(31)
        assert back.response.comments == 2
        box.step()
        assert (await back.over()).words == "counted"


@virtual_time
async def test_only_so_many_events_are_kept_and_so_long() -> None:
    async with Desk(box := Box()) as desk:
        desk.live.sessions.stream_limits = StreamLimits(events=2, age_s=60)
        client = await opened(desk)
        box.step(5)
        answer = await client.legacy("tools/call", name="count", token=1, arguments={"to": 5})
        gone = await client.listen(answer.ids[0]).over()
        assert (gone.status, gone.error["message"]) == (400, "Those events are gone")
        assert len((await client.listen(answer.ids[-2]).over()).events) == 1
        await pass_time(61)
        box.step(1)
        await client.legacy("tools/call", name="count", token=1, arguments={"to": 1})
        gone = await client.listen(answer.ids[-2]).over()
        assert gone.status == 400


@virtual_time
async def test_a_forgotten_stream_of_a_call_does_not_take_over_the_sessions_own() -> None:
    async with Desk(Box()) as desk:
        client = await opened(desk)
        own = client.listen()
        await settle()
        refused = await client.listen("cAAAA-3").over()
        assert refused.status == 400
        assert not own.response.is_over
        desk.announce(ListChanged("box", Kind.TOOL))
        await settle()
        assert methods(own) == [TOOLS]
        own.leave()


@virtual_time
async def test_an_event_id_that_is_no_place_of_ours_opens_a_fresh_stream() -> None:
    async with Desk(Box()) as desk:
        client = await opened(desk)
        stream = client.listen("theirs-7")
        await settle()
        assert stream.response.status == 200
        assert len(stream.response.primed) == 1
        stream.leave()


# --- a modern listener


@virtual_time
async def test_a_listener_is_acknowledged_first_tagged_and_filtered() -> None:
    async with Desk(Box()) as desk:
        client = Visitor(desk.door)
        wanted = {
            "toolsListChanged": True,
            "promptsListChanged": False,
            "resourceSubscriptions": ["memo://a"],
        }
        listening = client.begin("subscriptions/listen", id="L", notifications=wanted)
        ack = await listening.response.next_event()
        assert ack["method"] == "notifications/subscriptions/acknowledged"
        assert ack["params"]["notifications"] == {
            "toolsListChanged": True,
            "resourceSubscriptions": ["memo://a"],
        }
        for _ in range(3):
            desk.announce(ListChanged("box", Kind.TOOL))
        desk.announce(ListChanged("box", Kind.PROMPT))
        desk.announce(ResourceUpdated("box", "memo://a"))
        desk.announce(ResourceUpdated("box", "memo://b"))
        await settle()
        assert methods(listening)[1:] == [TOOLS, UPDATED]
        tags = [event["params"]["_meta"][SUBSCRIPTION] for event in listening.response.events]
        assert tags == ["L"] * 3
        assert listening.response.ids == [None] * 3
        listening.leave()
        await listening.done()
        assert len(desk.live.hub) == 0


@virtual_time
async def test_a_listener_keeps_the_type_of_its_id() -> None:
    async with Desk(Box()) as desk:
        for identifier in (7, "7"):
            listening = Visitor(desk.door).begin(
                "subscriptions/listen", id=identifier, notifications={}
            )
            ack = await listening.response.next_event()
            tag = ack["params"]["_meta"][SUBSCRIPTION]
            assert (tag, type(tag)) == (identifier, type(identifier))
            listening.leave()
            await settle()


@virtual_time
async def test_a_listener_hears_nothing_of_calls_and_no_log() -> None:
    async with Desk(box := Box()) as desk:

        async def talks(call: Call) -> Outcome:
            await call.caller.emit(LogEvent("error", b'"x"'))
            await call.caller.emit(Progress(1))
            return text("done")

        box.tool("talks", talks)
        client = Visitor(desk.door)
        listening = client.begin(
            "subscriptions/listen", level="debug", token=1, notifications={"toolsListChanged": True}
        )
        await client.modern("tools/call", name="talks", level="debug", token=1)
        assert methods(listening) == ["notifications/subscriptions/acknowledged"]
        listening.leave()


@virtual_time
async def test_a_server_that_stops_ends_a_listener_with_its_result() -> None:
    async with Desk(Box()) as desk:
        listening = Visitor(desk.door).begin(
            "subscriptions/listen", id=3, notifications={"toolsListChanged": True}
        )
        await settle()
        desk.announce(ListChanged("box", Kind.TOOL))
        desk.live.drain()
        answer = await listening.over()
        assert methods(listening) == ["notifications/subscriptions/acknowledged", TOOLS, None]
        assert answer.result["resultType"] == "complete"
        assert answer.result["_meta"][SUBSCRIPTION] == 3
        await listening.done()
        assert desk.records[-1].status == 200


@virtual_time
async def test_a_silent_listener_is_kept_alive() -> None:
    async with Desk(Box()) as desk:
        listening = Visitor(desk.door).begin("subscriptions/listen", notifications={})
        await pass_time(46)
        assert listening.response.comments == 3
        listening.leave()


# --- what holds a stream open


class Page:
    """As much of a visit as holding it open takes."""

    def __init__(self) -> None:
        self.story: list[str] = []
        self.gone = asyncio.Event()

    async def until_over(self) -> None:
        await self.gone.wait()

    async def end(self) -> None:
        self.story.append("ended")
        self.gone.set()

    def abandon(self) -> None:
        self.story.append("recorded")


@virtual_time
async def test_a_stream_whose_pump_fails_is_ended_and_not_left_hanging() -> None:
    async def fails() -> None:
        raise ZeroDivisionError

    async with Desk() as desk:
        page: Any = Page()
        await hold_open(page, fails(), desk.supervisor)
        assert page.story == ["ended", "recorded"]


@virtual_time
async def test_a_client_that_leaves_stops_the_pump() -> None:
    async def for_ever() -> None:
        await asyncio.sleep(100)
        raise AssertionError("it was not stopped")

    async with Desk() as desk:
        page: Any = Page()
        asyncio.get_running_loop().call_later(5, page.gone.set)
        started = now()
        await hold_open(page, for_ever(), desk.supervisor)
        assert now() - started == pytest.approx(5)
        assert page.story[0] == "recorded"
        await pass_time(200)
