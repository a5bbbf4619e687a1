"""The HTTP+SSE door of 2024-11-05: one stream down, POSTs up, off unless switched on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from tests.support.dialogues import CAPABILITIES, VERSION, Desk, Request, accepted, person
from tests.support.scripted import Scripted, content_of, form, sampling, text
from tests.support.virtual_time import pass_time, settle, virtual_time
from waygate_mcp.model.call import Call, Outcome, Progress
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import ListChanged
from waygate_mcp.web import sse as module

ON: dict[str, Any] = {"server": {"http_sse": True, "cors_origins": ["https://app.test"]}}
PAGE = (b"origin", b"https://app.test")


class Box(Scripted):
    """Tools that greet, count, ask, or wait for `go_on`."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.cancelled = 0
        self.tool("greet", lambda call: text("hello"))
        self.tool("count", self._count)
        self.tool("ask", self._ask)
        self.tool("wait", self._wait)

    @staticmethod
    async def _count(call: Call) -> Outcome:
        await call.caller.emit(Progress(1))
        return text("counted")

    @staticmethod
    async def _ask(call: Call) -> Outcome:
        return text(str(content_of(await call.caller.ask(form()))))

    async def _wait(self, call: Call) -> Outcome:
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return text("waited")


class Client:
    """A client of the old transport."""

    def __init__(self, desk: Desk, name: str | None = None) -> None:
        self.desk = desk
        self.name = name
        self.stream: Request = None  # type: ignore[assignment]  # set by open
        self.address = ""

    def send(
        self,
        path: str,
        method: str = "POST",
        body: Any = b"",
        headers: Iterable[tuple[bytes, bytes]] = (),
        parts: Any = (),
    ) -> Request:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        usual = {b"host": b"localhost", b"content-type": b"application/json"}
        if self.name is not None:
            usual[b"authorization"] = f"Bearer {self.name}".encode()
        usual.update(headers)
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": list(usual.items()),
            "client": ("127.0.0.1", 1),
        }
        return Request(self.desk.sse_door, scope, parts or [raw])

    async def open(self) -> str:
        """Open the stream and give the address to post to."""
        self.stream = self.send("/sse", "GET")
        await settle()
        first, _, _ = self.stream.response.body.partition(b"\n\n")
        assert first.startswith(b"event: endpoint\ndata: /messages/")
        self.address = self.stream.response.address
        return self.address

    async def say(self, method: str, identifier: Any = None, **params: Any) -> int | None:
        """Post a message and give the status."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
        if identifier is not None:
            message["id"] = identifier
        return (await self.send(self.address, body=message).done()).status

    async def handshake(self) -> None:
        await self.say(
            "initialize",
            0,
            protocolVersion="2024-11-05",
            capabilities={"sampling": {}},
            clientInfo={"name": "old", "version": "1"},
        )
        await self.say("notifications/initialized")

    @property
    def events(self) -> list[Any]:
        """The messages on the stream."""
        return self.stream.response.events

    def answer_to(self, identifier: Any) -> Any:
        return next(one for one in self.events if one.get("id") == identifier)


# --- the switch and the paths


@virtual_time
async def test_the_door_is_closed_unless_it_is_switched_on() -> None:
    async with Desk(Box()) as desk:
        for path, method in (("/sse", "GET"), ("/messages/abc", "POST")):
            answer = await Client(desk).send(path, method).over()
            assert answer.status == 404
            assert b"server.http_sse" in answer.body


@virtual_time
async def test_a_stranger_does_not_learn_whether_it_is() -> None:
    for document in (ON, {}):
        async with Desk(Box(), document=document) as desk:
            answer = await Client(desk, "stranger").send("/sse", "GET").over()
            assert (answer.status, b"www-authenticate" in answer.headers) == (401, True)
            assert answer.headers[b"x-request-id"]


@virtual_time
async def test_other_methods_are_refused() -> None:
    async with Desk(Box(), document=ON) as desk:
        for path, method in (("/sse", "POST"), ("/sse", "DELETE"), ("/messages/x", "GET")):
            assert (await Client(desk).send(path, method).over()).status == 405


@virtual_time
async def test_pages_of_allowed_origins_may_use_it() -> None:
    async with Desk(Box(), document=ON) as desk:
        preflight = await Client(desk).send("/sse", "OPTIONS", headers=[PAGE]).over()
        assert preflight.status == 204
        assert preflight.headers[b"access-control-allow-origin"] == b"https://app.test"
        assert (await Client(desk).send("/sse", "OPTIONS").over()).status == 403
        stranger = await Client(desk, "stranger").send("/sse", "GET", headers=[PAGE]).over()
        assert stranger.headers[b"access-control-allow-origin"] == b"https://app.test"
        evil = [(b"origin", b"https://evil.test")]
        assert (await Client(desk).send("/sse", "GET", headers=evil).over()).status == 403


# --- a conversation


@virtual_time
async def test_the_stream_names_an_address_and_carries_every_answer() -> None:
    async with Desk(Box(), document=ON) as desk:
        client = Client(desk)
        address = await client.open()
        assert address.startswith("/messages/")
        assert len(address) > 40
        await client.handshake()
        assert client.answer_to(0)["result"]["protocolVersion"] == "2024-11-05"
        assert await client.say("tools/call", 1, name="greet") == 202
        await settle()
        assert client.answer_to(1)["result"]["content"][0]["text"] == "hello"
        await client.say("tools/call", 2, name="count", _meta={"progressToken": "t"})
        await settle()
        assert client.events[-2]["method"] == "notifications/progress"
        assert client.stream.response.headers[b"content-type"].startswith(b"text/event-stream")
        client.stream.leave()


@virtual_time
async def test_who_is_dismissed_reads_why_before_the_stream_ends() -> None:
    async with Desk(box := Box(), document=ON) as desk:
        never = asyncio.Event()

        async def hangs(call: Call) -> Outcome:
            await never.wait()
            return text("never")

        box.tool("hang", hangs)
        client = Client(desk, "alice")
        await client.open()
        await client.handshake()
        await client.say("tools/call", 7, name="hang")
        await settle()
        for principal in (person("somebody-else"), person("alice")):
            for end_calls in desk.on_dismiss:
                end_calls(principal)
            desk.live.dismiss(principal)
            await settle()
            assert client.stream.task.done() == (principal.id == person("alice").id)
        assert client.answer_to(7)["error"]["code"] == 4401


@virtual_time
async def test_questions_are_asked_and_changes_told_on_the_stream() -> None:
    async with Desk(box := Box(), document=ON) as desk:

        async def samples(call: Call) -> Outcome:
            return text(str(content_of(await call.caller.ask(sampling()))))

        box.tool("sample", samples)
        client = Client(desk)
        await client.open()
        await client.handshake()
        await client.say("tools/call", 1, name="sample")
        await settle()
        question = client.events[-1]
        assert question["method"] == "sampling/createMessage"
        body = {"jsonrpc": "2.0", "id": question["id"], "result": accepted(n=1)}
        assert (await client.send(client.address, body=body).done()).status == 202
        await settle()
        assert client.answer_to(1)["result"]["content"][0]["text"] == "{'n': 1}"
        desk.announce(ListChanged("box", Kind.TOOL))
        await settle()
        assert client.events[-1]["method"] == "notifications/tools/list_changed"
        client.stream.leave()


@virtual_time
async def test_a_call_is_cancelled_by_notification() -> None:
    async with Desk(box := Box(), document=ON) as desk:
        client = Client(desk)
        await client.open()
        await client.handshake()
        await client.say("tools/call", 1, name="wait")
        await settle()
        await client.say("notifications/cancelled", requestId=1)
        await settle()
        assert box.cancelled == 1
        client.stream.leave()


@virtual_time
async def test_the_new_era_is_not_spoken_here() -> None:
    async with Desk(Box(), document=ON) as desk:
        client = Client(desk)
        await client.open()
        meta = {VERSION: "2026-07-28", CAPABILITIES: {}}
        assert await client.say("tools/call", 1, name="greet", _meta=meta) == 202
        await settle()
        assert client.answer_to(1)["error"]["code"] == -32600
        client.stream.leave()


# --- whose channel it is, and what is posted


@virtual_time
async def test_a_channel_is_known_to_its_owner_only() -> None:
    async with Desk(Box(), document=ON) as desk:
        alice, bob = Client(desk, "alice"), Client(desk, "bob")
        await alice.open()
        await alice.handshake()
        bob.address = alice.address
        assert await bob.say("tools/call", 1, name="greet") == 404
        nobody = Client(desk, "alice")
        nobody.address = "/messages/nothing"
        unknown = await nobody.send("/messages/nothing").over()
        foreign = await bob.send(alice.address).over()
        assert unknown.body == foreign.body
        assert len(alice.events) == 1
        alice.stream.leave()


@virtual_time
async def test_what_is_posted_is_limited_and_has_to_be_json() -> None:
    async with Desk(Box(), document=ON, max_request_size=100) as desk:
        client = Client(desk)
        await client.open()
        large = await client.send(client.address, parts=[b"x" * 60, b"x" * 60]).over()
        assert large.status == 413
        plain = [(b"content-type", b"text/plain")]
        assert (await client.send(client.address, headers=plain).over()).status == 415
        assert await client.say("ping", 1) == 202
        client.stream.leave()


@virtual_time
async def test_a_message_that_is_none_is_accepted_and_answered_on_the_stream() -> None:
    async with Desk(Box(), document=ON) as desk:
        client = Client(desk)
        await client.open()
        assert (await client.send(client.address, body=b"{").done()).status == 202
        await settle()
        assert client.events[0]["error"]["code"] == -32700
        client.stream.leave()


# --- the end


@virtual_time
async def test_the_stream_is_the_session() -> None:
    async with Desk(box := Box(), document=ON) as desk:
        client = Client(desk)
        await client.open()
        await client.handshake()
        await client.say("tools/call", 1, name="wait")
        await settle()
        client.stream.leave()
        await client.stream.done()
        assert box.cancelled == 1
        assert await client.say("ping", 2) == 404
        assert (len(desk.live.hub), len(desk.supervisor), desk.calls.count) == (0, 0, 0)
        opened = [record for record in desk.records if record.method == "GET"]
        assert [(one.status, one.door) for one in opened] == [(200, "sse")]


@virtual_time
async def test_a_silent_stream_is_kept_alive() -> None:
    async with Desk(Box(), document=ON) as desk:
        client = Client(desk)
        await client.open()
        await pass_time(31)
        assert client.stream.response.comments == 2
        client.stream.leave()


@virtual_time
async def test_a_server_that_stops_lets_calls_finish_and_ends_the_stream() -> None:
    async with Desk(box := Box(), document=ON) as desk:
        client = Client(desk)
        await client.open()
        await client.handshake()
        await client.say("tools/call", 1, name="wait")
        await settle()
        desk.is_draining = True
        desk.live.drain()
        await pass_time(1)
        assert not client.stream.response.is_over
        refused = await Client(desk).send("/sse", "GET").over()
        assert refused.status == 503
        box.go_on.set()
        await client.stream.over()
        assert client.answer_to(1)["result"]["content"][0]["text"] == "waited"
        await client.stream.done()


@virtual_time
async def test_streams_are_limited_for_one_and_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_CHANNELS_OF_ONE", 1)
    monkeypatch.setattr(module, "_MAX_CHANNELS", 2)
    async with Desk(Box(), document=ON) as desk:
        alice, bob, carol = (Client(desk, name) for name in ("alice", "bob", "carol"))
        await alice.open()
        assert (await alice.send("/sse", "GET").over()).status == 503
        await bob.open()
        assert (await carol.send("/sse", "GET").over()).status == 503
        alice.stream.leave()
        await settle()
        await carol.open()
        for client in (bob, carol):
            client.stream.leave()


@virtual_time
async def test_a_bug_costs_nobody_their_answer() -> None:
    async with Desk(Box(), document=ON) as desk:
        desk.doorman.known["eve"] = person("eve")
        desk.live.hub.add = None  # type: ignore[method-assign,assignment]
        answer = await Client(desk, "eve").send("/sse", "GET").over()
        assert answer.status == 500
        told = json.loads(answer.body)["error"]
        assert told["message"] == "Internal error"
        assert told["data"]["requestId"] == answer.headers[b"x-request-id"].decode()
