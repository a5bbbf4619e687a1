"""Legacy sessions: their tokens, whom they serve, how many there are, how they end."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import msgspec
import pytest

from tests.support.dialogues import EVERYTHING, accepted, person, ring
from tests.support.exchanges import Scene, respond
from tests.support.scripted import text
from tests.support.virtual_time import settle, virtual_time
from waygate_mcp.errors import RateLimitedError
from waygate_mcp.gateway.hub import Hub
from waygate_mcp.gateway.places import OwnedElsewhereError, Place
from waygate_mcp.gateway.sessions import Session, SessionLimits, Sessions
from waygate_mcp.gateway.stream_buffer import StreamLimits
from waygate_mcp.model.call import Answer, Call, Outcome
from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.handshake import Hello
from waygate_mcp.protocol.jsonrpc import Message, MessageShape
from waygate_mcp.protocol.versions import LATEST_LEGACY, REVISIONS

ALICE, BOB = person("alice"), person("bob")


class Clock:
    """Both clocks of a process; the wall clock runs ahead by an epoch."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def wall(self) -> float:
        return 1_800_000_000.0 + self.now_s

    def steady(self) -> float:
        return self.now_s


def open_sessions(clock: Clock | None = None, hub: Hub | None = None) -> Sessions:
    clock = clock or Clock()
    return Sessions(ring(), Hub() if hub is None else hub, clock.wall, clock.steady)


def hello(revision: str = LATEST_LEGACY.text, name: str = "test") -> Hello:
    known = REVISIONS[revision]
    capabilities = ClientCapabilities.parse({**EVERYTHING, "extensions": {"x/y": {}}}, known)
    return Hello(known, capabilities, name)


def opened(sessions: Sessions, principal: Principal = ALICE) -> Session:
    return sessions.open(hello(), "default", principal)


def token(session: Session) -> str:
    assert session.token is not None
    return session.token


# --- whom a token serves


async def test_a_session_is_found_by_its_token_for_whom_it_was_opened() -> None:
    clock = Clock()
    sessions = open_sessions(clock)
    session = opened(sessions)
    clock.now_s += 5
    assert sessions.find(token(session), "default", ALICE) is session
    assert session.used_s == clock.now_s
    assert sessions.find(token(session), "default", BOB) is None
    assert sessions.find(token(session), "other", ALICE) is None


async def test_a_text_that_is_no_token_is_unknown() -> None:
    sessions = open_sessions()
    good = token(opened(sessions))
    for text_ in ("", "nonsense", good[:-2], ring().seal(b"\x90", "session"), "é"):
        assert sessions.find(text_, "default", ALICE) is None
    assert sessions.find(ring().seal(b"x", "ticket"), "default", ALICE) is None


async def test_a_token_is_good_for_a_day() -> None:
    clock = Clock()
    sessions = open_sessions(clock)
    session = opened(sessions)
    clock.now_s += 86_400
    assert sessions.find(token(session), "default", ALICE) is session
    clock.now_s += 1
    assert sessions.find(token(session), "default", ALICE) is None


async def test_a_session_is_rebuilt_from_its_token_by_another_process() -> None:
    session = sessions_of_another_process()
    revived = open_sessions().find(token(session), "default", ALICE)
    assert revived is not None
    assert revived is not session
    assert (revived.id, revived.endpoint, revived.revision, revived.client_name) == (
        session.id,
        "default",
        LATEST_LEGACY,
        "test",
    )
    assert revived.capabilities == session.capabilities
    assert revived.capabilities.extensions == ("x/y",)
    assert revived.log_level == "info"


def sessions_of_another_process() -> Session:
    return opened(open_sessions())


async def test_a_foreign_or_expired_token_takes_no_place_in_another_process() -> None:
    clock = Clock()
    hub = Hub()
    sessions = open_sessions(clock, hub)
    foreign = token(sessions_of_another_process())
    assert sessions.find(foreign, "default", BOB) is None
    assert sessions.find(foreign, "other", ALICE) is None
    clock.now_s += 90_000
    assert sessions.find(foreign, "default", ALICE) is None
    assert (len(sessions), len(hub)) == (0, 0)


async def test_a_token_of_a_revision_nobody_knows_any_more_is_unknown() -> None:
    claims = ["id", "default", "1999-01-01", 0, [], ALICE.fingerprint, 2_000_000_000, ""]
    forged = ring().seal(msgspec.msgpack.encode(claims), "session")
    assert open_sessions().find(forged, "default", ALICE) is None


async def test_a_session_of_standard_input_has_no_token() -> None:
    sessions = open_sessions()
    session = sessions.open(hello(), "default", ALICE, with_token=False)
    assert session.token is None
    assert len(sessions) == 0
    sessions.end(session)


async def test_the_name_of_a_client_is_cut() -> None:
    sessions = open_sessions()
    session = sessions.open(hello(name="x" * 128), "default", ALICE)
    assert session.client_name == "x" * 100


# --- the end


async def test_an_ended_session_is_unknown_and_is_not_rebuilt() -> None:
    hub = Hub()
    sessions = open_sessions(hub=hub)
    session = opened(sessions)
    assert len(hub) == 1
    sessions.end(session)
    assert (len(sessions), len(hub)) == (0, 0)
    assert session.listener.is_closed
    assert sessions.find(token(session), "default", ALICE) is None


async def test_ended_sessions_are_remembered_no_longer_than_their_tokens_are_good() -> None:
    clock = Clock()
    sessions = open_sessions(clock)
    sessions.end(opened(sessions))
    clock.now_s += 86_402
    sessions.end(opened(sessions))
    assert len(sessions._ended) == 1


async def test_no_more_ended_sessions_are_remembered_than_there_may_be_open_ones() -> None:
    sessions = open_sessions()
    sessions.limits = SessionLimits(count=2)
    for _ in range(4):
        sessions.end(opened(sessions))
    assert len(sessions._ended) == 2


async def test_at_the_end_of_the_process_all_end_and_their_tokens_stay_good() -> None:
    hub = Hub()
    sessions = open_sessions(hub=hub)
    session = opened(sessions)
    sessions.close()
    assert (len(sessions), len(hub), session.listener.is_closed) == (0, 0, True)
    assert open_sessions().find(token(session), "default", ALICE) is not None


@virtual_time
async def test_the_end_of_a_session_cancels_its_calls() -> None:
    async def for_ever(call: Call) -> Outcome:
        await asyncio.Event().wait()
        return text("never")

    scene = Scene()
    session = scene.session()
    running = scene.begin_legacy(for_ever, session)
    await settle()
    scene.live.sessions.end(session)
    assert await running.front.over() is None


@virtual_time
async def test_a_call_is_cancelled_by_the_very_id_it_came_with() -> None:
    async def for_ever(call: Call) -> Outcome:
        await asyncio.Event().wait()
        return text("never")

    scene = Scene()
    session = scene.session()
    running = scene.begin_legacy(for_ever, session, identifier=1)
    await settle()
    for other in ("1", 2, True, None, [1], {"id": 1}):
        session.cancel_call(other, "wrong id")
    await settle()
    assert not running.front.finals
    session.cancel_call(1, "right id")
    assert await running.front.over() is None


# --- how many


async def test_an_idle_session_makes_room_and_is_rebuilt_when_it_comes_back() -> None:
    clock = Clock()
    hub = Hub()
    sessions = open_sessions(clock, hub)
    sessions.limits = SessionLimits(idle_s=60)
    idle, busy = opened(sessions), opened(sessions)
    busy.take_over_reading()
    idle.log_level = "error"
    clock.now_s += 61
    opened(sessions)
    assert (len(sessions), len(hub)) == (2, 2)
    assert sessions.find(token(busy), "default", ALICE) is busy
    revived = sessions.find(token(idle), "default", ALICE)
    assert revived is not None
    assert revived is not idle
    assert revived.log_level == "info"


async def test_a_session_in_use_keeps_its_place_however_long() -> None:
    clock = Clock()
    sessions = open_sessions(clock)
    sessions.limits = SessionLimits(idle_s=60)
    used = opened(sessions)
    clock.now_s += 59
    sessions.find(token(used), "default", ALICE)
    clock.now_s += 59
    opened(sessions)
    assert sessions.find(token(used), "default", ALICE) is used


async def test_when_all_places_are_taken_the_oldest_that_is_not_busy_makes_room() -> None:
    sessions = open_sessions()
    sessions.limits = SessionLimits(count=2)
    first, second = opened(sessions), opened(sessions)
    first.take_over_reading()
    third = opened(sessions)
    assert len(sessions) == 2
    assert sessions.find(token(first), "default", ALICE) is first
    assert second.listener.is_closed
    third.calls[1] = None  # type: ignore[assignment]  # a call is under way
    with pytest.raises(RateLimitedError) as caught:
        opened(sessions)
    assert caught.value.retry_after_s == 30
    with pytest.raises(RateLimitedError):
        sessions.find(token(second), "default", ALICE)


# --- its streams


def limited(**limits: Any) -> Session:
    sessions = open_sessions()
    sessions.stream_limits = StreamLimits(**limits)
    return opened(sessions)


async def test_a_stream_is_found_by_the_id_of_any_of_its_events() -> None:
    session = limited()
    stream = session.open_stream(0)
    assert session.find_stream(f"{stream.stream_id}-7") == (stream, 7)
    assert session.find_stream("unknown-1") is None
    assert session.find_stream("nonsense") is None


async def test_a_session_has_one_stream_of_its_own_told_from_those_of_calls_by_its_id() -> None:
    session = limited()
    own, call = session.stand(0), session.open_stream(0)
    assert session.stand(5) is own
    assert not session.is_of_call(own.priming_id)
    assert session.is_of_call(call.priming_id)


async def test_finished_streams_are_forgotten_in_time_and_the_others_stay() -> None:
    session = limited(age_s=10)
    own, call, over = session.stand(0), session.open_stream(0), session.open_stream(0)
    over.complete(0)
    session.open_stream(10.5)
    assert session.find_stream(over.priming_id) is None
    assert session.find_stream(own.priming_id)
    assert session.find_stream(call.priming_id)


async def test_of_many_streams_the_oldest_finished_ones_make_room_and_no_other() -> None:
    session = limited()
    running = session.open_stream(0)
    finished = [session.open_stream(0) for _ in range(63)]
    for stream in finished:
        stream.complete(0)

    async def write(event_id: str, message: bytes) -> None:
        raise AssertionError

    finished[0].attach(write)  # somebody reads its last events
    session.open_stream(1)
    session.open_stream(1)
    assert session.find_stream(running.priming_id)
    assert session.find_stream(finished[0].priming_id)
    gone = [stream for stream in finished if session.find_stream(stream.priming_id) is None]
    assert gone == finished[1:3]


async def test_a_newer_reader_takes_over_and_the_older_is_told() -> None:
    session = limited()
    told: list[str] = []
    first = session.take_over_reading()
    first.on_replaced = lambda: told.append("first")
    second = session.take_over_reading()
    assert told == ["first"]
    session.stop_reading(first)
    busy = [session.is_busy]
    session.stop_reading(second)
    busy.append(session.is_busy)
    assert busy == [True, False]
    session.take_over_reading()
    session.take_over_reading()  # one that does not want to be told is not


# --- what it wants to hear, and what it answers


async def test_a_session_subscribes_to_a_thousand_resources_and_no_more() -> None:
    session = limited()
    for number in range(1_000):
        session.subscribe(f"memo://{number}")
    session.subscribe("memo://7")
    with pytest.raises(RateLimitedError):
        session.subscribe("memo://one-more")


async def test_an_answer_is_cut_from_the_body_as_it_was_written() -> None:
    session = limited()
    future = session.questions["q"] = asyncio.get_running_loop().create_future()
    body = b'{"jsonrpc":"2.0","id":"q","result":{"a": 1.50}}'
    message = Message(MessageShape.RESPONSE, "q", result={"a": 1.5})
    assert session.answer(message, body)
    assert future.result().result == b'{"a": 1.50}'


async def test_an_answer_in_a_batch_is_written_anew() -> None:
    session = limited()
    future = session.questions["q"] = asyncio.get_running_loop().create_future()
    message = Message(MessageShape.RESPONSE, "q", result={"a": 1.5})
    assert session.answer(message, b'[{"jsonrpc":"2.0","id":"q","result":{"a": 1.50}}]')
    assert future.result().result == b'{"a":1.5}'


@pytest.mark.parametrize(
    ("body", "data"),
    [
        (b'{"id":"q","error":{"code":-1,"message":"no","data":{"n": 1.10}}}', b'{"n": 1.10}'),
        (b'[{"id":"q","error":{"code":-1,"message":"no","data":{"n": 1.10}}}]', b'{"n":1.1}'),
        (b'{"id":"q","error":{"code":-1,"message":"no"}}', None),
    ],
)
async def test_what_a_client_says_besides_of_an_error_is_kept(
    body: bytes, data: bytes | None
) -> None:
    session = limited()
    future = session.questions["q"] = asyncio.get_running_loop().create_future()
    error = {"code": -1, "message": "no"} | ({} if data is None else {"data": {"n": 1.1}})
    assert session.answer(Message(MessageShape.RESPONSE, "q", error=error), body)
    assert future.result() == Answer(None, -1, "no", data)


async def test_an_error_without_words_is_an_error_all_the_same() -> None:
    session = limited()
    future = session.questions["q"] = asyncio.get_running_loop().create_future()
    assert respond(session, {"id": "q"}, code=-1, message=7)
    assert (future.result().error_code, future.result().error_message) == (-1, "")


async def test_an_answer_nobody_waits_for_is_dropped() -> None:
    session = limited()
    assert not respond(session, {"id": "q"}, accepted())
    assert not session.answer(Message(MessageShape.RESPONSE), b"")
    future = session.questions["q"] = asyncio.get_running_loop().create_future()
    future.cancel()
    assert not respond(session, {"id": "q"}, accepted())


async def test_whoever_holds_something_for_a_session_hears_of_its_end() -> None:
    clock = Clock()
    sessions = open_sessions(clock)
    sessions.limits = SessionLimits(idle_s=60)
    over: list[Session] = []
    sessions.on_end = over.append
    ended, forgotten = opened(sessions), opened(sessions)
    local = sessions.open(hello(), "default", ALICE, with_token=False)
    sessions.end(ended)
    sessions.end(local)
    clock.now_s += 61
    opened(sessions)
    assert over == [ended, local, forgotten]
    sessions.close()  # the process ends, and all connections with it
    assert len(over) == 3


# --- several workers


def neighbours(hub: Hub | None = None) -> tuple[Sessions, Sessions]:
    """The sessions of two workers; the second may be given the hub its listeners join."""
    clock = Clock()
    hubs = (Hub(), Hub() if hub is None else hub)
    first, second = (
        Sessions(ring(), one, clock.wall, clock.steady, Place(slot, 2))
        for slot, one in enumerate(hubs)
    )
    return first, second


def test_a_session_of_another_worker_is_not_brought_to_life_here() -> None:
    first, second = neighbours()
    session = opened(first)
    with pytest.raises(OwnedElsewhereError) as caught:
        second.find(token(session), "default", ALICE)
    assert caught.value.slot == 0
    assert len(second) == 0
    assert second.find(token(session), "default", BOB) is None, "foreign equals unknown"


def test_where_its_worker_is_gone_it_is_served_here_and_still_not_ours() -> None:
    first, second = neighbours()
    session = opened(first)
    revived = second.find(token(session), "default", ALICE, here=True)
    assert revived is not None
    assert second.find(token(session), "default", ALICE, here=True) is revived
    with pytest.raises(OwnedElsewhereError):
        second.find(token(session), "default", ALICE)
    assert second.find(token(session), "default", BOB) is None


def test_a_token_of_a_slot_there_is_no_more_belongs_to_one_there_is() -> None:
    clock = Clock()
    third = Sessions(ring(), Hub(), clock.wall, clock.steady, Place(2, 3))
    alone = open_sessions(clock)
    assert alone.find(token(opened(third)), "default", ALICE) is not None


def test_a_session_that_is_ended_is_told_of_and_over_everywhere() -> None:
    hub = Hub()
    first, second = neighbours(hub)
    session = opened(first)
    assert second.find(token(session), "default", ALICE, here=True) is not None
    opened(second)
    there, here = list[Session](), list[Session]()
    first.on_end, second.on_end = there.append, here.append
    first.end(session)
    assert there == [session]
    assert session.is_over
    second.end_elsewhere(session.id, session.expires_at)
    assert [(one.id, one.is_over, one.is_ours) for one in here] == [(session.id, False, False)]
    assert second.find(token(session), "default", ALICE, here=True) is None
    assert (len(second), len(hub)) == (1, 1), "the other session stays"


async def test_sessions_are_given_back_to_a_worker_that_is_there_again() -> None:
    hub = Hub()
    first, second = neighbours(hub)
    idle, busy, own = opened(first), opened(first), opened(second)
    kept = [second.find(token(one), "default", ALICE, here=True) for one in (idle, busy)]
    assert kept[0] is not None
    assert kept[1] is not None
    replaced: list[str] = []
    for name, session in (("idle", kept[0]), ("busy", kept[1]), ("own", own)):
        session.take_over_reading().on_replaced = partial(replaced.append, name)
    kept[1].calls[1] = object()  # type: ignore[assignment]  # a call under way
    over: list[Session] = []
    second.on_end = over.append
    second.give_back(1)
    assert not replaced
    second.give_back(0)
    assert replaced == ["idle", "busy"]
    assert over == [kept[0]]
    assert not kept[0].is_over, "it goes on elsewhere"
    assert len(second) == 2, "one has a call under way, one is ours"
    assert not own.listener.is_closed
    kept[1].calls.clear()


def test_nobody_is_dismissed_where_nobody_reads() -> None:
    session = opened(open_sessions())
    session.dismiss_reader()
    session.take_over_reading()
    session.dismiss_reader()
