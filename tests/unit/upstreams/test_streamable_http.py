from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.exchange import (
    EVENTS,
    FakeExchange,
    Request,
    Response,
    error,
    event,
    modern_result,
    result,
)  # fmt: skip
from tests.support.providers import (
    ALICE,
    BOB,
    EVERYTHING,
    LEGACY,
    Announced,
    FakeCaller,
    TaskGroupSupervisor,
    make_call,
    viewer,
)  # fmt: skip
from tests.support.virtual_time import settle
from waygate_mcp.errors import (
    LimitError,
    UnknownMethodError,
    UnknownNameError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from waygate_mcp.model.call import Reply
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import ListChanged, ResourceUpdated
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES
from waygate_mcp.upstreams import modern
from waygate_mcp.upstreams.detect import CredentialsWantedError
from waygate_mcp.upstreams.sessions import OUR_OWN
from waygate_mcp.upstreams.streamable_http import EraChoice, Upstream, UpstreamLimits, connect

CAPABILITIES = {
    "tools": {"listChanged": True},
    "resources": {"subscribe": True},
    "completions": {},
    "logging": {},
}
TOOLS = [{"name": "t", "inputSchema": {"type": "object"}}]


def discovery(request: Request) -> Response:
    return modern_result(
        request,
        {
            "supportedVersions": ["2026-07-28"],
            "capabilities": CAPABILITIES,
            "instructions": "modern",
        },
    )


def handshake(request: Request) -> Response:
    agreed = {
        "protocolVersion": "2025-11-25", "capabilities": CAPABILITIES, "instructions": "legacy"
    }  # fmt: skip
    return result(request, agreed, mcp_session_id="s-1")


def by_era(request: Request) -> Response:
    """Answer tools/call with the era it came in."""
    is_modern = "mcp-method" in request.headers
    value: dict[str, Any] = {"content": [], "era": "modern" if is_modern else "legacy"}
    return modern_result(request, value) if is_modern else result(request, value)


class Server:
    """An upstream with the handlers of one era or both."""

    def __init__(self, *, modern: bool = True, legacy: bool = True) -> None:
        self.streams: list[asyncio.Queue[bytes]] = []
        self.has_stream = asyncio.Event()
        self.exchange = FakeExchange(
            tools__call=by_era,
            tools__list=lambda r: modern_result(r, {"tools": TOOLS}),
            DELETE=lambda _: Response(204),
            notifications__initialized=lambda _: Response(202),
            notifications__cancelled=lambda _: Response(202),
            logging__setLevel=lambda r: result(r, {}),
            resources__subscribe=lambda r: result(r, {}),
            resources__unsubscribe=lambda r: result(r, {}),
        )
        if modern:
            self.exchange.handlers["server/discover"] = discovery
            self.exchange.handlers["subscriptions/listen"] = self.listen
        else:
            self.exchange.handlers["server/discover"] = lambda _: Response(400)
        if legacy:
            self.exchange.handlers["initialize"] = handshake
            self.exchange.handlers["GET"] = self.listen
        else:
            self.exchange.handlers["initialize"] = lambda r: error(r, -32022, "no", status=400)

    def listen(self, request: Request) -> Response:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.streams.append(queue)
        self.has_stream.set()
        if request.body:
            params = {"notifications": request.params["notifications"]}
            queue.put_nowait(
                event({"method": "notifications/subscriptions/acknowledged", "params": params})
            )

        async def chunks() -> AsyncGenerator[bytes, None]:
            while True:
                yield await queue.get()

        return Response(200, EVENTS, chunks())


@asynccontextmanager
async def connected(
    server: Server,
    era: EraChoice = "auto",
    announced: Announced | None = None,
    **limits: Any,
) -> AsyncIterator[Upstream]:
    supervisor = TaskGroupSupervisor()
    async with connect(
        "up", server.exchange, "/mcp", announced or Announced(),
        supervisor=supervisor, era=era, limits=UpstreamLimits(**limits),
    ) as upstream:  # fmt: skip
        yield upstream
    if supervisor.tasks:
        await asyncio.wait(supervisor.tasks, timeout=5)
    assert not supervisor.tasks
    assert not supervisor.failures


def call(**more: Any) -> Any:
    return make_call("tools/call", {"name": "t"}, **more)


async def era_of(upstream: Upstream, **more: Any) -> str:
    reply = await upstream.call(call(**more))
    assert isinstance(reply, Reply)
    return str(json.loads(reply.result)["era"])


# --- which era


@pytest.mark.parametrize(
    ("modern", "legacy", "pin", "expected"),
    [
        (True, True, "auto", ("modern", "legacy")),
        (True, True, "legacy", ("legacy", "legacy")),
        (True, True, "modern", ("modern", "modern")),
        (True, False, "auto", ("modern", "modern")),
        (False, True, "auto", ("legacy", "legacy")),
    ],
)
async def test_a_call_is_spoken_in_the_clients_era_where_the_server_has_it(
    modern: bool, legacy: bool, pin: EraChoice, expected: tuple[str, str]
) -> None:
    async with connected(Server(modern=modern, legacy=legacy), pin) as upstream:
        for _ in range(2):
            assert (await era_of(upstream), await era_of(upstream, revision=LEGACY)) == expected
        assert set(upstream.eras) == set(expected)


async def test_whether_a_modern_server_has_sessions_is_tried_once_for_all_who_call() -> None:
    server = Server(legacy=False)
    refuse = server.exchange.handlers["initialize"]
    tried = asyncio.Event()

    async def refuse_slowly(request: Request) -> Response:
        await tried.wait()
        refusal = refuse(request)
        assert isinstance(refusal, Response)
        return refusal

    server.exchange.handlers["initialize"] = refuse_slowly
    async with connected(server) as upstream, asyncio.TaskGroup() as group:
        callers = [
            group.create_task(era_of(upstream, revision=LEGACY, session_id=f"front-{number}"))
            for number in range(5)
        ]
        await asyncio.sleep(0)
        tried.set()
        assert {await caller for caller in callers} == {"modern"}
    assert len(server.exchange.asked("initialize")) == 1


async def test_what_the_server_can_do_is_known_without_asking_again() -> None:
    server = Server()
    async with connected(server) as upstream:
        features = upstream.features
        assert (features.tools, features.prompts, features.resources) == (True, False, True)
        assert (features.subscribe, features.completions, features.logging) == (True, True, True)
        assert (upstream.name, upstream.instructions) == ("up", "modern")
        before = len(server.exchange.requests)
        listing = await upstream.listing(Kind.PROMPT, viewer())
        assert listing.entries == ()
        assert len(server.exchange.requests) == before
    async with connected(Server(modern=False)) as upstream:
        assert upstream.instructions == "legacy"


async def test_completion_of_the_oldest_revision_needs_no_capability() -> None:
    server = Server(modern=False)
    agreed = {"protocolVersion": "2024-11-05", "capabilities": {"prompts": {}}}
    server.exchange.handlers["initialize"] = lambda r: result(r, agreed)
    async with connected(server) as upstream:
        assert upstream.features.completions


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, CredentialsWantedError), (403, CredentialsWantedError), (503, UpstreamUnavailableError)],
)
async def test_a_closed_door_and_an_outage_are_no_verdict(
    status: int, kind: type[Exception]
) -> None:
    server = Server()
    server.exchange.handlers["server/discover"] = lambda _: Response(status)
    with pytest.raises(kind):
        async with connected(server):
            pass
    assert not server.exchange.asked("initialize")


async def test_a_pin_that_is_wrong_says_so() -> None:
    with pytest.raises(UpstreamProtocolError):
        async with connected(Server(modern=False), "modern"):
            pass
    with pytest.raises(UpstreamProtocolError):
        async with connected(Server(legacy=False), "legacy"):
            pass


async def test_a_server_that_is_silent_is_given_up() -> None:
    async def silent(_: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    server = Server()
    server.exchange.handlers["server/discover"] = silent
    with pytest.raises(UpstreamUnavailableError):
        async with connected(server, open_s=0.0):
            pass


# --- calls


async def test_a_header_mismatch_is_mended_by_reading_the_list_again() -> None:
    server = Server()
    schema = {"type": "object", "properties": {"r": {"type": "string", "x-mcp-header": "Region"}}}
    tools: list[Any] = TOOLS

    def answer(request: Request) -> Response:
        nonlocal tools
        tools = [{"name": "t", "inputSchema": schema}]
        if "mcp-param-region" not in request.headers:
            return error(request, -32020, "Header mismatch", status=400)
        return modern_result(request, {"content": []})

    server.exchange.handlers["tools/call"] = answer
    server.exchange.handlers["tools/list"] = lambda r: modern_result(r, {"tools": tools})
    async with connected(server) as upstream:
        wanted = make_call("tools/call", {"name": "t", "arguments": {"r": "eu"}})
        assert isinstance(await upstream.call(wanted), Reply)
    assert len(server.exchange.asked("tools/call")) == 2


async def test_a_header_mismatch_that_stays_is_the_upstreams_fault() -> None:
    server = Server()
    server.exchange.handlers["tools/call"] = lambda r: error(r, -32020, "no", status=400)
    async with connected(server) as upstream:
        with pytest.raises(UpstreamProtocolError):
            await upstream.call(call())
    assert len(server.exchange.asked("tools/call")) == 2


async def test_a_session_the_server_lost_costs_one_new_handshake() -> None:
    server = Server(modern=False)
    statuses = [404, 200]

    def answer(request: Request) -> Response:
        return by_era(request) if statuses.pop(0) == 200 else Response(404)

    server.exchange.handlers["tools/call"] = answer
    async with connected(server) as upstream:
        assert await era_of(upstream) == "legacy"
    assert len(server.exchange.asked("initialize")) == 3  # our own, the lost one, the new one


async def test_a_cancelled_legacy_call_is_told_to_the_server() -> None:
    server = Server(modern=False)
    entered = asyncio.Event()

    async def silent(_: Request) -> Response:
        entered.set()
        await asyncio.Event().wait()
        raise AssertionError

    server.exchange.handlers["tools/call"] = silent
    async with connected(server) as upstream:
        task = asyncio.get_running_loop().create_task(era_of(upstream))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    (told,) = server.exchange.asked("notifications/cancelled")
    assert told.params["requestId"] == server.exchange.asked("tools/call")[0].message["id"]


async def test_a_cancellation_passes_even_where_nobody_can_be_told_any_more() -> None:
    class Stopping(TaskGroupSupervisor):
        def start(self, coroutine: Any, *, name: str) -> Any:
            coroutine.close()
            raise LimitError("the server stops")

    server = Server(modern=False)
    entered = asyncio.Event()

    async def silent(_: Request) -> Response:
        entered.set()
        await asyncio.Event().wait()
        raise AssertionError

    server.exchange.handlers["tools/call"] = silent
    limits = UpstreamLimits(watches_changes=False)
    opened = connect(
        "up", server.exchange, "/mcp", Announced(), supervisor=Stopping(), limits=limits
    )
    async with opened as upstream:
        task = asyncio.get_running_loop().create_task(era_of(upstream))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# --- lists


async def test_a_list_is_kept_per_principal_and_capabilities() -> None:
    server = Server()
    async with connected(server) as upstream:
        for who in (viewer(), viewer(), viewer(BOB), viewer(ALICE, NO_CAPABILITIES)):
            (entry,) = (await upstream.listing(Kind.TOOL, who)).entries
            assert entry.name == "t"
    assert len(server.exchange.asked("tools/list")) == 3
    declared = [
        r.params["_meta"]["io.modelcontextprotocol/clientCapabilities"]
        for r in server.exchange.asked("tools/list")
    ]
    everything = EVERYTHING.without_roots_changed().to_declaration()  # no such news in this era
    assert declared == [everything, everything, {}]


async def test_a_legacy_list_is_read_in_the_viewers_own_session() -> None:
    server = Server(modern=False)
    server.exchange.handlers["tools/list"] = lambda r: result(r, {"tools": TOOLS})
    async with connected(server) as upstream:
        await upstream.listing(Kind.TOOL, viewer())
        await upstream.listing(Kind.TOOL, viewer(BOB))
    assert len(server.exchange.asked("initialize")) == 3


@pytest.mark.parametrize("modern", [True, False])
async def test_a_change_is_announced_and_the_list_read_again(modern: bool) -> None:
    server = Server(modern=modern)
    server.exchange.handlers["tools/list"] = lambda r: modern_result(r, {"tools": TOOLS})
    announced = Announced()
    async with connected(server, announced=announced) as upstream:
        async with asyncio.timeout(5):
            await server.has_stream.wait()
        assert (await upstream.listing(Kind.TOOL, viewer())).ttl_ms > 30_000
        server.streams[0].put_nowait(event({"method": "notifications/tools/list_changed"}))
        await announced.wait_for(ListChanged("up", Kind.TOOL))
        await upstream.listing(Kind.TOOL, viewer())
    assert len(server.exchange.asked("tools/list")) == 2


async def test_a_list_is_read_again_on_request_however_fresh_it_is() -> None:
    server = Server()
    async with connected(server) as upstream:
        for _ in range(2):
            await upstream.listing(Kind.TOOL, viewer())
        await upstream.refresh(Kind.TOOL, viewer())
        await upstream.listing(Kind.TOOL, viewer())
    assert len(server.exchange.asked("tools/list")) == 2


async def test_a_list_nobody_announces_changes_of_is_polled() -> None:
    server = Server()
    async with connected(server, watches_changes=False) as upstream:
        assert not server.streams
        assert (await upstream.listing(Kind.TOOL, viewer())).ttl_ms <= 5_000


async def test_a_list_that_takes_too_long_is_given_up() -> None:
    async def silent(_: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    server = Server()
    server.exchange.handlers["tools/list"] = silent
    async with connected(server, list_s=0.0) as upstream:
        with pytest.raises(UpstreamTimeoutError):
            await upstream.listing(Kind.TOOL, viewer())


# --- subscriptions


async def test_a_modern_subscription_goes_by_the_listening_stream() -> None:
    server, announced = Server(), Announced()
    async with connected(server, announced=announced) as upstream:
        for revision in (LEGACY, call().revision):
            wanted = make_call("resources/subscribe", {"uri": "a://b"}, revision=revision)
            assert isinstance(await upstream.call(wanted), Reply)
        updated = {"method": "notifications/resources/updated", "params": {"uri": "a://b"}}
        server.streams[-1].put_nowait(event(updated))
        await announced.wait_for(ResourceUpdated("up", "a://b"))
        assert isinstance(
            await upstream.call(make_call("resources/unsubscribe", {"uri": "a://b"})), Reply
        )
    assert not server.exchange.asked("resources/subscribe")


async def test_a_subscription_the_server_does_not_have_is_an_unknown_method() -> None:
    server = Server()
    server.exchange.handlers["server/discover"] = lambda r: modern_result(
        r, {"supportedVersions": ["2026-07-28"], "capabilities": {"resources": {}}}
    )
    async with connected(server) as upstream:
        with pytest.raises(UnknownMethodError):
            await upstream.call(make_call("resources/subscribe", {"uri": "a://b"}))


async def test_legacy_subscriptions_are_counted_in_their_session() -> None:
    server = Server(modern=False)
    async with connected(server) as upstream:
        for method, times in (("resources/subscribe", 2), ("resources/unsubscribe", 2)):
            for _ in range(times):
                wanted = make_call(method, {"uri": "a://b"}, caller=FakeCaller(log_level=None))
                assert isinstance(await upstream.call(wanted), Reply)
    assert len(server.exchange.asked("resources/subscribe")) == 2
    assert len(server.exchange.asked("resources/unsubscribe")) == 1


# --- is it there


async def test_a_probe_is_a_discovery_in_the_modern_era_and_a_ping_in_a_legacy_one() -> None:
    modern, legacy = Server(), Server(modern=False)
    legacy.exchange.handlers["ping"] = lambda r: result(r, {})
    for server, asked in ((modern, "server/discover"), (legacy, "ping")):
        async with connected(server) as upstream:
            before = len(server.exchange.asked(asked))
            await upstream.probe()
            assert len(server.exchange.asked(asked)) == before + 1


async def test_a_server_that_has_no_ping_is_there_all_the_same() -> None:
    server = Server(modern=False)
    server.exchange.handlers["ping"] = lambda r: error(r, -32601, "no such method")
    async with connected(server) as upstream:
        await upstream.probe()


async def test_a_probe_finds_a_lost_session_and_opens_another() -> None:
    server = Server(modern=False)
    answers = [Response(404)]

    def ping(request: Request) -> Response:
        return answers.pop() if answers else result(request, {})

    server.exchange.handlers["ping"] = ping
    async with connected(server) as upstream:
        await upstream.probe()
        assert len(server.exchange.asked("initialize")) == 2


@pytest.mark.parametrize("status", [500, 503, 401, 404])
async def test_a_server_that_is_no_more_what_it_was_does_not_pass_a_probe(status: int) -> None:
    server = Server()
    async with connected(server) as upstream:
        server.exchange.handlers["server/discover"] = lambda _: Response(status)
        with pytest.raises(UpstreamProtocolError):
            await upstream.probe()


async def test_after_a_gap_in_the_listening_stream_what_is_subscribed_is_told_as_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(modern, "_FIRST_BACKOFF_S", 0.0)
    server, announced = Server(), Announced()
    async with connected(server, announced=announced) as upstream:
        await upstream.call(make_call("resources/subscribe", {"uri": "a://b"}))
        assert announced.events == []
        server.streams[-1].put_nowait(b"data: {nonsense\n\n")
        await announced.wait_for(ResourceUpdated("up", "a://b"))
        assert ListChanged("up", Kind.TOOL) in announced.events


async def test_a_subscription_that_is_not_confirmed_fails_and_leaves_nothing_behind() -> None:
    server = Server()
    listen = server.listen

    def confirm_lists_only(request: Request) -> Response:
        request.params["notifications"].pop("resourceSubscriptions", None)
        return listen(request)

    server.exchange.handlers["subscriptions/listen"] = confirm_lists_only
    async with connected(server) as upstream:
        with pytest.raises(UnknownNameError):
            await upstream.call(make_call("resources/subscribe", {"uri": "a://b"}))
        await asyncio.sleep(0)
        assert upstream._watcher is not None
        assert upstream._watcher._uris == {}


async def test_a_subscription_fails_where_the_listening_stream_cannot_be_opened() -> None:
    server = Server()
    async with connected(server) as upstream:
        server.exchange.handlers["subscriptions/listen"] = lambda _: Response(503)
        with pytest.raises(UpstreamUnavailableError):
            await upstream.call(make_call("resources/subscribe", {"uri": "a://b"}))


async def test_the_end_of_a_session_at_our_door_ends_the_one_opened_for_it() -> None:
    server = Server(modern=False)
    async with connected(server) as upstream:
        await upstream.call(call(session_id="front-1", revision=LEGACY))
        before = len(upstream._pool)
        upstream.forget_session("front-1")
        assert len(upstream._pool) == before - 1
        await asyncio.sleep(0)
    assert len(server.exchange.asked("DELETE")) == before


async def test_changed_roots_are_told_in_the_session_opened_for_the_one_at_our_door() -> None:
    server = Server(modern=False)
    told = "notifications/roots/list_changed"
    server.exchange.handlers[told] = lambda _: Response(202)
    async with connected(server) as upstream:
        for front in ("front-1", None):
            await upstream.call(call(session_id=front, revision=LEGACY))
        upstream.tell_roots_changed("front-2")
        upstream.tell_roots_changed("front-1")
        await settle()
    assert len(server.exchange.asked(told)) == 1


async def test_a_modern_server_is_told_nothing_of_roots() -> None:
    server = Server(legacy=False)
    async with connected(server) as upstream:
        await upstream.call(call(session_id="front-1", revision=LEGACY))
        upstream.tell_roots_changed("front-1")
        await settle()
    assert not server.exchange.asked("notifications/roots/list_changed")


@pytest.mark.parametrize("session_id", ["front-1", None])
async def test_an_update_names_the_session_at_our_door_that_subscribed(
    session_id: str | None,
) -> None:
    server, announced = Server(modern=False), Announced()
    async with connected(server, announced=announced) as upstream:
        wanted = make_call("resources/subscribe", {"uri": "a://b"}, session_id=session_id)
        await upstream.call(wanted)
        async with asyncio.timeout(5):
            while len(server.streams) < 2:  # noqa: ASYNC110 - nobody else asks
                await asyncio.sleep(0)
        updated = {"method": "notifications/resources/updated", "params": {"uri": "a://b"}}
        server.streams[-1].put_nowait(event(updated))
        await announced.wait_for(ResourceUpdated("up", "a://b", session_id))


async def test_our_own_session_that_came_back_makes_every_list_stale() -> None:
    server, announced = Server(modern=False), Announced()
    async with connected(server, announced=announced) as upstream:
        session = await upstream._pool.get(OUR_OWN)
        upstream._pool.on_revived(session)
        assert {e.kind for e in announced.events if isinstance(e, ListChanged)} == set(Kind)
