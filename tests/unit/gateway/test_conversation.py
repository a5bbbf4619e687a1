"""A client on one two-way channel: both eras interleaved, cancelled by notification, ended by its close."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.support.channels import Channel
from tests.support.dialogues import FORM, Desk, accepted, person
from tests.support.scripted import Scripted, content_of, form, text
from tests.support.virtual_time import pass_time, settle, virtual_time
from waygate_mcp.errors import UnauthenticatedError
from waygate_mcp.gateway import conversation as module
from waygate_mcp.gateway.gateway import CallLimits, EndpointPlan
from waygate_mcp.gateway.sessions import Session
from waygate_mcp.model.call import Call, LogEvent, Outcome, Progress, Reply
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import ElicitationCompleted, ListChanged, ResourceUpdated


class Box(Scripted):
    """Tools that greet, ask, wait for `go_on`, and tell how far they are."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.cancelled = 0
        self.tool("greet", lambda call: text("hello"))
        self.tool("ask", self._ask)
        self.tool("wait", self._wait)
        self.tool("count", self._count)
        self.resource("memo://a")
        for method in ("resources/subscribe", "resources/unsubscribe"):
            self.on(method, "*", lambda call: Reply(b"{}"))

    async def _ask(self, call: Call) -> Outcome:
        return text(str(content_of(await call.caller.ask(form()))))

    async def _wait(self, call: Call) -> Outcome:
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return text("waited")

    async def _count(self, call: Call) -> Outcome:
        await call.caller.emit(Progress(1))
        await call.caller.emit(LogEvent("info", b'"half"'))
        await call.caller.close_stream()
        return text("counted")


def words(answer: Any) -> str:
    return str(answer["result"]["content"][0]["text"])


# --- both eras on one channel


@virtual_time
async def test_both_eras_may_be_interleaved() -> None:
    async with Desk(box := Box()) as desk:
        channel = Channel(desk)
        assert (await channel.open())["protocolVersion"] == "2025-11-25"
        old = await channel.legacy("tools/call", name="wait")
        new = await channel.modern("tools/call", name="greet")
        assert "resultType" in (await channel.answer_to(new))["result"]
        box.go_on.set()
        answer = await channel.answer_to(old)
        assert words(answer) == "waited"
        assert "resultType" not in answer["result"]
        await channel.close()


@virtual_time
async def test_what_is_no_message_is_refused_and_the_conversation_goes_on() -> None:
    async with Desk(Box()) as desk:
        channel = Channel(desk)
        await channel.take(b"{")
        await channel.take(b'{"jsonrpc":"2.0","id":7,"method":""}')
        assert [one["error"]["code"] for one in channel.said] == [-32700, -32600]
        assert channel.said[1]["id"] == 7
        await channel.answer_to(await channel.modern("tools/call", name="greet"))
        await channel.close()


@virtual_time
async def test_before_the_handshake_only_ping_is_answered() -> None:
    async with Desk(Box()) as desk:
        channel = Channel(desk)
        assert (await channel.answer_to(await channel.legacy("ping")))["result"] == {}
        refused = await channel.answer_to(await channel.legacy("tools/list"))
        assert refused["error"]["code"] == -32600
        assert "initialize" in refused["error"]["message"]
        await channel.tell("notifications/initialized")
        await channel.take({"jsonrpc": "2.0", "id": "x", "result": {}})
        assert len(channel.said) == 2
        await channel.close()


@virtual_time
async def test_a_second_handshake_replaces_the_session() -> None:
    async with Desk(Box()) as desk:
        channel = Channel(desk)
        await channel.open("2025-11-25")
        waiting = await channel.legacy("tools/call", name="wait")
        assert (await channel.open("2024-11-05"))["protocolVersion"] == "2024-11-05"
        await settle()
        assert len(desk.live.hub) == 1
        assert not [one for one in channel.said if one.get("id") == waiting]
        desk.announce(ListChanged("box", Kind.TOOL))
        await settle()
        assert len(channel.all_of("notifications/tools/list_changed")) == 1
        await channel.close()


@virtual_time
async def test_a_handshake_that_says_nothing_is_refused() -> None:
    async with Desk(Box()) as desk:
        channel = Channel(desk)
        answer = await channel.answer_to(await channel.legacy("initialize"))
        assert answer["error"]["code"] == -32602
        await channel.close()


@virtual_time
async def test_unknown_methods_and_bad_params_are_refused_in_both_eras() -> None:
    async with Desk(Box()) as desk:
        channel = Channel(desk)
        await channel.open()
        for identifier, code in (
            (await channel.legacy("tools/invent"), -32601),
            (await channel.modern("tools/invent"), -32601),
            (await channel.legacy("tools/call"), -32602),
            (await channel.modern("tools/call"), -32602),
            (await channel.legacy("prompts/get", name="none"), -32602),
            (await channel.modern("prompts/get", name="none"), -32602),
            (await channel.modern("tools/call", name="ask", requestState="forged"), -32602),
        ):
            assert (await channel.answer_to(identifier))["error"]["code"] == code
        await channel.close()


@virtual_time
async def test_where_only_the_old_era_is_spoken_the_new_one_is_refused() -> None:
    async with Desk(Box()) as desk:
        channel = Channel(desk, accepts_modern=False)
        refused = await channel.answer_to(await channel.modern("tools/call", name="greet"))
        assert refused["error"]["code"] == -32600
        await channel.tell(
            "notifications/cancelled",
            requestId=1,
            _meta={"io.modelcontextprotocol/protocolVersion": "2026-07-28"},
        )
        assert len(channel.said) == 1
        await channel.close()


# --- batches


@virtual_time
async def test_a_batch_is_served_in_the_one_revision_that_has_them() -> None:
    batch = [
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "greet"}},
        {"jsonrpc": "2.0", "id": 3},
        {"jsonrpc": "2.0", "id": "unasked", "result": {}},
    ]
    async with Desk(Box()) as desk:
        channel = Channel(desk)
        await channel.take(batch)
        assert channel.said[-1]["error"]["code"] == -32600
        await channel.open("2025-11-25")
        await channel.take(batch)
        assert channel.said[-1]["error"]["code"] == -32600
        await channel.open("2025-03-26")
        await channel.take(batch)
        assert (await channel.answer_to(1))["result"] == {}
        assert words(await channel.answer_to(2)) == "hello"
        assert channel.said[-3:] != []
        assert [one["error"]["code"] for one in channel.said if "error" in one] == [-32600] * 3
        await channel.close()


# --- events and questions


@virtual_time
async def test_events_are_written_before_the_answer() -> None:
    async with Desk(Box()) as desk:
        channel = Channel(desk)
        await channel.open()
        for identifier in (
            await channel.legacy("tools/call", name="count", _meta={"progressToken": 0}),
            await channel.modern("tools/call", name="count", token="t", level="info"),
        ):
            await channel.answer_to(identifier)
            kinds = [one.get("method") for one in channel.said[-3:]]
            assert kinds == ["notifications/progress", "notifications/message", None]
        await channel.close()


@virtual_time
async def test_a_legacy_question_is_answered_by_a_response() -> None:
    async with Desk(Box()) as desk:
        channel = Channel(desk)
        await channel.open()
        identifier = await channel.legacy("tools/call", name="ask")
        question = await channel.heard("elicitation/create")
        await channel.take({"jsonrpc": "2.0", "id": question["id"], "result": accepted(n=1)})
        assert words(await channel.answer_to(identifier)) == "{'n': 1}"
        await channel.close()


@virtual_time
async def test_a_modern_question_is_answered_by_a_retry() -> None:
    async with Desk(Box()) as desk:
        channel = Channel(desk)
        asked = await channel.answer_to(await channel.modern("tools/call", name="ask"))
        state = asked["result"]["requestState"]
        retry = {"name": "ask", "requestState": state, "inputResponses": {"w1": accepted(n=1)}}
        assert words(await channel.answer_to(await channel.modern("tools/call", **retry))) == (
            "{'n': 1}"
        )
        again = await channel.answer_to(await channel.modern("tools/call", **retry))
        assert words(again) == "{'n': 1}"
        await channel.close()


@virtual_time
async def test_a_retry_of_an_old_round_is_refused() -> None:
    async with Desk(box := Box()) as desk:

        async def thrice(call: Call) -> Outcome:
            for _ in range(3):
                await call.caller.ask(form())
            return text("done")

        box.tool("thrice", thrice)
        channel = Channel(desk)
        first = await channel.answer_to(await channel.modern("tools/call", name="thrice"))
        states = [first["result"]["requestState"]]
        for key in ("w1", "w2"):
            answer = await channel.answer_to(
                await channel.modern(
                    "tools/call",
                    name="thrice",
                    requestState=states[-1],
                    inputResponses={key: accepted()},
                )
            )
            states.append(answer["result"]["requestState"])
        late = await channel.modern("tools/call", name="thrice", requestState=states[0])
        refused = await channel.answer_to(late)
        assert refused["error"]["message"] == "Invalid or expired requestState"
        assert late not in channel.conversation._modern_calls
        await channel.close()


# --- ids and cancellation


@virtual_time
async def test_a_call_is_cancelled_by_notification_and_gets_no_answer() -> None:
    async with Desk(box := Box()) as desk:
        channel = Channel(desk)
        await channel.open()
        old = await channel.legacy("tools/call", name="wait")
        new = await channel.modern("tools/call", name="wait")
        await settle()
        wrongs: list[Any] = [True, None, {}, [], "nobody", 1.5]
        for wrong in wrongs:
            await channel.tell("notifications/cancelled", requestId=wrong)
        await channel.tell("notifications/other", requestId=old)
        await settle()
        assert box.cancelled == 0
        await channel.tell("notifications/cancelled", requestId=old)
        await channel.tell("notifications/cancelled", requestId=new)
        await settle()
        assert box.cancelled == 2
        assert not [one for one in channel.said if one.get("id") in {old, new}]
        await channel.close()


@virtual_time
async def test_a_cancellation_right_behind_its_request_is_not_lost() -> None:
    async with Desk(box := Box()) as desk:
        channel = Channel(desk)
        new = await channel.modern("tools/call", name="greet")
        await channel.tell("notifications/cancelled", requestId=new)
        await settle()
        assert box.calls == []
        assert channel.said == []
        await channel.close()


@virtual_time
async def test_a_modern_notification_cancels_too() -> None:
    async with Desk(box := Box()) as desk:
        channel = Channel(desk)
        new = await channel.modern("tools/call", name="wait")
        await settle()
        meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
        await channel.tell("notifications/cancelled", requestId=new, _meta=meta)
        await settle()
        assert box.cancelled == 1
        await channel.close()


@virtual_time
async def test_a_retry_is_cancelled_by_its_own_id() -> None:
    async with Desk(box := Box()) as desk:

        async def works(call: Call) -> Outcome:
            await call.caller.ask(form())
            return await box._wait(call)

        box.tool("works", works)
        channel = Channel(desk)
        asked = await channel.answer_to(await channel.modern("tools/call", name="works"))
        retry = await channel.modern(
            "tools/call",
            name="works",
            requestState=asked["result"]["requestState"],
            inputResponses={"w1": accepted()},
        )
        await settle()
        await channel.tell("notifications/cancelled", requestId=retry)
        await settle()
        assert box.cancelled == 1
        assert channel.conversation._modern_calls == {}
        await channel.close()


@virtual_time
async def test_an_id_that_is_in_use_is_refused_and_the_first_call_is_not_hurt() -> None:
    async with Desk(box := Box()) as desk:
        channel = Channel(desk)
        await channel.open()
        for say in (channel.legacy, channel.modern):
            await say("tools/call", id=1, name="wait")
            await say("tools/call", id="1", name="greet")  # another id
            await settle()
            await say("tools/call", id=1, name="greet")
            refused = await channel.answer_to(1)
            assert refused["error"]["code"] == -32600
            assert words(await channel.answer_to("1")) == "hello"
            box.go_on.set()
            await settle()
            assert words(channel.said[-1]) == "waited"
            box.go_on.clear()
            channel.said.clear()
        await channel.close()


@virtual_time
async def test_the_id_of_a_call_that_is_parked_was_answered_and_is_free() -> None:
    async with Desk(Box()) as desk:
        channel = Channel(desk)
        await channel.answer_to(await channel.modern("tools/call", id=1, name="ask"))
        channel.said.clear()
        await channel.modern("tools/call", id=1, name="greet")
        assert words(await channel.answer_to(1)) == "hello"
        await channel.close()


@virtual_time
async def test_the_end_of_a_parked_call_forgets_no_other_call_of_the_same_id() -> None:
    async with Desk(Box()) as desk:
        channel = Channel(desk)
        asked = await channel.answer_to(await channel.modern("tools/call", id=1, name="ask"))
        channel.said.clear()
        await channel.modern("tools/call", id=1, name="wait")
        state = asked["result"]["requestState"]
        answers = {"w1": accepted()}
        await channel.answer_to(
            await channel.modern(
                "tools/call", name="ask", requestState=state, inputResponses=answers
            )
        )
        await settle()
        assert list(channel.conversation._modern_calls) == [1]
        await channel.close()


@virtual_time
async def test_a_call_that_cannot_be_begun_is_told_and_leaves_nothing() -> None:
    async with Desk(Box()) as desk:
        channel = Channel(desk)
        await desk.supervisor.close()
        refused = await channel.answer_to(await channel.modern("tools/call", name="greet"))
        assert refused["error"]["code"] == 4420
        assert channel.conversation._modern_calls == {}
        assert desk.calls.count == 0


@virtual_time
async def test_too_many_calls_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_IN_FLIGHT", 2)
    async with Desk(box := Box()) as desk:
        channel = Channel(desk)
        await channel.open()
        calls = [await channel.modern("tools/call", name="wait") for _ in range(2)]
        for say in (channel.modern, channel.legacy):
            refused = await channel.answer_to(await say("tools/call", name="wait"))
            assert refused["error"]["code"] == 4420
        box.go_on.set()
        for identifier in calls:
            assert words(await channel.answer_to(identifier)) == "waited"
        await channel.close()


@virtual_time
async def test_a_call_over_its_time_is_told() -> None:
    async with Desk(Box(), limits=CallLimits(call_timeout_s=5)) as desk:
        channel = Channel(desk)
        answer = await channel.answer_to(await channel.modern("tools/call", name="wait"))
        assert answer["error"]["code"] == 4408
        await channel.close()


# --- listening


async def listen(channel: Channel, **notifications: Any) -> str | int:
    return await channel.modern("subscriptions/listen", notifications=notifications)


SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


@virtual_time
async def test_a_listener_is_acknowledged_first_and_hears_only_what_it_asked_for() -> None:
    async with Desk(Box()) as desk:
        channel = Channel(desk)
        identifier = await listen(
            channel, toolsListChanged=True, resourceSubscriptions=["memo://a"], other=True
        )
        await settle()
        [ack] = channel.said
        assert ack["method"] == "notifications/subscriptions/acknowledged"
        assert ack["params"]["notifications"] == {
            "toolsListChanged": True,
            "resourceSubscriptions": ["memo://a"],
        }
        desk.announce(ListChanged("box", Kind.PROMPT))
        desk.announce(ListChanged("box", Kind.TOOL))
        desk.announce(ResourceUpdated("box", "memo://a"))
        desk.announce(ResourceUpdated("box", "memo://b"))
        await settle()
        told = channel.said[1:]
        assert [one["method"] for one in told] == [
            "notifications/tools/list_changed",
            "notifications/resources/updated",
        ]
        assert told[1]["params"]["uri"] == "memo://a"
        assert {one["params"]["_meta"][SUBSCRIPTION] for one in channel.said} == {identifier}
        await channel.close()


@virtual_time
async def test_a_cancelled_listener_hears_nothing_more_not_even_what_was_due() -> None:
    async with Desk(Box()) as desk:
        channel = Channel(desk)
        identifier = await listen(channel, toolsListChanged=True)
        await settle()
        desk.announce(ListChanged("box", Kind.TOOL))
        await channel.tell("notifications/cancelled", requestId=identifier)
        await settle()
        assert len(channel.said) == 1
        assert len(desk.live.hub) == 0
        quiet = await listen(channel, toolsListChanged=True)
        await settle()
        await channel.tell("notifications/cancelled", requestId=quiet)
        await settle()
        assert len(channel.said) == 2
        assert len(desk.live.hub) == 0
        at_once = await listen(channel, toolsListChanged=True)
        await channel.tell("notifications/cancelled", requestId=at_once)
        await settle()
        assert len(channel.said) == 2  # nor is it acknowledged then
        again = await channel.modern("subscriptions/listen", id=identifier, notifications={})
        await settle()
        assert again == identifier
        assert len(desk.live.hub) == 1
        await channel.close()
        assert len(desk.live.hub) == 0


@virtual_time
async def test_a_server_that_stops_ends_listeners_gracefully() -> None:
    async with Desk(Box()) as desk:
        channel = Channel(desk)
        identifier = await listen(channel, toolsListChanged=True)
        desk.announce(ListChanged("box", Kind.TOOL))
        desk.live.drain()
        ended = await channel.answer_to(identifier)
        assert ended["result"]["_meta"][SUBSCRIPTION] == identifier
        assert [one.get("method") for one in channel.said] == [
            "notifications/subscriptions/acknowledged",
            "notifications/tools/list_changed",
            "notifications/cancelled",
            None,
        ]
        assert channel.said[2]["params"]["requestId"] == identifier
        assert len(desk.live.hub) == 0
        await channel.close()


@virtual_time
async def test_a_listener_needs_a_filter_a_free_id_and_a_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MAX_LISTENERS", 2)
    async with Desk(Box()) as desk:
        channel = Channel(desk)
        refused = await channel.answer_to(await listen(channel, toolsListChanged="yes"))
        assert refused["error"]["code"] == -32602
        identifier = await listen(channel)
        await channel.modern("subscriptions/listen", id=identifier, notifications={})
        assert (await channel.answer_to(identifier))["error"]["code"] == -32600
        await listen(channel)
        refused = await channel.answer_to(await listen(channel))
        assert refused["error"]["code"] == 4420
        await channel.close()


@virtual_time
async def test_a_legacy_session_hears_of_every_list_and_of_what_it_subscribed_to() -> None:
    async with Desk(Box()) as desk:
        channel = Channel(desk)
        await channel.open()
        await channel.answer_to(await channel.legacy("resources/subscribe", uri="memo://a"))
        desk.announce(ListChanged("box", Kind.TOOL))
        desk.announce(ResourceUpdated("box", "memo://a"))
        desk.announce(ResourceUpdated("box", "memo://b"))
        updated = await channel.heard("notifications/resources/updated")
        assert updated["params"] == {"uri": "memo://a"}
        assert "params" not in await channel.heard("notifications/tools/list_changed")
        assert len(channel.all_of("notifications/resources/updated")) == 1
        await channel.close()


# --- who may, and what is there


@virtual_time
async def test_a_completed_elicitation_is_written_for_the_session_it_names() -> None:
    async with Desk(Box()) as desk:
        channel = Channel(desk)
        await channel.open()
        session = channel.conversation._session
        assert session is not None
        desk.announce(ElicitationCompleted("box", "another", "e-1"))
        desk.announce(ElicitationCompleted("box", session.id, "e-2"))
        told = await channel.heard("notifications/elicitation/complete")
        assert told["params"] == {"elicitationId": "e-2"}
        await channel.close()


@virtual_time
async def test_changed_roots_are_heard_of_a_session_and_not_without_one() -> None:
    async with Desk(Box()) as desk:
        heard: list[Session] = []
        desk.live.sessions.on_roots_changed = heard.append
        channel = Channel(desk)
        changed = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
        await channel.take(changed)
        await channel.open(declared={"roots": {"listChanged": True}})
        await channel.take(changed)
        assert heard == [channel.conversation._session]
        await channel.close()


@virtual_time
async def test_who_may_not_converse_is_refused_in_both_eras() -> None:
    async with Desk(Box()) as desk:
        channel = Channel(desk, principal=person("eve", "tools:list"))
        for identifier in (
            await channel.legacy("initialize", protocolVersion="2025-11-25"),
            await listen(channel),
            await channel.modern("server/discover"),
        ):
            assert (await channel.answer_to(identifier))["error"]["code"] == 4403
        assert "result" in await channel.answer_to(await channel.modern("tools/list"))
        assert len(desk.live.hub) == 0
        await channel.close()


@virtual_time
async def test_an_endpoint_that_a_reload_took_away_is_told_and_the_conversation_goes_on() -> None:
    box = Box()
    plans = [EndpointPlan("default", (box,)), EndpointPlan("second", (box,))]
    async with Desk(plans=plans) as desk:
        channel = Channel(desk, endpoint="second")
        await channel.open()
        desk.put_in_force(plans[:1], CallLimits())
        for identifier in (
            await channel.legacy("tools/list"),
            await channel.modern("tools/list"),
            await listen(channel),
            await channel.legacy("initialize", protocolVersion="2025-11-25"),
        ):
            assert "endpoint" in (await channel.answer_to(identifier))["error"]["message"]
        desk.put_in_force(plans, CallLimits())
        assert "result" in await channel.answer_to(await channel.legacy("tools/list"))
        await channel.close()


@virtual_time
async def test_a_call_keeps_the_generation_it_began_with_open() -> None:
    async with Desk(box := Box()) as desk:
        channel = Channel(desk)
        await channel.open()
        await channel.legacy("tools/call", name="wait")
        assert desk.calls.count == 1  # before its first step
        await channel.modern("tools/call", name="ask")
        await settle()
        assert desk.calls.count == 2
        box.go_on.set()
        await settle()
        assert desk.calls.count == 1  # the parked one
        await channel.close()
        assert desk.calls.count == 0


# --- the end


@virtual_time
async def test_the_end_of_the_channel_ends_everything() -> None:
    async with Desk(box := Box()) as desk:
        channel = Channel(desk)
        await channel.open(declared=FORM)
        await channel.legacy("tools/call", name="wait")
        await channel.legacy("tools/call", name="ask")
        await channel.modern("tools/call", name="wait")
        await channel.answer_to(await channel.modern("tools/call", name="ask"))
        await listen(channel, toolsListChanged=True)
        await settle()
        await channel.close()
        assert box.cancelled == 2
        assert len(desk.live.parking) == 0
        assert len(desk.live.hub) == 0
        assert desk.calls.count == 0
        assert len(desk.supervisor) == 0


@virtual_time
async def test_settling_waits_for_calls_and_not_for_listeners() -> None:
    async with Desk(box := Box()) as desk:
        channel = Channel(desk)
        await listen(channel, toolsListChanged=True)
        await channel.conversation.settle()
        await channel.modern("tools/call", name="wait")
        settling = asyncio.get_running_loop().create_task(channel.conversation.settle())
        await pass_time(10)
        assert not settling.done()
        box.go_on.set()
        await settling
        await channel.close()


@virtual_time
async def test_an_answer_is_one_line_of_json() -> None:
    async with Desk(box := Box()) as desk:
        box.tool("lines", lambda call: Reply(json.dumps({"content": []}).encode()))
        channel = Channel(desk)
        answer = await channel.answer_to(await channel.modern("tools/call", name="lines"))
        assert answer["result"]["content"] == []
        await channel.close()


@virtual_time
async def test_calls_of_both_eras_end_when_their_client_is_dismissed() -> None:
    async with Desk(box := Box()) as desk:
        channel = Channel(desk)
        channel.conversation.dismiss(lambda: UnauthenticatedError(safe_message="gone"))
        await channel.open()
        calls = [
            await channel.legacy("tools/call", name="wait"),
            await channel.modern("tools/call", name="wait"),
        ]
        await settle()
        channel.conversation.dismiss(lambda: UnauthenticatedError(safe_message="gone"))
        for identifier in calls:
            answer = await channel.answer_to(identifier)
            assert answer["error"] == {"code": 4401, "message": "gone"}
        assert box.cancelled == 2
        await channel.close()
