"""The MCP door as dialogues: one URL, both eras, every status, one record for each request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.dialogues import Desk, Visitor, accepted, person
from tests.support.scripted import Scripted, content_of, form, text
from tests.support.virtual_time import pass_time, settle, virtual_time
from waygate_mcp.gateway.gateway import CallLimits, EndpointPlan
from waygate_mcp.gateway.parking import ParkingLimits
from waygate_mcp.gateway.sessions import SessionLimits
from waygate_mcp.model.call import Call, Outcome, Reply
from waygate_mcp.model.catalog import Features, Kind
from waygate_mcp.model.event import ListChanged


class Box(Scripted):
    """Tools that greet, ask, fail, or wait for `go_on`."""

    def __init__(self, name: str = "box") -> None:
        super().__init__(name)
        self.go_on = asyncio.Event()
        self.cancelled = 0
        self.tool("greet", lambda call: text(f"Hello {call.arguments.get('name')}"))
        self.tool("ask", self._ask)
        self.tool("wait", self._wait)
        self.tool("fail", lambda call: text("no", is_error=True))
        self.tool("bug", self._bug)
        self.resource("memo://a")
        for method in ("resources/subscribe", "resources/unsubscribe"):
            self.on(method, "memo://a", lambda call: Reply(b"{}"))

    async def _ask(self, call: Call) -> Outcome:
        return text(str(content_of(await call.caller.ask(form()))))

    async def _wait(self, call: Call) -> Outcome:
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return text("waited")

    @staticmethod
    def _bug(call: Call) -> Outcome:
        raise ZeroDivisionError


def with_limits(**limits: Any) -> dict[str, Any]:
    return {"limits": limits}


PAGE = (b"origin", b"https://app.test")
CORS = {"server": {"cors_origins": ["https://app.test"]}}


# --- both eras on one URL


@virtual_time
async def test_a_modern_call_is_answered_as_json() -> None:
    async with Desk(Box()) as desk:
        answer = await Visitor(desk.door).modern(
            "tools/call", name="greet", arguments={"name": "Bo"}
        )
    assert (answer.status, answer.words) == (200, "Hello Bo")
    assert answer.headers[b"content-type"] == b"application/json"
    assert answer.result["resultType"] == "complete"


@virtual_time
async def test_a_legacy_call_is_answered_as_json() -> None:
    async with Desk(Box()) as desk:
        client = Visitor(desk.door)
        await client.open()
        answer = await client.legacy("tools/call", name="greet", arguments={"name": "Bo"})
    assert (answer.status, answer.words) == (200, "Hello Bo")
    assert "resultType" not in answer.result


@virtual_time
async def test_a_notification_or_response_is_accepted_and_has_no_answer() -> None:
    async with Desk(Box()) as desk:
        client = Visitor(desk.door)
        await client.open()
        body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
        version = [(b"mcp-protocol-version", b"2026-07-28")]
        response = {"jsonrpc": "2.0", "id": "unasked", "result": {}}
        for answer in (
            await client.tell("notifications/roots/list_changed"),
            await client.post(body, version),
            await client.post(response, client.session_headers),
        ):
            assert (answer.status, answer.body) == (202, b"")


@virtual_time
async def test_a_posted_modern_cancellation_cancels_nothing() -> None:
    async with Desk(box := Box()) as desk:
        client = Visitor(desk.door)
        running = client.begin("tools/call", id=1, name="wait")
        await settle()
        body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
        await client.post(body, [(b"mcp-protocol-version", b"2026-07-28")])
        await settle()
        assert box.cancelled == 0
        box.go_on.set()
        assert (await running.over()).words == "waited"


# --- what is refused before anything is done


@virtual_time
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"content-type", b"text/plain")], 415),
        ([(b"content-type", b"application/json; charset=latin-1")], 415),
        ([(b"accept", b"text/html")], 406),
        ([(b"host", b"evil.test")], 421),
        ([(b"origin", b"https://evil.test")], 403),
        ([(b"authorization", b"Bearer stranger")], 401),
        ([(b"content-length", b"x")], 400),
        ([(b"content-length", b"99999999")], 413),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_a_request_is_refused_with_its_status_in_json_rpc(
    headers: list[tuple[bytes, bytes]], status: int
) -> None:
    async with Desk(box := Box()) as desk:
        answer = await Visitor(desk.door).modern("tools/call", name="greet", headers=headers)
        assert answer.status == status
        assert isinstance(answer.error["code"], int)
        assert "id" not in answer.final
        assert box.calls == []
        [record] = desk.records
        assert record.status == status
        assert record.outcome not in {None, "ok"}


@virtual_time
@pytest.mark.parametrize(
    "accept", [b"application/json", b"text/event-stream", b"*/*", b"Application/*", None]
)
async def test_a_client_that_accepts_one_form_is_served_all_the_same(accept: bytes | None) -> None:
    async with Desk(Box()) as desk:
        client = Visitor(desk.door)
        headers = [] if accept is None else [(b"accept", accept)]
        answer = await client.modern("tools/call", name="greet", headers=headers)
        assert answer.status == 200


@virtual_time
async def test_no_accept_at_all_accepts_everything() -> None:
    async with Desk(Box()) as desk:
        body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        answer = await Visitor(desk.door).send(body, without=[b"accept"]).over()
        assert answer.status == 400  # no session: the Accept was not what was wrong


@virtual_time
async def test_a_body_that_is_too_large_is_refused() -> None:
    async with Desk(Box(), max_request_size=100) as desk:
        answer = await Visitor(desk.door).send(b"", parts=[b"x" * 60, b"x" * 60]).over()
        assert (answer.status, answer.error["code"]) == (413, 4413)


@virtual_time
async def test_a_body_that_does_not_come_is_refused_in_time() -> None:
    async with Desk(Box()) as desk:
        answer = await Visitor(desk.door).send(b"", parts=[b"{"], stalls=True).over()
        assert (answer.status, answer.error["code"]) == (408, 4408)


@virtual_time
async def test_other_methods_are_told_which_there_are() -> None:
    async with Desk(Box()) as desk:
        client = Visitor(desk.door)
        for method in ("PUT", "HEAD", "PATCH"):
            answer = await client.send(method=method).over()
            assert answer.status == 405
            assert answer.headers[b"allow"] == b"GET, POST, DELETE, OPTIONS"
        for method in ("GET", "DELETE"):  # without a session there is nothing to open or to end
            answer = await client.send(method=method).over()
            assert answer.status == 405


@virtual_time
async def test_an_unknown_endpoint_is_unknown_and_another_one_is_served() -> None:
    plans = [EndpointPlan("default", (Box(),)), EndpointPlan("second", (Box(),))]
    async with Desk(plans=plans) as desk:
        assert (await Visitor(desk.door, endpoint="none").modern("tools/list")).status == 404
        assert (await Visitor(desk.door, endpoint="second").modern("tools/list")).status == 200


@virtual_time
async def test_a_stranger_learns_nothing_of_endpoints() -> None:
    async with Desk(Box()) as desk:
        answers = [
            await Visitor(desk.door, "stranger", endpoint=name).modern("tools/list")
            for name in ("default", "none")
        ]
        assert [answer.status for answer in answers] == [401, 401]
        assert answers[0].error == answers[1].error
        assert b"www-authenticate" in answers[0].headers


@virtual_time
@pytest.mark.parametrize(
    ("message", "headers", "status", "code"),
    [
        (b"{", [], 400, -32700),
        (b"7", [], 400, -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": "ping"}, [], 400, -32600),
        (
            {"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
            [(b"mcp-protocol-version", b"1999-01-01")],
            400,
            -32022,
        ),
        (
            {"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
            [(b"mcp-protocol-version", b"2026-07-28")],
            400,
            -32602,
        ),
    ],
)
async def test_a_message_that_climbs_no_further_gets_the_refusal_of_its_rung(
    message: Any, headers: list[tuple[bytes, bytes]], status: int, code: int
) -> None:
    async with Desk(Box()) as desk:
        answer = await Visitor(desk.door).post(message, headers)
        assert (answer.status, answer.error["code"]) == (status, code)
        assert desk.records[0].outcome == "refused"


@virtual_time
async def test_errors_of_modern_calls_have_the_status_of_their_kind() -> None:
    async with Desk(Box()) as desk:
        client = Visitor(desk.door, elicitation={"url": {}})
        for method, given, status, code in (
            ("tools/call", {"name": "none"}, 200, -32602),
            ("tools/invent", {}, 404, -32601),
            ("tools/call", {"name": "ask"}, 400, -32021),
            ("tools/call", {"name": "ask", "requestState": "forged"}, 200, -32602),
            ("tools/call", {"name": "greet", "headers": [(b"mcp-name", b"other")]}, 400, -32020),
            ("subscriptions/listen", {"notifications": {"toolsListChanged": 1}}, 200, -32602),
            ("ping", {}, 404, -32601),
        ):
            answer = await client.modern(method, **given)
            assert (answer.status, answer.error["code"]) == (status, code), method
            assert answer.final["id"] is not None


# --- limits


@virtual_time
async def test_too_many_calls_at_once_are_refused_early_and_told_when_to_come_back() -> None:
    async with Desk(box := Box(), document=with_limits(calls_in_flight_max=2)) as desk:
        client = Visitor(desk.door)
        running = [client.begin("tools/call", name="wait") for _ in range(2)]
        await settle()
        refused = await client.modern("tools/call", name="greet")
        assert (refused.status, refused.headers[b"retry-after"]) == (503, b"1")
        assert desk.records[0].outcome == "busy"
        box.go_on.set()
        for one in running:
            assert (await one.over()).words == "waited"
        assert (await client.modern("tools/call", name="greet")).status == 200


@virtual_time
async def test_calls_that_are_parked_and_listeners_keep_nobody_out() -> None:
    async with Desk(Box(), document=with_limits(calls_in_flight_max=2)) as desk:
        client = Visitor(desk.door)
        listening = client.begin("subscriptions/listen", notifications={})
        asked = await client.modern("tools/call", name="ask")
        await client.modern("tools/call", name="ask")
        await settle()
        retry = client.retry(asked, {"w1": accepted(n=1)}, name="ask")
        assert (await retry.over()).words == "{'n': 1}"
        listening.leave()


@virtual_time
async def test_when_every_session_is_in_use_a_new_one_has_to_wait() -> None:
    async with Desk(Box()) as desk:
        desk.live.sessions.limits = SessionLimits(count=1)
        first, second = Visitor(desk.door), Visitor(desk.door)
        await first.open()
        listening = first.listen()
        await settle()
        refused = await second.open()
        assert (refused.status, refused.headers[b"retry-after"]) == (429, b"30")
        assert refused.error["code"] == 4429
        listening.leave()


@virtual_time
async def test_a_session_that_cannot_be_rebuilt_for_lack_of_room_is_not_called_unknown() -> None:
    async with Desk(Box()) as desk:
        lost, busy_one = Visitor(desk.door), Visitor(desk.door)
        await lost.open()
        desk.live.sessions.close()
        desk.live.sessions.limits = SessionLimits(count=1)
        await busy_one.open()
        listening = busy_one.listen()
        await settle()
        for answer in (
            await lost.legacy("ping"),
            await lost.listen().over(),
            await lost.end(),
        ):
            assert (answer.status, answer.headers[b"retry-after"]) == (429, b"30")
        listening.leave()


@virtual_time
async def test_a_server_that_stops_opens_nothing_new_and_finishes_what_is_begun() -> None:
    async with Desk(box := Box()) as desk:
        client = Visitor(desk.door)
        await client.open()
        running = client.say("tools/call", name="wait")
        await settle()
        desk.is_draining = True
        for answer in (
            await client.listen().over(),
            await client.modern("subscriptions/listen", notifications={}),
            await Visitor(desk.door).open(),
        ):
            assert (answer.status, answer.headers[b"retry-after"]) == (503, b"1")
        assert (await client.modern("tools/call", name="greet")).status == 200
        box.go_on.set()
        assert (await running.over()).words == "waited"


# --- who may


@virtual_time
async def test_who_may_not_converse_opens_no_session_and_no_listener() -> None:
    async with Desk(Box()) as desk:
        desk.doorman.known["eve"] = person("eve", "tools:list")
        eve = Visitor(desk.door, "eve")
        for answer in (
            await eve.open(),
            await eve.modern("subscriptions/listen", notifications={}),
            await eve.modern("server/discover"),
            await eve.modern("tools/call", name="greet"),
        ):
            assert answer.error["code"] == 4403
        assert (await eve.modern("tools/list")).status == 200
        assert len(desk.live.sessions) == 0
        assert len(desk.live.hub) == 0


# --- pages of other origins


@virtual_time
async def test_answers_to_an_allowed_page_can_be_read_by_it_refusals_included() -> None:
    async with Desk(Box(), document=CORS) as desk:
        for answer in (
            await Visitor(desk.door).modern("tools/call", name="greet", headers=[PAGE]),
            await Visitor(desk.door, "stranger").modern("tools/list", headers=[PAGE]),
            await Visitor(desk.door).send(b"{", [PAGE]).over(),
            await Visitor(desk.door).send(method="PUT", headers=[PAGE]).over(),
        ):
            assert answer.headers[b"access-control-allow-origin"] == b"https://app.test"
            assert b"mcp-session-id" in answer.headers[b"access-control-expose-headers"].lower()
        foreign = await Visitor(desk.door).modern(
            "tools/list", headers=[(b"origin", b"https://evil.test")]
        )
        assert foreign.status == 403
        assert b"access-control-allow-origin" not in foreign.headers
        plain = await Visitor(desk.door).modern("tools/list")
        assert b"access-control-allow-origin" not in plain.headers


@virtual_time
async def test_a_preflight_needs_no_key_and_says_each_thing_once() -> None:
    async with Desk(Box(), document=CORS) as desk:
        sent: list[Any] = []

        async def receive() -> Any:
            raise AssertionError("a preflight has no body")

        async def send(message: Any) -> None:
            sent.append(message)

        asks = (b"access-control-request-headers", b"mcp-session-id")
        headers = [(b"host", b"localhost"), PAGE, asks]
        scope = {"type": "http", "method": "OPTIONS", "path": "/mcp", "headers": headers}
        await desk.door(scope, receive, send, "default")
        names = [name for name, _ in sent[0]["headers"]]
        assert sent[0]["status"] == 204
        assert len(names) == len(set(names))
        assert dict(sent[0]["headers"])[b"access-control-allow-origin"] == b"https://app.test"
        other = await Visitor(desk.door).send(method="OPTIONS").over()
        assert other.status == 403


# --- records and numbers


@virtual_time
async def test_every_answer_names_its_request() -> None:
    async with Desk(Box()) as desk:
        client = Visitor(desk.door)
        await client.open()
        ours = [(b"x-request-id", b"mine-1")]
        named = await client.modern("tools/call", name="greet", headers=ours)
        assert named.headers[b"x-request-id"] == b"mine-1"
        stream = client.listen()
        await settle()
        answers = [
            named,
            await client.send(b"{").over(),
            await client.send(method="PUT").over(),
            await Visitor(desk.door, "stranger").modern("tools/list"),
            stream.response,
            await client.end(),
        ]
        ids = [answer.headers[b"x-request-id"] for answer in answers]
        assert all(ids)
        assert len(set(ids)) == len(ids)


@virtual_time
async def test_a_request_is_recorded_once_with_who_what_and_how() -> None:
    async with Desk(Box()) as desk:
        alice = Visitor(desk.door, "alice")
        for name in ("greet", "fail", "none", "ask"):
            await alice.modern("tools/call", name=name)
        seen = [(one.rpc_method, one.name, one.outcome, one.principal) for one in desk.records]
        assert seen == [
            ("tools/call", "greet", "ok", "key:alice"),
            ("tools/call", "fail", "tool_error", "key:alice"),
            ("tools/call", "none", "refused", "key:alice"),
            ("tools/call", "ask", "input_required", "key:alice"),
        ]
        [first, *_] = desk.records
        assert (first.door, first.method, first.path, first.status) == ("http", "POST", "/mcp", 200)
        assert (first.endpoint, first.client) == ("default", "127.0.0.1")
        assert first.duration_ms >= 0
        await alice.modern("tools/call", name="greet", requestState="forged")
        await Visitor(desk.door, "stranger").modern("tools/list")
        assert [one.outcome for one in desk.records[4:]] == ["invalid_state", "unauthenticated"]
        assert desk.records[-1].principal is None


@virtual_time
async def test_calls_and_requests_are_counted_once() -> None:
    async with Desk(Box()) as desk:
        client = Visitor(desk.door)
        await client.open()
        await client.modern("tools/call", name="greet")
        asked = await client.modern("tools/call", name="ask")
        await client.retry(asked, {"w1": accepted()}, name="ask").over()
        await client.legacy("tools/call", name="fail")
        outcomes = [one.outcome for one in desk.records]
        assert outcomes == ["ok", None, "ok", "input_required", "ok", "tool_error"]
        text_ = desk.metrics.render()[0].decode()
        counted = [
            line
            for line in text_.splitlines()
            if "_count{" in line and 'method="tools/call"' in line
        ]
        assert sum(float(line.rpartition(" ")[2]) for line in counted) == 3


@virtual_time
async def test_a_bug_costs_nobody_their_answer() -> None:
    async with Desk(Box()) as desk:
        client = Visitor(desk.door)
        told = await client.modern("tools/call", name="bug")
        assert (told.status, told.error["message"]) == (200, "Internal error")
        assert told.error["data"]["requestId"] == told.headers[b"x-request-id"].decode()
        desk.gateway.endpoints["default"].handler_for = None  # type: ignore[method-assign,assignment]
        told = await client.modern("tools/call", name="greet")
        assert (told.status, told.error["code"]) == (500, -32603)
        assert told.error["data"]["requestId"] == told.headers[b"x-request-id"].decode()
        assert desk.records[-1].outcome == "failed"


@virtual_time
async def test_a_door_of_a_house_that_is_not_open_answers_all_the_same() -> None:
    async with Desk(Box()) as desk:
        desk.current = lambda: 1 / 0  # type: ignore[method-assign]
        answer = await Visitor(desk.door).modern("tools/list")
        assert (answer.status, answer.error["message"]) == (500, "Internal error")


@virtual_time
async def test_what_the_endpoint_does_not_offer_is_unknown_in_both_eras() -> None:
    async with Desk(Scripted(features=Features(tools=True))) as desk:
        client = Visitor(desk.door)
        await client.open()
        told = await client.legacy("prompts/list")
        assert (told.status, told.error["code"]) == (200, -32601)
        told = await client.modern("prompts/list")
        assert (told.status, told.error["code"]) == (404, -32601)
        assert [one.outcome for one in desk.records[-2:]] == ["unknown_method"] * 2


@virtual_time
async def test_a_request_cancelled_from_outside_is_recorded_too() -> None:
    async with Desk(Box()) as desk:
        running = Visitor(desk.door).begin("tools/call", name="wait")
        await settle()
        running.task.cancel()
        await settle()
        [record] = desk.records
        assert record.status == 499
        assert desk.calls.count == 0


@virtual_time
async def test_a_call_keeps_its_generation_and_an_open_stream_does_not() -> None:
    async with Desk(box := Box()) as desk:
        client = Visitor(desk.door)
        await client.open()
        streams = [client.listen(), client.begin("subscriptions/listen", notifications={})]
        await settle()
        assert desk.calls.count == 0
        running = client.begin("tools/call", name="wait")
        await settle()
        assert desk.calls.count == 1
        box.go_on.set()
        await running.done()
        for stream in streams:
            stream.leave()
        await settle()
        assert desk.calls.count == 0


# --- silence, slowness, departure


@virtual_time
async def test_a_modern_client_that_leaves_has_cancelled() -> None:
    async with Desk(box := Box()) as desk:
        client = Visitor(desk.door)
        running = client.begin("tools/call", name="wait")
        await pass_time(1)
        running.leave()
        await settle()
        assert box.cancelled == 1
        await running.done()
        [record] = desk.records
        assert (record.status, record.outcome) == (499, "cancelled")


@virtual_time
async def test_a_client_that_leaves_its_retry_has_cancelled_the_call() -> None:
    async with Desk(box := Box()) as desk:

        async def works(call: Call) -> Outcome:
            await call.caller.ask(form())
            return await box._wait(call)

        box.tool("works", works)
        client = Visitor(desk.door)
        asked = await client.modern("tools/call", name="works")
        retry = client.retry(asked, {"w1": accepted()}, name="works")
        await pass_time(1)
        retry.leave()
        await settle()
        assert box.cancelled == 1
        await retry.done()
        gone = await client.retry(asked, {"w1": accepted()}, name="works").over()
        assert gone.error["data"] == {"reason": "interrupted"}


@virtual_time
async def test_a_client_that_leaves_a_retry_that_was_replaced_cancels_nothing() -> None:
    async with Desk(box := Box()) as desk:

        async def works(call: Call) -> Outcome:
            await call.caller.ask(form())
            return await box._wait(call)

        box.tool("works", works)
        client = Visitor(desk.door)
        asked = await client.modern("tools/call", name="works")
        older = client.retry(asked, {"w1": accepted()}, name="works")
        await pass_time(1)
        newer = client.retry(asked, {"w1": accepted()}, name="works")
        assert (await older.over()).error["data"] == {"reason": "interrupted"}
        older.leave()
        await pass_time(1)
        assert box.cancelled == 0
        box.go_on.set()
        assert (await newer.over()).words == "waited"


@virtual_time
async def test_a_client_that_leaves_a_repeated_retry_leaves_the_call_parked() -> None:
    async with Desk(box := Box()) as desk:

        async def twice(call: Call) -> Outcome:
            await call.caller.ask(form())
            return await box._ask(call)

        box.tool("twice", twice)
        client = Visitor(desk.door)
        first = await client.modern("tools/call", name="twice")
        second = await client.retry(first, {"w1": accepted()}, name="twice").over()
        repeated = client.retry(first, {"w1": accepted()}, name="twice")
        repeated.may_send.clear()  # the reply is on its way again, and nobody reads it
        await pass_time(1)
        repeated.leave()
        await settle()
        repeated.may_send.set()
        await repeated.done()
        assert len(desk.live.parking) == 1
        last = await client.retry(second, {"w2": accepted(n=2)}, name="twice").over()
        assert last.words == "{'n': 2}"


@virtual_time
async def test_a_legacy_client_that_leaves_has_not_cancelled() -> None:
    async with Desk(box := Box()) as desk:
        client = Visitor(desk.door)
        await client.open()
        running = client.say("tools/call", name="wait")
        await pass_time(1)
        running.leave()
        await settle()
        assert box.cancelled == 0
        box.go_on.set()
        await running.done()
        assert desk.records[-1].status == 499


@virtual_time
async def test_a_call_over_its_time_is_ended() -> None:
    async with Desk(Box(), limits=CallLimits(call_timeout_s=60)) as desk:
        answer = await Visitor(desk.door).modern("tools/call", name="wait")
        assert answer.error["code"] == 4408
        assert desk.records[0].outcome == "timeout"


@virtual_time
async def test_a_call_is_limited_in_time_even_if_nobody_can_watch_it() -> None:
    async with Desk(Box(), limits=CallLimits(call_timeout_s=5)) as desk:
        await desk.supervisor.close()
        answer = await Visitor(desk.door).modern("tools/call", name="wait")
        assert answer.error["code"] == 4408


# --- questions over HTTP


@virtual_time
async def test_a_parked_call_is_answered_by_another_request_and_only_by_its_owner() -> None:
    async with Desk(Box()) as desk:
        alice, bob = Visitor(desk.door, "alice"), Visitor(desk.door, "bob")
        asked = await alice.modern("tools/call", name="ask", arguments={"a": 1, "b": 2})
        assert asked.result["resultType"] == "input_required"
        given: dict[str, Any] = {"name": "ask", "arguments": {"b": 2, "a": 1}}
        stolen = await bob.retry(asked, {"w1": accepted(who="bob")}, **given).over()
        assert (stolen.status, stolen.error["code"]) == (200, -32602)
        assert stolen.error["message"] == "Invalid or expired requestState"
        answer = await alice.retry(asked, {"w1": accepted(who="alice")}, **given).over()
        assert answer.words == "{'who': 'alice'}"
        again = await alice.retry(asked, {"w1": accepted(who="eve")}, **given).over()
        assert again.words == "{'who': 'alice'}"


@virtual_time
async def test_a_retry_of_an_old_round_is_refused_and_recorded_so() -> None:
    async with Desk(box := Box()) as desk:

        async def thrice(call: Call) -> Outcome:
            for _ in range(3):
                await call.caller.ask(form())
            return text("done")

        box.tool("thrice", thrice)
        client = Visitor(desk.door)
        first = await client.modern("tools/call", name="thrice")
        second = await client.retry(first, {"w1": accepted()}, name="thrice").over()
        await client.retry(second, {"w2": accepted()}, name="thrice").over()
        late = await client.retry(first, {"w1": accepted()}, name="thrice").over()
        assert late.error["message"] == "Invalid or expired requestState"
        assert desk.records[-1].outcome == "invalid_state"


@virtual_time
async def test_parked_calls_of_one_principal_are_limited_and_others_are_not_hurt() -> None:
    limits = CallLimits(parking=ParkingLimits(per_principal=1))
    async with Desk(Box(), limits=limits) as desk:
        alice, bob = Visitor(desk.door, "alice"), Visitor(desk.door, "bob")
        await alice.modern("tools/call", name="ask")
        assert (await alice.modern("tools/call", name="ask")).error["code"] == 4420
        assert (await bob.modern("tools/call", name="ask")).result["inputRequests"]


# --- listening


@virtual_time
async def test_listeners_of_one_principal_are_limited_and_leave_their_place() -> None:
    async with Desk(Box(), document=with_limits(listen_streams_per_principal=1)) as desk:
        alice, bob = Visitor(desk.door, "alice"), Visitor(desk.door, "bob")
        first = alice.begin("subscriptions/listen", notifications={})
        await settle()
        refused = await alice.modern("subscriptions/listen", notifications={})
        assert (refused.status, refused.headers[b"retry-after"]) == (503, b"1")
        other = bob.begin("subscriptions/listen", notifications={})
        await settle()
        assert other.response.status == 200
        first.leave()
        other.leave()
        await settle()
        assert len(desk.live.hub) == 0
        assert not desk.live.listen_streams
        again = alice.begin("subscriptions/listen", notifications={})
        await settle()
        assert again.response.status == 200
        again.leave()


@virtual_time
async def test_one_listener_that_leaves_frees_its_own_place_only() -> None:
    async with Desk(Box()) as desk:
        alice = Visitor(desk.door, "alice")
        first, second = (alice.begin("subscriptions/listen", notifications={}) for _ in range(2))
        await settle()
        first.leave()
        await settle()
        assert desk.live.listen_streams == {"key:alice": 1}
        second.leave()
        await settle()
        assert desk.live.listen_streams == {}


@virtual_time
async def test_what_a_listener_may_not_see_is_not_confirmed() -> None:
    async with Desk(box := Box()) as desk:
        desk.doorman.known["eve"] = person("eve", "session:open", "prompts:list")
        wanted = {"toolsListChanged": True, "promptsListChanged": True}
        listening = Visitor(desk.door, "eve").begin("subscriptions/listen", notifications=wanted)
        ack = await listening.response.next_event()
        assert ack["params"]["notifications"] == {"promptsListChanged": True}
        desk.announce(ListChanged(box.name, Kind.TOOL))
        desk.announce(ListChanged(box.name, Kind.PROMPT))
        told = await listening.response.next_event()
        assert told["method"] == "notifications/prompts/list_changed"
        listening.leave()
