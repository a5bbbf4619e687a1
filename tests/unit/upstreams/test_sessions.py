from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tests.support.exchange import (
    FakeExchange,
    Request,
    Response,
    error,
    event,
    events,
    result,
)
from tests.support.providers import ALICE, BOB, EVERYTHING, TaskGroupSupervisor, make_call, viewer
from tests.support.virtual_time import pass_time, settle, virtual_time
from waygate_mcp.errors import LimitError, UpstreamProtocolError, UpstreamUnavailableError
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import Event, ListChanged, ResourceUpdated
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES
from waygate_mcp.upstreams import sessions
from waygate_mcp.upstreams.channel import HttpChannel
from waygate_mcp.upstreams.legacy import LegacyConnector, LegacySession, SessionLostError
from waygate_mcp.upstreams.sessions import OUR_OWN, SessionKey, SessionPool


class House:
    """A pool over a server that opens sessions s-1, s-2 and so on."""

    def __init__(self, capabilities: dict[str, Any] | None = None, **limits: Any) -> None:
        self.now = 1000.0
        self.opened = 0
        self.gate: asyncio.Event | None = None
        self.heard: list[Event] = []
        self.supervisor = TaskGroupSupervisor()
        self.capabilities = capabilities or {}
        self.exchange = FakeExchange(
            initialize=self.open,
            notifications__initialized=lambda _: Response(202),
            DELETE=lambda _: Response(204),
        )
        channel = HttpChannel("up", self.exchange, "/mcp")
        self.connector = LegacyConnector(
            "up", channel, lambda: f"id-{len(self.exchange.requests)}", {}, self.heard.append
        )
        self.pool = SessionPool(self.connector, self.supervisor, lambda: self.now, **limits)

    async def open(self, request: Request) -> Response:
        if self.gate is not None:
            await self.gate.wait()
        self.opened += 1
        agreed = {"protocolVersion": "2025-11-25", "capabilities": self.capabilities}
        return result(request, agreed, mcp_session_id=f"s-{self.opened}")


def key(name: str, session: str | None = None) -> SessionKey:
    return SessionKey(name.encode(), 0, session)


def test_a_session_is_shared_by_nobody_who_differs() -> None:
    def of(**more: Any) -> SessionKey:
        return SessionKey.of_call(make_call("tools/call", {"name": "t"}, **more))

    keys = [
        of(),
        of(principal=BOB),
        of(capabilities=NO_CAPABILITIES),
        of(session_id="front-1"),
        of(session_id="front-2"),
    ]
    assert len(set(keys)) == len(keys)
    assert of() == of() == SessionKey.of_viewer(viewer(ALICE, EVERYTHING))


async def test_a_session_is_opened_once_for_all_who_wait() -> None:
    house = House()
    house.gate = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(house.pool.get(key("a"))) for _ in range(4)]
        await asyncio.sleep(0)
        house.gate.set()
    assert {task.result().id for task in tasks} == {"s-1"}
    assert (await house.pool.get(key("b"))).id == "s-2"
    assert len(house.pool) == 2


async def test_an_opener_that_is_cancelled_lets_the_next_one_open() -> None:
    house = House()
    house.gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    first = loop.create_task(house.pool.get(key("a")))
    await asyncio.sleep(0)
    second = loop.create_task(house.pool.get(key("a")))
    await asyncio.sleep(0)
    first.cancel()
    house.gate.set()
    assert (await second).id == "s-1"


async def test_an_opening_that_fails_leaves_no_place_behind() -> None:
    house = House()
    house.exchange.handlers["initialize"] = lambda _: Response(503)
    with pytest.raises(UpstreamProtocolError):
        await house.pool.get(key("a"))
    assert len(house.pool) == 0


async def test_work_in_a_lost_session_is_done_once_more_in_a_new_one() -> None:
    house = House()
    seen: list[str | None] = []

    async def work(session: LegacySession) -> str:
        seen.append(session.id)
        if len(seen) == 1:
            session.is_lost = True
            raise SessionLostError("up", "gone")
        return "done"

    assert await house.pool.use(key("a"), work) == "done"
    assert seen == ["s-1", "s-2"]


async def test_work_that_is_lost_twice_fails() -> None:
    house = House()

    async def work(session: LegacySession) -> None:
        session.is_lost = True
        raise SessionLostError("up", "gone")

    with pytest.raises(SessionLostError):
        await house.pool.use(key("a"), work)
    assert house.opened == 2


async def test_what_lasts_is_done_in_the_same_session_where_calls_have_one_each() -> None:
    house = House()
    house.connector.is_interactive = True
    seen: list[str | None] = []

    async def slow(session: LegacySession) -> None:
        seen.append(session.id)
        await together.wait()

    together = asyncio.Barrier(2)
    await asyncio.gather(house.pool.use(key("a"), slow), house.pool.use(key("a"), slow))
    assert sorted(map(str, seen)) == ["s-1", "s-2"]
    seen.clear()
    await asyncio.gather(
        house.pool.use(key("a"), slow, is_lasting=True),
        house.pool.use(key("a"), slow, is_lasting=True),
    )
    assert seen == ["s-1", "s-1"]


async def test_sessions_unused_for_long_are_ended_when_another_opens() -> None:
    house = House(idle_s=60.0)
    await house.pool.get(OUR_OWN)
    await house.pool.get(key("old"))
    house.now += 30
    used = await house.pool.get(key("used"))
    house.now += 40
    await house.pool.get(key("new"))
    assert set(house.pool._places) == {OUR_OWN, key("used"), key("new")}
    assert not used.is_lost
    await asyncio.wait(house.supervisor.tasks)
    assert [r.headers["mcp-session-id"] for r in house.exchange.asked("DELETE")] == ["s-2"]


async def test_a_session_in_use_is_never_ended_to_make_room() -> None:
    house = House(most=2)
    busy = await house.pool.get(key("busy"))
    busy.subscribed["a://b"] += 1
    await house.pool.get(key("idle"))
    await house.pool.get(key("new"))
    assert set(house.pool._places) == {key("busy"), key("new")}
    (await house.pool.get(key("new"))).subscribed["a://b"] += 1
    with pytest.raises(LimitError):
        await house.pool.get(key("more"))
    await asyncio.wait(house.supervisor.tasks)


async def test_closing_ends_every_session() -> None:
    house = House()
    for name in "abc":
        await house.pool.get(key(name))
    await house.pool.close()
    assert len(house.pool) == 0
    assert len(house.exchange.asked("DELETE")) == 3


PUSHES = {"tools": {"listChanged": True}}


async def test_the_stream_of_a_session_is_read_where_the_server_pushes() -> None:
    house = House(PUSHES)
    gone = asyncio.Event()

    async def stream(_: Request) -> Response:
        if len(house.exchange.asked("GET")) > 1:
            gone.set()
            await asyncio.Event().wait()
        return events(event({"method": "notifications/tools/list_changed"}, id="4"))

    house.exchange.handlers["GET"] = stream
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "_FIRST_BACKOFF_S", 0.0)
        await house.pool.get(key("a"))
        async with asyncio.timeout(5):
            await gone.wait()
    assert house.heard == [ListChanged("up", Kind.TOOL)]
    assert house.exchange.asked("GET")[1].headers["last-event-id"] == "4"
    await house.pool.close()
    assert not house.supervisor.tasks


async def test_a_server_without_such_a_stream_is_asked_once() -> None:
    house = House({"resources": {"subscribe": True}})
    house.exchange.handlers["GET"] = lambda _: Response(405)
    await house.pool.get(key("a"))
    await asyncio.wait(house.supervisor.tasks)
    assert len(house.exchange.asked("GET")) == 1
    await house.pool.close()


@pytest.mark.parametrize(
    ("capabilities", "limits"), [({}, {}), (PUSHES, {"watches_changes": False})]
)
async def test_no_stream_is_read_where_nothing_is_to_be_heard(
    capabilities: dict[str, Any], limits: dict[str, Any]
) -> None:
    house = House(capabilities, **limits)
    await house.pool.get(key("a"))
    assert not house.supervisor.tasks


async def test_a_lane_that_is_subscribed_takes_calls_and_the_end_of_its_subscription() -> None:
    house = House()
    house.connector.is_interactive = True

    async def subscribe(session: LegacySession) -> str | None:
        session.subscribed["file:///a"] += 1
        return session.id

    async def name(session: LegacySession) -> str | None:
        return session.id

    first = await house.pool.use(key("a"), subscribe)
    # Subscriptions last: if they kept their lanes, the ninth call would wait for ever.
    assert await house.pool.use(key("a"), name) == first
    entered, may_leave = asyncio.Event(), asyncio.Event()

    async def hold(session: LegacySession) -> str | None:
        entered.set()
        await may_leave.wait()
        return session.id

    async with asyncio.TaskGroup() as group:
        held = group.create_task(house.pool.use(key("a"), hold))
        await entered.wait()
        assert await house.pool.use(key("a"), name) != first
        ending = group.create_task(house.pool.use(key("a"), name, subscribed="file:///a"))
        elsewhere = await house.pool.use(key("a"), name, subscribed="file:///b")
        await asyncio.sleep(0)
        assert not ending.done()
        may_leave.set()
    assert (held.result(), ending.result()) == (first, first)
    assert elsewhere != first


# --- sessions at our door that are over


async def test_what_was_opened_for_a_session_at_our_door_ends_with_it() -> None:
    house = House()
    for name, front in (("a", "front-1"), ("b", "front-1"), ("a", "front-2"), ("a", None)):
        await house.pool.get(key(name, front))
    house.pool.forget("front-1")
    assert set(house.pool._places) == {key("a", "front-2"), key("a")}
    await asyncio.wait(house.supervisor.tasks)
    ended = {request.headers["mcp-session-id"] for request in house.exchange.asked("DELETE")}
    assert ended == {"s-1", "s-2"}
    house.pool.forget("front-1")
    assert not house.supervisor.tasks


async def test_a_session_that_is_over_before_it_is_open_is_ended_once_it_is() -> None:
    house = House()
    house.gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    opening = [loop.create_task(house.pool.get(key("a", "front-1"))) for _ in range(2)]
    await asyncio.sleep(0)
    house.pool.forget("front-1")
    after = loop.create_task(house.pool.get(key("a", "front-1")))
    await asyncio.sleep(0)
    house.gate.set()
    await asyncio.wait(opening)
    session = await after
    for _ in range(20):
        await asyncio.sleep(0)
    (ended,) = house.exchange.asked("DELETE")
    assert ended.headers["mcp-session-id"] != session.id
    assert set(house.pool._places) == {key("a", "front-1")}  # the newer one keeps its place


async def test_a_session_that_opens_while_the_pool_closes_is_ended_too() -> None:
    house = House()
    house.gate = asyncio.Event()
    opening = asyncio.get_running_loop().create_task(house.pool.get(key("a")))
    await asyncio.sleep(0)
    await house.pool.close()
    house.gate.set()
    await opening
    await asyncio.wait(house.supervisor.tasks)
    assert len(house.exchange.asked("DELETE")) == 1


async def test_a_house_that_closes_lets_sessions_go_without_goodbye() -> None:
    class Closed(TaskGroupSupervisor):
        def start(self, coroutine: Any, *, name: str) -> Any:
            coroutine.close()
            raise LimitError("the server stops")

    house = House()
    await house.pool.get(key("a", "front-1"))
    house.pool._supervisor = Closed()
    house.pool.forget("front-1")
    assert len(house.pool) == 0
    assert house.exchange.asked("DELETE") == []


# --- sessions the upstream lost

SUBSCRIBABLE = {"resources": {"subscribe": True}}


class Forgetful(House):
    """A server whose streams end when it restarts; it knows no session from before then."""

    def __init__(self, capabilities: dict[str, Any], **limits: Any) -> None:
        super().__init__(capabilities, **limits)
        self.known: set[str] = set()
        self.restarted = asyncio.Event()
        self.is_up = True
        self.opens = True
        self.refuses = False
        self.exchange.handlers.update(
            {
                "GET": self.stream,
                "resources/subscribe": self.subscribe,
                "ping": self.ping,
                "initialize": self.open_known,
            }
        )

    async def open_known(self, request: Request) -> Response:
        if not (self.is_up and self.opens):
            return Response(503)
        response = await self.open(request)
        self.known.add(f"s-{self.opened}")
        return response

    async def stream(self, request: Request) -> Response:
        if request.headers["mcp-session-id"] not in self.known:
            return Response(404)
        restarted = self.restarted

        async def chunks() -> AsyncGenerator[bytes, None]:
            yield b": hello\n\n"
            await restarted.wait()
            raise UpstreamUnavailableError("up", "reset")

        return Response(200, {"content-type": "text/event-stream"}, chunks())

    def ping(self, request: Request) -> Response:
        if not self.is_up:
            return Response(503)
        is_known = request.headers["mcp-session-id"] in self.known
        return result(request, {}) if is_known else Response(404)

    def subscribe(self, request: Request) -> Response:
        if request.headers["mcp-session-id"] not in self.known:
            return Response(404)
        return error(request, -32002, "gone") if self.refuses else result(request, {})

    def restart(self) -> None:
        self.known.clear()
        before, self.restarted = self.restarted, asyncio.Event()
        before.set()

    async def subscribed(self, whose: SessionKey) -> LegacySession:
        session = await self.pool.get(whose)
        session.subscribed["a://b"] += 1
        return session

    def session(self, whose: SessionKey) -> LegacySession | None:
        place = self.pool._places.get(whose)
        return None if place is None else place.session


@virtual_time
async def test_a_subscription_outlives_the_session_it_was_made_in() -> None:
    house = Forgetful(SUBSCRIBABLE)
    lost = await house.subscribed(key("a", "front-1"))
    await settle()
    house.restart()
    await pass_time(5)
    again = house.session(key("a", "front-1"))
    assert again is not None
    assert again is not lost
    assert again.subscribed == {"a://b": 1}
    (subscribed,) = house.exchange.asked("resources/subscribe")
    assert subscribed.headers["mcp-session-id"] == again.id
    assert house.heard == [ResourceUpdated("up", "a://b", "front-1")]  # it may have changed
    await house.pool.close()
    await house.supervisor.close()


@virtual_time
async def test_a_subscription_waits_for_an_upstream_that_is_down() -> None:
    house = Forgetful(SUBSCRIBABLE)
    await house.subscribed(key("a"))
    await settle()
    house.opens = False
    house.restart()
    await pass_time(120)
    assert house.session(key("a")) is None
    asked = len(house.exchange.asked("initialize"))
    assert 5 <= asked <= 15  # with growing pauses
    house.opens = True
    await pass_time(60)
    again = house.session(key("a"))
    assert again is not None
    assert again.subscribed == {"a://b": 1}
    await house.pool.close()
    await house.supervisor.close()


@virtual_time
async def test_nobody_waits_for_a_subscription_whose_session_is_over() -> None:
    house = Forgetful(SUBSCRIBABLE)
    await house.subscribed(key("a", "front-1"))
    await settle()
    house.opens = False
    house.restart()
    await pass_time(10)
    house.pool.forget("front-1")
    house.opens = True
    await pass_time(120)
    assert len(house.pool) == 0
    assert house.pool._lost == {}
    assert not house.supervisor.tasks


@virtual_time
async def test_a_subscription_that_is_refused_the_second_time_is_given_up() -> None:
    house = Forgetful(SUBSCRIBABLE)
    await house.subscribed(key("a"))
    await settle()
    house.refuses = True
    house.restart()
    await pass_time(5)
    again = house.session(key("a"))
    assert again is not None
    assert again.subscribed == {}
    assert house.heard == []
    house.exchange.handlers["resources/subscribe"] = lambda _: Response(503)
    again.subscribed["a://b"] += 1
    house.restart()
    await pass_time(5)
    third = house.session(key("a"))
    assert third is not None
    assert third.subscribed == {}
    await house.pool.close()
    await house.supervisor.close()


@virtual_time
async def test_our_own_session_comes_back_by_itself_and_others_when_they_are_needed() -> None:
    house = Forgetful({"tools": {"listChanged": True}})
    back: list[LegacySession] = []
    house.pool.on_revived = back.append
    await house.pool.get(OUR_OWN)
    other = await house.pool.get(key("a"))
    await settle()
    house.restart()
    await pass_time(5)
    assert back == [house.session(OUR_OWN)]
    assert house.session(key("a")) is other
    assert (await house.pool.get(key("a"))) is not other
    await house.pool.close()
    await house.supervisor.close()


@virtual_time
async def test_a_stream_that_breaks_off_is_opened_again_in_the_same_session() -> None:
    house = Forgetful(SUBSCRIBABLE)
    back: list[LegacySession] = []
    house.pool.on_revived = back.append
    session = await house.subscribed(key("a"))
    ours = await house.pool.get(OUR_OWN)
    await settle()
    house.is_up = False
    before, house.restarted = house.restarted, asyncio.Event()
    before.set()  # the connection is lost, and for a while the upstream with it
    await pass_time(10)
    assert house.exchange.asked("resources/subscribe") == []
    house.is_up = True
    await pass_time(60)
    assert len(house.exchange.asked("GET")) == 4
    assert house.session(key("a")) is session
    # It may be one that knows sessions by their tokens, and nothing else of them.
    assert len(house.exchange.asked("resources/subscribe")) == 1
    assert session.subscribed == {"a://b": 1}
    assert house.heard == [ResourceUpdated("up", "a://b")]
    assert back == [ours]
    await house.pool.close()
    await house.supervisor.close()


# --- news of roots


def telling_key(name: str, session: str | None = None) -> SessionKey:
    return SessionKey(name.encode(), EVERYTHING.bits, session)


TOLD = "notifications/roots/list_changed"


def declared_roots(house: House) -> list[Any]:
    return [r.params["capabilities"].get("roots") for r in house.exchange.asked("initialize")]


async def test_news_of_roots_are_told_in_the_sessions_of_their_client_alone() -> None:
    house = House()
    house.exchange.handlers[TOLD] = lambda _: Response(202)
    for name, front in (("a", "front-1"), ("a", "front-2"), ("b", "front-3"), ("a", None)):
        await house.pool.get(telling_key(name, front))
    house.pool.tell_roots_changed("front-2")
    house.pool.tell_roots_changed("front-9")
    await asyncio.wait(house.supervisor.tasks)
    assert [r.headers["mcp-session-id"] for r in house.exchange.asked(TOLD)] == ["s-2"]
    changing, silent = {"listChanged": True}, {}  # type: ignore[var-annotated]
    assert declared_roots(house) == [changing, changing, changing, silent]


@pytest.mark.parametrize("mode", ["principal", "shared", "request"])
async def test_no_news_of_roots_are_promised_where_none_are_told(mode: Any) -> None:
    house = House(mode=mode)

    async def work(_: LegacySession) -> None:
        house.pool.tell_roots_changed("front-1")

    await house.pool.use(telling_key("a", "front-1"), work)
    await asyncio.sleep(0)
    assert declared_roots(house) == [{}]
    assert not house.exchange.asked(TOLD)


async def test_who_differs_in_news_of_roots_only_shares_a_session_where_none_are_told() -> None:
    house = House()
    silent = EVERYTHING.without_roots_changed().bits
    first = await house.pool.get(telling_key("a"))
    assert await house.pool.get(SessionKey(b"a", silent)) is first


async def test_roots_that_change_while_a_session_opens_are_told_once_it_is_open() -> None:
    house = House()
    house.exchange.handlers[TOLD] = lambda _: Response(202)
    house.gate = asyncio.Event()
    opening = asyncio.get_running_loop().create_task(house.pool.get(telling_key("a", "front-1")))
    await asyncio.sleep(0)
    house.pool.tell_roots_changed("front-1")
    house.gate.set()
    await opening
    await asyncio.wait(house.supervisor.tasks)
    assert len(house.exchange.asked(TOLD)) == 1


async def test_a_lost_session_is_told_nothing_of_roots_and_the_next_one_asks_itself() -> None:
    house = House()
    session = await house.pool.get(telling_key("a", "front-1"))
    session.is_lost = True
    house.pool.tell_roots_changed("front-1")
    await house.pool.get(telling_key("a", "front-1"))
    await asyncio.sleep(0)
    assert not house.exchange.asked(TOLD)


# --- streams somebody waits for


@virtual_time
async def test_the_stream_of_a_session_is_read_once_its_client_was_sent_to_a_url() -> None:
    house = House()
    house.exchange.handlers["GET"] = lambda _: Response(405)
    session = await house.pool.get(key("a", "front-1"))
    assert not house.exchange.asked("GET")
    house.connector.on_awaiting(session)
    house.connector.on_awaiting(session)
    await settle()
    house.connector.on_awaiting(session)  # there is none, and that is remembered
    await settle()
    (request,) = house.exchange.asked("GET")
    assert request.headers["mcp-session-id"] == "s-1"
    await house.pool.close()


async def test_no_stream_is_read_of_a_session_that_is_over_or_in_a_house_that_closes() -> None:
    class Closed(TaskGroupSupervisor):
        def start(self, coroutine: Any, *, name: str) -> Any:
            coroutine.close()
            raise LimitError("the server stops")

    house = House()
    session = await house.pool.get(key("a", "front-1"))
    house.pool._supervisor = Closed()
    house.connector.on_awaiting(session)
    house.pool.forget("front-1")
    house.pool._supervisor = house.supervisor
    house.connector.on_awaiting(session)
    await asyncio.sleep(0)
    assert not house.exchange.asked("GET")


# --- what most calls find


async def test_an_open_session_is_at_hand_for_its_own_and_no_other() -> None:
    house = House()
    assert house.pool.at_hand(key("a")) is None
    session = await house.pool.get(key("a"))
    house.now += 5
    assert house.pool.at_hand(key("a")) is session
    assert session.used_at_s == house.now
    assert house.pool.at_hand(key("b")) is None
    assert house.pool.at_hand(key("a", "front")) is None
    session.is_lost = True
    assert house.pool.at_hand(key("a")) is None


async def test_no_session_is_at_hand_while_it_opens_or_where_each_call_has_its_own() -> None:
    house = House()
    house.gate = asyncio.Event()
    async with asyncio.timeout(2), asyncio.TaskGroup() as group:
        opening = group.create_task(house.pool.get(key("a")))
        await asyncio.sleep(0)
        assert house.pool.at_hand(key("a")) is None
        house.gate.set()
    session = opening.result()
    assert house.pool.at_hand(key("a")) is session
    house.connector.is_interactive = True
    assert house.pool.at_hand(key("a")) is None, "it asks: each call alone"
    front = await house.pool.get(key("a", "front"))
    assert house.pool.at_hand(key("a", "front")) is front
    once = House(mode="request")
    await once.pool.get(key("a"))
    assert once.pool.at_hand(key("a")) is None


async def test_a_shared_session_that_asks_is_at_hand_for_nobody() -> None:
    house = House(mode="shared")
    session = await house.pool.get(key("a"))
    assert house.pool.at_hand(key("b", "front")) is session
    house.connector.is_interactive = True
    assert house.pool.at_hand(key("b", "front")) is None
