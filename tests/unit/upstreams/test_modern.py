from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from itertools import count
from typing import Any

import pytest

from tests.support.exchange import (
    EVENTS,
    FakeExchange,
    Request,
    Response,
    error,
    event,
    events,
    modern_result,
    result,
)  # fmt: skip
from tests.support.providers import FakeCaller, TaskGroupSupervisor, make_call
from waygate_mcp.errors import RpcError, UpstreamProtocolError
from waygate_mcp.model.call import InputRequired, Progress, Reply
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import Event, ListChanged, ResourceUpdated
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES, ClientCapabilities
from waygate_mcp.protocol.headers import HeaderParam
from waygate_mcp.protocol.stateless import ListenFilter
from waygate_mcp.upstreams import modern
from waygate_mcp.upstreams.channel import HttpChannel, RemoteError, read_incoming
from waygate_mcp.upstreams.modern import ModernConnector, Watcher


def connector_of(exchange: FakeExchange) -> ModernConnector:
    numbers = count(1)
    channel = HttpChannel("up", exchange, "/mcp")
    return ModernConnector("up", channel, lambda: f"id-{next(numbers)}", {"name": "w"})


# --- calls


async def test_a_call_carries_the_headers_that_mirror_its_body() -> None:
    exchange = FakeExchange(tools__call=lambda r: modern_result(r, {"content": []}))
    call = make_call("tools/call", {"name": "p__t", "arguments": {"region": "eü"}})
    call.target = "täg"
    reply = await connector_of(exchange).call(call, [HeaderParam("Region", ("region",))])
    assert reply == Reply(b'{"content":[]}')
    headers = exchange.requests[0].headers
    assert headers["mcp-protocol-version"] == "2026-07-28"
    assert headers["mcp-method"] == "tools/call"
    assert headers["mcp-name"] == "=?base64?dMOkZw==?="
    assert headers["mcp-param-region"] == "=?base64?ZcO8?="
    assert "mcp-session-id" not in headers


async def test_what_calls_have_in_common_is_kept_and_what_differs_is_not_mixed_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(modern, "_MAX_KEPT", 2)
    exchange = FakeExchange(tools__call=lambda r: modern_result(r, {"content": []}))
    connector = connector_of(exchange)
    names = ("a", "b", "a", "c", "a", "n" * 300)
    for number, name in enumerate(names):
        call = make_call("tools/call", {"name": name})
        call.target = name
        call.capabilities = ClientCapabilities(number % 4)
        await connector.call(call, ())
    assert [one.headers["mcp-name"] for one in exchange.requests] == list(names)
    declared = [
        one.params["_meta"]["io.modelcontextprotocol/clientCapabilities"]
        for one in exchange.requests
    ]
    bits = [ClientCapabilities(number % 4).to_declaration() for number in range(len(names))]
    assert declared == bits
    assert len(connector._contexts) <= 2
    assert len(connector._headers) <= 2


async def test_progress_and_log_messages_come_before_the_answer() -> None:
    def answer(request: Request) -> Response:
        token = request.params["_meta"]["progressToken"]
        step = {"progressToken": token, "progress": 1, "total": 2, "message": "half"}
        foreign = {"progressToken": "other", "progress": 9}
        return events(
            event({"method": "notifications/progress", "params": step}),
            event({"method": "notifications/progress", "params": foreign}),
            event({"method": "notifications/message", "params": {"level": "info", "data": "x"}}),
            event({"id": request.message["id"], "result": {"resultType": "complete"}}),
        )

    caller = FakeCaller()
    call = make_call("tools/call", {"name": "t"}, caller=caller)
    await connector_of(FakeExchange(tools__call=answer)).call(call, ())
    assert caller.events[0] == Progress(1, 2, "half")
    assert len(caller.events) == 2


async def test_progress_is_asked_for_only_where_the_client_did() -> None:
    exchange = FakeExchange(tools__call=lambda r: modern_result(r, {}))
    call = make_call("tools/call", {"name": "t"}, progress_token=None)
    await connector_of(exchange).call(call, ())
    assert "progressToken" not in exchange.requests[0].params["_meta"]


async def test_a_question_is_an_outcome() -> None:
    answer = {"resultType": "input_required", "inputRequests": {"k": {"method": "roots/list"}}}
    exchange = FakeExchange(tools__call=lambda r: result(r, answer))
    outcome = await connector_of(exchange).call(make_call("tools/call", {"name": "t"}), ())
    assert isinstance(outcome, InputRequired)


async def test_errors_are_raised_and_those_between_the_two_of_us_given() -> None:
    exchange = FakeExchange(tools__call=lambda r: error(r, -32603, "why", {"a": 1}))
    connector = connector_of(exchange)
    with pytest.raises(RpcError) as caught:
        await connector.call(make_call("tools/call", {"name": "t"}), ())
    assert (caught.value.rpc_code, caught.value.data) == (-32603, b'{"a": 1}')
    exchange.handlers["tools/call"] = lambda r: error(r, -32020, "header", status=400)
    given = await connector.call(make_call("tools/call", {"name": "t"}), ())
    assert isinstance(given, RemoteError)


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: Response(502, {"content-type": "text/html"}, [b"<h1>"]),
        lambda _: Response(200, {"content-type": "text/plain"}, [b"hi"]),
        lambda _: Response(202),
        lambda _: events(event({"method": "notifications/message"})),
        lambda _: events(event({"id": "another", "result": {}})),
        lambda _: events(b"data: nonsense\n\n"),
    ],
)
async def test_an_answer_without_a_response_is_the_upstreams_fault(answer: Any) -> None:
    with pytest.raises(UpstreamProtocolError):
        await connector_of(FakeExchange(tools__call=answer)).call(
            make_call("tools/call", {"name": "t"}), ()
        )


async def test_a_server_request_on_a_modern_stream_is_nobodys() -> None:
    def answer(request: Request) -> Response:
        return events(
            event({"id": "q", "method": "roots/list"}),
            event({"id": request.message["id"], "result": {"resultType": "complete"}}),
        )

    exchange = FakeExchange(tools__call=answer)
    await connector_of(exchange).call(make_call("tools/call", {"name": "t"}), ())
    assert len(exchange.requests) == 1


async def test_a_cancelled_call_closes_its_stream() -> None:
    entered = asyncio.Event()

    async def silence() -> AsyncGenerator[bytes, None]:
        entered.set()
        await asyncio.Event().wait()
        yield b""

    response = Response(200, EVENTS, silence())
    connector = connector_of(FakeExchange(tools__call=lambda _: response))

    async def ask() -> None:
        await connector.call(make_call("tools/call", {"name": "t"}), ())

    task = asyncio.get_running_loop().create_task(ask())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert response.is_left.is_set()


async def test_pages_are_fetched_with_cursor_and_capabilities() -> None:
    exchange = FakeExchange(tools__list=lambda r: modern_result(r, {"tools": []}))
    connector = connector_of(exchange)
    await connector.fetch_page(Kind.TOOL, "", NO_CAPABILITIES)
    sent = exchange.requests[0]
    assert sent.params["cursor"] == ""
    assert sent.headers["mcp-method"] == "tools/list"
    assert "mcp-name" not in sent.headers
    exchange.handlers["tools/list"] = lambda r: error(r, -32603, "broken")
    with pytest.raises(UpstreamProtocolError, match="broken"):
        await connector.fetch_page(Kind.TOOL, None, NO_CAPABILITIES)


# --- the listening stream


class Listening:
    """An upstream whose listening stream a test feeds, and what was heard of it."""

    def __init__(self) -> None:
        self.streams: list[asyncio.Queue[bytes | None]] = []
        self.filters: list[dict[str, Any]] = []
        self.heard: list[Event] = []
        self.gaps = 0
        self.has_gap = asyncio.Event()
        self.status = 200
        self.opened = asyncio.Event()
        self.confirms = True
        self.supervisor = TaskGroupSupervisor()
        exchange = FakeExchange(subscriptions__listen=self.answer)
        self.watcher = Watcher(
            connector_of(exchange),
            self.supervisor,
            ListenFilter(tools=True),
            self.heard.append,
            self.gap,
        )

    def gap(self) -> None:
        self.gaps += 1
        self.has_gap.set()

    def answer(self, request: Request) -> Response:
        if self.status != 200:
            return error(request, -32601, "no such method", status=self.status)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.streams.append(queue)
        self.filters.append(request.params["notifications"])
        self.opened.set()
        params = {"notifications": request.params["notifications"]}
        if self.confirms:
            queue.put_nowait(
                event({"method": "notifications/subscriptions/acknowledged", "params": params})
            )

        async def chunks() -> AsyncGenerator[bytes, None]:
            while (chunk := await queue.get()) is not None:
                yield chunk

        return Response(200, EVENTS, chunks())

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


async def test_changes_are_heard_after_the_stream_was_confirmed() -> None:
    up = Listening()
    await up.watcher.start()
    assert up.watcher.confirmed == ListenFilter(tools=True)
    up.streams[0].put_nowait(event({"method": "notifications/tools/list_changed"}))
    await up.settle()
    assert up.heard == [ListChanged("up", Kind.TOOL)]
    await up.watcher.close()
    assert not up.supervisor.tasks


async def test_a_subscription_opens_a_new_stream_before_it_closes_the_old() -> None:
    up = Listening()
    await up.watcher.start()
    await up.watcher.subscribe("a://b")
    await up.watcher.subscribe("a://b")
    assert up.filters[1:] == [{"toolsListChanged": True, "resourceSubscriptions": ["a://b"]}]
    updated = {"method": "notifications/resources/updated", "params": {"uri": "a://b"}}
    up.streams[1].put_nowait(event(updated))
    await up.settle()
    assert up.heard == [ResourceUpdated("up", "a://b")]
    await up.watcher.unsubscribe("a://b")
    assert len(up.filters) == 2
    await up.watcher.unsubscribe("a://b")
    assert up.filters[2] == {"toolsListChanged": True}
    await up.watcher.unsubscribe("a://b")
    assert len(up.filters) == 3
    assert len(up.supervisor.tasks) == 1
    await up.watcher.close()


async def test_a_stream_that_ends_is_opened_again_and_the_gap_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(modern, "_FIRST_BACKOFF_S", 0.0)
    up = Listening()
    await up.watcher.start()
    up.streams[0].put_nowait(None)
    async with asyncio.timeout(5):
        await up.has_gap.wait()
    assert len(up.streams) == 2
    await up.watcher.close()


async def test_an_upstream_without_such_a_stream_is_left_alone() -> None:
    up = Listening()
    up.status = 404
    await up.watcher.start()
    await up.settle()
    assert not up.supervisor.tasks
    assert up.watcher.confirmed == ListenFilter()
    await up.supervisor.close()


async def test_a_stream_that_is_not_confirmed_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(modern, "_ACK_S", 0.0)
    up = Listening()
    up.confirms = False
    async with asyncio.timeout(5):
        await up.watcher.start()
    assert up.watcher.confirmed == ListenFilter()
    monkeypatch.setattr(modern, "_ACK_S", 5.0)
    await up.watcher.close()


async def test_nothing_to_watch_opens_nothing() -> None:
    supervisor = TaskGroupSupervisor()
    watcher = Watcher(
        connector_of(FakeExchange()), supervisor, ListenFilter(), lambda _: None, lambda: None
    )
    await watcher.start()
    assert not supervisor.tasks


def test_a_malformed_confirmation_confirms_nothing() -> None:
    malformed: list[Any] = [{"notifications": 5}, [], {}]
    for params in malformed:
        (incoming,) = read_incoming(json.dumps({"method": "x", "params": params}).encode())
        assert modern._confirmed(incoming) == ListenFilter()


async def test_what_is_confirmed_stays_known_when_a_subscription_replaces_the_stream() -> None:
    up = Listening()
    await up.watcher.start()
    await up.watcher.subscribe("a://b")
    await up.settle()
    assert up.watcher.is_open
    assert up.watcher.confirmed == ListenFilter(tools=True, uris=("a://b",))
    await up.watcher.unsubscribe("a://b")
    await up.settle()
    assert up.watcher.confirmed == ListenFilter(tools=True)
    await up.watcher.close()


async def test_subscriptions_that_come_together_share_a_stream() -> None:
    up = Listening()
    await up.watcher.start()
    uris = [f"a://{number}" for number in range(40)]
    async with asyncio.TaskGroup() as group:
        for uri in uris:
            group.create_task(up.watcher.subscribe(uri))
    assert set(up.watcher.confirmed.uris) == set(uris)
    assert len(up.filters) <= 3
    async with asyncio.TaskGroup() as group:
        for uri in uris:
            group.create_task(up.watcher.unsubscribe(uri))
    assert up.watcher.confirmed.uris == ()
    assert len(up.filters) <= 6
    await up.watcher.close()
    opened = len(up.filters)
    await up.watcher.subscribe("a://late")
    assert len(up.filters) == opened  # nothing is opened after the end
