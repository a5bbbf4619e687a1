"""Requests between workers, in memory: each desk is a worker, and the others' doors are ASGI applications."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.dialogues import Desk, Request, Response, Visitor, accepted, person
from tests.support.scripted import Scripted, content_of, form, text
from tests.support.virtual_time import pass_time, settle, virtual_time
from waygate_mcp.errors import UpstreamProtocolError, UpstreamUnavailableError
from waygate_mcp.gateway.places import Place
from waygate_mcp.model.call import Call, LogEvent, Outcome
from waygate_mcp.model.permissions import Grant, Narrowing
from waygate_mcp.model.principal import principal_of
from waygate_mcp.net.asgi import AsgiTransport
from waygate_mcp.protocol.jsonrpc import encode_json
from waygate_mcp.protocol.seal import KeyRing
from waygate_mcp.web import forward as module
from waygate_mcp.web.forward import PASSPORT, ForwardedVisit, PeerDoor

ASKS = {"name": "ask", "arguments": {}}


class Box(Scripted):
    """Says which worker it is at; asks; waits, and notes when it was cancelled."""

    def __init__(self, slot: int) -> None:
        super().__init__()
        self.cancelled = 0
        self.tool("where", lambda call: text(str(slot)))
        self.tool("ask", self._ask)
        self.tool("ask_and_wait", self._ask_and_wait)
        self.tool("log", self._log)
        self._slot = slot

    async def _ask(self, call: Call) -> Outcome:
        return text(f"{self._slot} {content_of(await call.caller.ask(form()))}")

    async def _ask_and_wait(self, call: Call) -> Outcome:
        await call.caller.ask(form())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return text("waited")

    @staticmethod
    async def _log(call: Call) -> Outcome:
        await call.caller.emit(LogEvent("error", b'"heard"'))
        return text("logged")


class Gone:
    """The way to a worker that is not there, or breaks off."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    @asynccontextmanager
    async def request(self, *_: object) -> AsyncIterator[Any]:
        if self.error is not None:
            raise self.error
        yield None


class Neighbours:
    """Stands for `Peers`: how one worker reaches the others. `told` is what was taken from them."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.ways: dict[int, Any] = {}
        self.busy: set[int] = set()
        self.told: list[bytes] = []

    def way_to(self, slot: int) -> Any:
        return self.ways[slot]

    def is_there(self, slot: int) -> bool:
        return slot in self.busy or not isinstance(self.ways[slot], Gone)

    def take(self, body: bytes) -> bool:
        self.told.append(body)
        return body == b"ours"


class Workers:
    """Some desks that know each other."""

    def __init__(self, desks: list[Desk], boxes: list[Box]) -> None:
        self.desks = desks
        self.boxes = boxes

    def visitor(self, slot: int, **more: Any) -> Visitor:
        """A client whose requests this worker takes."""
        return Visitor(self.desks[slot].door, **more)

    def lose(self, slot: int, error: Exception | None = None) -> None:
        """Let a worker be gone, or do this to whoever asks it."""
        gone = error or UpstreamUnavailableError(f"worker-{slot}", "nobody listens")
        for desk in self.desks:
            desk.peers.ways[slot] = Gone(gone)

    def move(self, client: Visitor, slot: int) -> Visitor:
        """The same client, its next requests taken by another worker."""
        moved = self.visitor(slot)
        moved.session, moved.revision, moved.name = client.session, client.revision, client.name
        return moved


@asynccontextmanager
async def workers(count: int = 3) -> AsyncIterator[Workers]:
    boxes = [Box(slot) for slot in range(count)]
    desks = [Desk(box, place=Place(slot, count)) for slot, box in enumerate(boxes)]
    async with AsyncExitStack() as stack:
        for desk in desks:
            await stack.enter_async_context(desk)
            desk.peers = Neighbours(desk.place)
        for slot, desk in enumerate(desks):
            door = AsgiTransport(desk.peer_door, f"worker-{slot}")
            way = await stack.enter_async_context(door)
            for other in desks:
                if other is not desk:
                    other.peers.ways[slot] = way
        yield Workers(desks, boxes)


def test_a_principal_arrives_with_all_that_restricts_it() -> None:
    ring = KeyRing({1: b"k" * 32}, 1)
    house: Any = SimpleNamespace(live=SimpleNamespace(ring=ring))
    narrowing = Narrowing(("dev",), ("files",), ("files__*",))
    grants = (Grant("tools:list"), Grant("tools:call", "files__read*", "reader"))
    sent = principal_of("key:a", "a", grants, narrowing, roles=("reader",), limits=("1/minute",))
    for principal in (sent, principal_of("key:b", "b", [Grant("*")])):
        visit: Any = SimpleNamespace(
            principal=principal, scope={}, request_id="r", endpoint="dev", door="http", headers={}
        )
        ((_, sealed),) = module._headers_of(house, visit)
        door: Any = SimpleNamespace(_house=house)
        passport = PeerDoor._read(door, sealed.encode())
        assert passport is not None
        arrived = passport.principal.principal()
        assert arrived == principal
        assert arrived.scope == principal.scope
    assert not sent.may_use("tools:call", "dev", "files", "files__write")


# --- modern


@virtual_time
async def test_a_retry_is_sent_to_the_worker_where_the_call_is_parked() -> None:
    async with workers() as all_:
        asked = await all_.visitor(0).modern("tools/call", **ASKS)
        answered = await all_.visitor(2).retry(asked, {"w1": accepted(name="Ada")}, **ASKS).over()
        assert answered.words == "0 {'name': 'Ada'}"
        here, there = all_.desks[2].records[-1], all_.desks[0].records[-1]
        assert (here.outcome, here.door, there.outcome, there.door) == (
            "forwarded",
            "http",
            "ok",
            "worker",
        )
        assert here.request_id == there.request_id
        assert there.client == "127.0.0.1"
        counted = sum(sum(desk.measured("waygate_requests_total").values()) for desk in all_.desks)
        assert counted == 2, "each request once"


@virtual_time
async def test_a_parked_call_of_a_worker_that_is_gone_is_interrupted() -> None:
    async with workers() as all_:
        asked = await all_.visitor(0).modern("tools/call", **ASKS)
        all_.lose(0)
        answered = await all_.visitor(1).retry(asked, {}, **ASKS).over()
        assert answered.error["code"] == -32603
        assert answered.error["data"]["reason"] == "interrupted"


@virtual_time
async def test_a_successor_is_not_mistaken_for_the_worker_that_parked_the_call() -> None:
    async with workers() as all_:
        asked = await all_.visitor(0).modern("tools/call", **ASKS)
        all_.desks[0].restart()
        for slot in (0, 1):
            answered = await all_.visitor(slot).retry(asked, {}, **ASKS).over()
            assert answered.error["data"]["reason"] == "interrupted"


@virtual_time
async def test_a_ticket_of_somebody_else_is_refused_where_it_is_shown() -> None:
    async with workers() as all_:
        asked = await all_.visitor(0, name="alice").modern("tools/call", **ASKS)
        refused = await all_.visitor(1, name="bob").retry(asked, {}, **ASKS).over()
        assert refused.error["code"] == -32602
        assert not any(record.door == "worker" for record in all_.desks[0].records)


@virtual_time
async def test_a_worker_without_room_is_no_dead_one() -> None:
    async with workers() as all_:
        asked = await all_.visitor(0).modern("tools/call", **ASKS)
        all_.lose(0)
        all_.desks[1].peers.busy.add(0)
        answered = await all_.visitor(1).retry(asked, {}, **ASKS).over()
        assert answered.status == 503


@virtual_time
async def test_a_client_that_leaves_is_gone_at_the_other_worker_too() -> None:
    async with workers() as all_:
        asked = await all_.visitor(0).modern("tools/call", name="ask_and_wait", arguments={})
        answers = {"w1": accepted(name="Ada")}
        retry = all_.visitor(1).retry(asked, answers, name="ask_and_wait", arguments={})
        await pass_time(3)
        assert not retry.task.done()
        retry.leave()
        await retry.done()
        await pass_time(3)
        assert all_.boxes[0].cancelled == 1
        assert all_.desks[1].records[-1].status == 499


@virtual_time
async def test_only_what_the_other_worker_needs_goes_along() -> None:
    async with workers() as all_:
        asked = await all_.visitor(0, name="alice").modern("tools/call", **ASKS)
        seen: dict[bytes, bytes] = {}
        door = all_.desks[0].peer_door

        async def watching(scope: Any, receive: Any, send: Any) -> None:
            seen.update(scope.get("headers", ()))
            await door(scope, receive, send)

        async with AsgiTransport(watching, "worker-0") as way:
            all_.desks[1].peers.ways[0] = way
            client = all_.visitor(1, name="alice")
            more = [(b"x-other", b"1"), (b"mcp-param-region", b"caf\xc3\xa9"), (PASSPORT, b"mine")]
            answers = {"w1": accepted(name="Ada")}
            answered = await client.retry(asked, answers, headers=more, **ASKS).over()
        assert answered.words == "0 {'name': 'Ada'}"
        assert not {b"authorization", b"x-api-key", b"x-other", b"mcp-param-region"} & set(seen)
        assert seen[b"mcp-method"] == b"tools/call"
        assert seen[PASSPORT] != b"mine"


# --- legacy


@virtual_time
async def test_a_session_is_served_by_its_worker_whoever_takes_the_request() -> None:
    async with workers() as all_:
        client = all_.visitor(1)
        await client.open()
        for slot in (0, 1, 2):
            answer = await all_.move(client, slot).legacy("tools/call", name="where")
            assert answer.words == "1"
        assert len(all_.desks[0].live.sessions) == 0


@virtual_time
async def test_a_question_and_its_answer_meet_at_the_worker_that_asked() -> None:
    async with workers() as all_:
        client = all_.visitor(0)
        await client.open()
        calling = all_.move(client, 1).say("tools/call", name="ask")
        question = await calling.response.next_event()
        said = await all_.move(client, 2).answer(question, accepted(name="Ada"))
        assert said.status == 202
        assert (await calling.over()).words == "0 {'name': 'Ada'}"


@virtual_time
async def test_an_answer_goes_to_who_asked_even_where_the_session_has_moved() -> None:
    async with workers() as all_:
        client = all_.visitor(0)
        await client.open()
        way = all_.desks[1].peers.ways[0]
        all_.lose(0)
        calling = all_.move(client, 1).say("tools/call", name="ask")
        question = await calling.response.next_event()
        for desk in all_.desks[1:]:
            desk.peers.ways[0] = way  # it is there again, and knows nothing of the question
        for slot in (2, 1):
            said = await all_.move(client, slot).answer(question, accepted(name="Ada"))
            assert said.status == 202
        assert (await calling.over()).words == "1 {'name': 'Ada'}"


@virtual_time
async def test_a_session_of_a_lost_worker_is_served_by_the_same_heir_for_all() -> None:
    async with workers(4) as all_:
        client = all_.visitor(1)
        await client.open()
        all_.lose(1)
        for slot in (3, 0, 2):
            answer = await all_.move(client, slot).legacy("tools/call", name="where")
            assert answer.words == "2"


@virtual_time
async def test_the_sessions_own_stream_and_its_end_travel_as_well() -> None:
    async with workers() as all_:
        client = all_.visitor(0)
        await client.open()
        stream = all_.move(client, 1).listen()
        await stream.response.when(lambda: stream.response.status is not None)
        assert stream.response.is_stream
        await all_.move(client, 2).end()
        assert (await all_.move(client, 1).legacy("ping")).status == 404
        assert (await client.legacy("ping")).status == 404
        stream.leave()
        await stream.done()


@virtual_time
async def test_what_comes_before_the_answer_is_passed_on_as_it_comes() -> None:
    async with workers() as all_:
        client = all_.visitor(0)
        await client.open()
        calling = all_.move(client, 1).say("tools/call", name="log")
        assert (await calling.response.next_event())["params"]["data"] == "heard"
        assert (await calling.over()).words == "logged"


@virtual_time
async def test_an_unknown_session_is_unknown_at_once() -> None:
    async with workers() as all_:
        client = all_.visitor(0)
        await client.open()
        stranger = all_.move(client, 1)
        stranger.name = "bob"
        assert (await stranger.legacy("ping")).status == 404
        assert not any(record.door == "worker" for record in all_.desks[0].records)


def breaks_off(after: bytes) -> Any:
    """The door of a worker that dies in the middle of a stream."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": after, "more_body": True})
        raise ConnectionError("killed")

    return app


@virtual_time
async def test_a_worker_that_dies_in_the_middle_leaves_an_error_and_an_end() -> None:
    async with workers() as all_, AsgiTransport(breaks_off(b"data: {}\n\n"), "worker-0") as way:
        client = all_.visitor(0)
        await client.open()
        all_.desks[1].peers.ways[0] = way
        moved = all_.move(client, 1)
        answer = await moved.legacy("tools/call", id=7, name="where")
        assert answer.events[0] == {}
        assert (answer.final["id"], answer.error["data"]["reason"]) == (7, "interrupted")
        stream = moved.listen()
        assert (await stream.over()).events == [{}]


@virtual_time
async def test_a_worker_that_dies_before_its_answer_leaves_an_error() -> None:
    async with workers() as all_:
        client = all_.visitor(0)
        await client.open()
        all_.lose(0, UpstreamProtocolError("worker-0", "closed the connection without an answer"))
        moved = all_.move(client, 1)
        answer = await moved.legacy("tools/call", id=7, name="where")
        assert (answer.status, answer.final["id"]) == (200, 7)
        assert answer.error["data"]["reason"] == "interrupted"
        assert (await moved.tell("notifications/roots/list_changed")).status == 503


@virtual_time
async def test_a_server_without_room_for_a_task_says_so() -> None:
    async with workers() as all_:
        client = all_.visitor(0)
        await client.open()
        await all_.desks[1].supervisor.close()
        assert (await all_.move(client, 1).legacy("ping")).status == 503


@virtual_time
async def test_a_second_task_that_cannot_start_ends_the_first() -> None:
    async with workers() as all_:
        client = all_.visitor(0)
        await client.open()
        all_.desks[1].supervisor._max_tasks = len(all_.desks[1].supervisor) + 1
        assert (await all_.move(client, 1).legacy("ping")).status == 503
        await settle()


# --- the old transport


@virtual_time
async def test_a_message_for_a_stream_of_the_old_transport_finds_it() -> None:
    async with workers() as all_:
        for desk in all_.desks:
            desk.document.server.__dict__["http_sse"] = True
        stream = request(all_.desks[0].sse_door, "/sse", method="GET")
        await stream.response.when(lambda: bool(stream.response.address))
        hello = {
            "protocolVersion": "2024-11-05",
            "capabilities": {},
            "clientInfo": {"name": "old", "version": "1"},
        }
        message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
        address = stream.response.address
        assert (await post(all_, 1, address, message)).status == 202
        assert (await stream.response.next_event())["id"] == 1
        assert (await post(all_, 2, address[:-1], message)).status == 404
        all_.lose(0)
        assert (await post(all_, 1, address, message)).status == 404
        stream.leave()
        await stream.done()


async def post(all_: Workers, slot: int, path: str, message: Any) -> Response:
    """Post a message of the old transport at one worker."""
    return await request(all_.desks[slot].sse_door, path, encode_json(message)).over()


def request(door: Any, path: str, body: bytes = b"", **more: Any) -> Request:
    """One request to a door."""
    headers = [
        (b"host", b"localhost"),
        (b"content-type", b"application/json"),
        *more.pop("with_", ()),
    ]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers, **more}
    return Request(door, {"client": None, **scope}, [body])


# --- who may come in


@pytest.mark.parametrize("passport", [None, b"", b"AAAA", b"\xff"])
@virtual_time
async def test_nobody_comes_in_without_a_passport(passport: bytes | None) -> None:
    async with workers() as all_:
        with_ = [] if passport is None else [(PASSPORT, passport)]
        key = (b"authorization", b"Bearer alice")
        answer = await request(all_.desks[0].peer_door, "/mcp", b"{}", with_=[*with_, key]).over()
        assert answer.status == 403


@virtual_time
async def test_what_is_sealed_for_something_else_is_no_passport() -> None:
    async with workers() as all_:
        client = all_.visitor(0)
        await client.open()
        assert client.session is not None
        with_ = [(PASSPORT, client.session.encode())]
        answer = await request(all_.desks[0].peer_door, "/mcp", b"{}", with_=with_).over()
        assert answer.status == 403


@virtual_time
async def test_news_are_taken_from_workers_alone() -> None:
    async with workers() as all_:
        door = all_.desks[0].peer_door
        assert (await request(door, "/news", b"ours").over()).status == 202
        assert (await request(door, "/news", b"theirs").over()).status == 403
        large = [(b"content-length", b"99999999")]
        assert (await request(door, "/news", b"", with_=large).over()).status == 413
        all_.desks[0].peers = None
        assert (await request(door, "/news", b"ours").over()).status == 403


@virtual_time
async def test_a_request_is_sent_on_once_at_most() -> None:
    async with workers() as all_:
        scope: Any = {"headers": [], "method": "POST", "path": "/mcp", "client": None}
        visit = ForwardedVisit(all_.desks[1], scope, None, None)  # type: ignore[arg-type]
        assert not await module.forward(all_.desks[1], visit, (0,), b"")  # type: ignore[arg-type]


def test_a_passport_says_all_there_is_to_know_of_a_principal() -> None:
    """A new field of a principal has to travel as well; this test is where that is noticed."""
    assert set(type(person("a")).__dataclass_fields__) == {
        "id",
        "name",
        "permissions",
        "roles",
        "grants",
        "narrowing",
        "limits",
        "scope",  # follows from grants and narrowing
        "fingerprint",
    }
