"""A worker's side of the host of processes: calls, questions, lists, and a host that dies."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.support.hosted import CONFIG, FORMS, KEY, Caller, call_of, stage, until
from tests.support.scripted import content_of, form, text
from tests.support.virtual_time import settle
from waygate_mcp.errors import (
    CapabilityMissingError,
    InterruptedCallError,
    RpcError,
    UnknownNameError,
    UpstreamProtocolError,
    UpstreamUnavailableError,
)
from waygate_mcp.model.call import Answer, Call, InputRequired, LogEvent, Outcome, Progress
from waygate_mcp.model.catalog import Kind, Viewer
from waygate_mcp.model.event import ElicitationCompleted, Event, ListChanged, ResourceUpdated
from waygate_mcp.model.principal import LOCAL
from waygate_mcp.upstreams import host_frames as frames
from waygate_mcp.upstreams import hosted as module
from waygate_mcp.upstreams.hosted import hosted_by

VIEWER = Viewer(LOCAL, FORMS)


async def waits(_call: Call) -> Outcome:
    await asyncio.Event().wait()
    return text("waited")


async def test_what_the_upstream_can_do_is_known_once_it_is_open() -> None:
    async with stage() as there, there.worker() as upstream:
        assert upstream.features == there.upstream.features
        assert upstream.instructions == "Be kind."
        assert (upstream.eras, upstream.revision) == (("legacy",), "2025-11-25")


async def test_a_call_is_answered_and_tells_how_the_upstream_is() -> None:
    async with stage() as there, there.worker() as upstream:
        there.upstream.tool("greet", lambda call: text(f"hello {call.principal.id}"))
        assert upstream.is_interactive is False
        assert await upstream.call(call_of("greet")) == text("hello key:alice")
        assert (upstream.is_interactive, upstream.refused_questions) == (True, 3)


async def test_errors_are_raised_here_as_there() -> None:
    async with stage() as there, there.worker() as upstream:

        async def refuses(_call: Call) -> Outcome:
            raise RpcError(-32050, "no", b"{}")

        there.upstream.tool("refuse", refuses)
        with pytest.raises(RpcError) as caught:
            await upstream.call(call_of("refuse"))
        assert (caught.value.rpc_code, caught.value.data) == (-32050, b"{}")
        with pytest.raises(UnknownNameError):
            await upstream.call(call_of("none"))


async def test_events_and_the_end_of_the_stream_reach_the_caller_in_order() -> None:
    async with stage() as there, there.worker() as upstream:
        events: list[Progress | LogEvent] = [
            Progress(1),
            LogEvent("info", b'"a"'),
            Progress(2, 2.0, "done"),
        ]

        async def tells(call: Call) -> Outcome:
            assert call.caller.log_level == "debug"
            for event in events:
                await call.caller.emit(event)
            await call.caller.close_stream()
            return text("told")

        there.upstream.tool("tell", tells)
        caller = Caller()
        await upstream.call(call_of("tell", caller))
        assert (caller.events, caller.closed) == (events, 1)


async def test_a_question_travels_to_the_client_and_its_answer_back() -> None:
    async with stage() as there, there.worker() as upstream:

        async def asks(call: Call) -> Outcome:
            first, second = await asyncio.gather(
                call.caller.ask(form("A?")), call.caller.ask(form("B?"))
            )
            return text(f"{content_of(first)} {content_of(second)}")

        there.upstream.tool("ask", asks)
        caller = Caller(Answer(b'{"action":"accept","content":{"name":"Ada"}}'))
        answer = await upstream.call(call_of("ask", caller))
        assert answer == text("{'name': 'Ada'} {'name': 'Ada'}")
        assert len(caller.asked) == 2


async def test_a_question_nobody_can_be_asked_fails_there() -> None:
    async with stage() as there, there.worker() as upstream:

        async def asks(call: Call) -> Outcome:
            with pytest.raises(CapabilityMissingError) as caught:
                await call.caller.ask(form())
            return text(str(caught.value.required))

        there.upstream.tool("ask", asks)
        caller = Caller(CapabilityMissingError({"elicitation": {}}))
        assert await upstream.call(call_of("ask", caller)) == text("{'elicitation': {}}")


async def test_a_question_the_upstream_gives_up_is_given_up_here() -> None:
    async with stage() as there, there.worker() as upstream:

        async def asks(call: Call) -> Outcome:
            try:
                async with asyncio.timeout(0.02):
                    await call.caller.ask(form())
            except TimeoutError:
                await until(lambda: caller.given_up == 1)
            return text("gave up")

        there.upstream.tool("ask", asks)
        caller = Caller()
        assert await upstream.call(call_of("ask", caller)) == text("gave up")


async def test_a_question_does_not_outlive_its_call() -> None:
    async with stage() as there, there.worker() as upstream:

        async def asks(call: Call) -> Outcome:
            there.supervisor.start(_ask(call), name="stray")
            await until(lambda: bool(caller.asked))
            return text("done")

        async def _ask(call: Call) -> None:
            await call.caller.ask(form())

        there.upstream.tool("ask", asks)
        caller = Caller()
        await upstream.call(call_of("ask", caller))
        assert caller.given_up == 1


async def test_a_call_that_keeps_nothing_wants_input() -> None:
    async with stage() as there, there.worker() as upstream:
        wanted = InputRequired({"k": form()}, "state")
        there.upstream.tool("ask", lambda call: wanted)
        assert await upstream.call(call_of("ask")) == wanted


async def test_a_cancelled_call_is_cancelled_there() -> None:
    async with stage() as there, there.worker() as upstream:
        ended: list[str] = []

        async def notes(_call: Call) -> Outcome:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")
            return text("")

        there.upstream.tool("wait", notes)
        call = asyncio.get_running_loop().create_task(upstream.call(call_of("wait")))
        await until(lambda: bool(there.upstream.calls))
        call.cancel()
        await asyncio.wait({call})
        await until(lambda: ended == ["cancelled"])


async def test_a_list_is_read_and_its_version_is_another_after_the_host_died() -> None:
    async with stage() as there, there.worker() as upstream:
        there.upstream.tool("greet")
        first = await upstream.listing(Kind.TOOL, VIEWER)
        assert [entry.name for entry in first.entries] == ["greet"]
        there.die()
        await until(lambda: upstream._link is not None and upstream._link.is_lost)
        second = await upstream.listing(Kind.TOOL, VIEWER)
        assert second.entries == first.entries
        assert second.version != first.version


async def test_a_list_nobody_waits_for_is_cancelled_there() -> None:
    async with stage() as there, there.worker() as upstream:
        there.upstream.pause = asyncio.Event()
        reading = asyncio.get_running_loop().create_task(upstream.listing(Kind.TOOL, VIEWER))
        await until(lambda: there.upstream.listed == 1)
        reading.cancel()
        await asyncio.wait({reading})
        await until(lambda: not any("call:box" in t.get_name() for t in asyncio.all_tasks()))


async def test_a_list_that_is_no_list_is_the_hosts_fault() -> None:
    async with stage() as there, there.worker() as upstream:
        link = upstream._link
        assert link is not None
        there.upstream.pause = asyncio.Event()
        reading = asyncio.get_running_loop().create_task(upstream.listing(Kind.TOOL, VIEWER))
        await until(lambda: bool(link.queues))
        (queue,) = link.queues.values()
        queue.put_nowait(frames.CloseStream(1))
        with pytest.raises(UpstreamProtocolError):
            await reading


# --- all else an upstream is asked


async def test_a_probe_and_a_list_to_be_read_anew_reach_the_upstream() -> None:
    async with stage() as there, there.worker() as upstream:
        await upstream.probe()
        there.upstream.is_well = False
        with pytest.raises(UpstreamUnavailableError, match="does not answer"):
            await upstream.probe()
        await upstream.refresh(Kind.PROMPT, VIEWER)
        assert there.upstream.refreshed == [(Kind.PROMPT, VIEWER)]


async def test_a_list_that_cannot_be_had_anew_is_no_error_yet() -> None:
    async with stage() as there, there.worker() as upstream:
        there.is_dead = True
        there.die()
        await until(lambda: upstream._link is not None and upstream._link.is_lost)
        await upstream.refresh(Kind.PROMPT, VIEWER)
        upstream.forget_session("s")  # nobody there has anything for it
        upstream.tell_roots_changed("s")
        assert not there.upstream.forgotten


async def test_the_end_of_a_session_reaches_the_upstream() -> None:
    async with stage() as there, there.worker() as upstream:
        upstream.forget_session("s-1")
        await until(lambda: there.upstream.forgotten == ["s-1"])


async def test_changed_roots_of_a_session_reach_the_upstream() -> None:
    async with stage() as there, there.worker() as upstream:
        upstream.tell_roots_changed("s-1")
        await until(lambda: there.upstream.told_of_roots == ["s-1"])


async def test_what_is_learnt_later_of_the_upstream_is_known_here() -> None:
    async with stage() as there, there.worker() as upstream:
        there.upstream.tool("greet")
        there.upstream.eras = ("modern", "legacy")
        await upstream.call(call_of("greet"))
        assert upstream.eras == ("modern", "legacy")


async def test_tasks_are_told_of_until_nobody_wants_to_hear() -> None:
    async with stage() as there, there.worker() as upstream:
        told, ends = list[bytes](), list[str]()
        async with upstream.tell_of_tasks(
            ("a", "b"), told.append, lambda: ends.append("end")
        ) as ids:
            assert ids == {"a"}
            assert there.upstream.watched == [("a", "b")]
            there.upstream.on_task(b'{"taskId":"a"}')
            await until(lambda: told == [b'{"taskId":"a"}'])
        await until(lambda: not there.upstream.watched)
        assert not ends, "who left knows"


async def test_who_hears_of_tasks_is_told_when_no_more_will_come() -> None:
    async with stage() as there, there.worker() as upstream:
        ends: list[str] = []
        async with (
            upstream.tell_of_tasks(("a",), lambda _: None, lambda: ends.append("of the upstream")),
            upstream.tell_of_tasks(("b",), lambda _: None, lambda: ends.append("of the host")),
        ):
            await until(lambda: len(there.upstream.watched) == 2)
            there.upstream.on_end()
            await until(lambda: len(ends) == 1)
            there.die()
            await until(lambda: len(ends) == 2)
        assert set(ends) == {"of the upstream", "of the host"}


async def test_a_host_that_agrees_to_nothing_tells_of_no_tasks() -> None:
    async with stage() as there, there.worker() as upstream:
        link = upstream._link
        assert link is not None
        there.upstream.pause = asyncio.Event()

        async def watch() -> None:
            async with upstream.tell_of_tasks(("a",), lambda _: None, lambda: None):
                pass

        watching = asyncio.get_running_loop().create_task(watch())
        await until(lambda: bool(link.queues))
        (queue,) = link.queues.values()
        queue.put_nowait(frames.CloseStream(1))
        with pytest.raises(UpstreamProtocolError):
            await watching
        assert not link.watches


def about(method: str, session: str) -> Call:
    call = call_of("memo://a")
    return msgspec.structs.replace(call, method=method, session_id=session)


async def test_subscriptions_are_made_again_at_a_new_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.001)
    heard: list[Event] = []
    async with stage() as there, there.worker(heard) as upstream:
        made: list[tuple[str, str | None]] = []

        def note(call: Call) -> Outcome:
            made.append((call.method, call.session_id))
            return text("")

        for method in ("resources/subscribe", "resources/unsubscribe"):
            there.upstream.on(method, "*", note)
        for session in ("stays", "leaves", "is-over"):
            await upstream.call(about("resources/subscribe", session))
        await upstream.call(about("resources/unsubscribe", "leaves"))
        upstream.forget_session("is-over")
        made.clear()
        there.die()
        await until(lambda: ResourceUpdated("box", "memo://a") in heard)
        assert made == [("resources/subscribe", "stays")]


# --- changes


async def test_changes_are_announced_here() -> None:
    heard: list[Event] = []
    async with stage() as there, there.worker(heard):
        told: list[Event] = [
            ListChanged("box", Kind.PROMPT),
            ResourceUpdated("box", "memo://a"),
            ResourceUpdated("box", "memo://a", "s-1"),
            ElicitationCompleted("box", "s-1", "e-1"),
        ]
        for event in told:
            there.upstream.announce(event)
        await until(lambda: len(heard) == len(told))
        assert heard == told


# --- a host that dies


async def test_calls_in_flight_are_interrupted_and_the_next_one_connects_again() -> None:
    async with stage() as there, there.worker() as upstream:
        there.upstream.tool("wait", waits)
        there.upstream.tool("greet", lambda call: text("hello"))
        call = asyncio.get_running_loop().create_task(upstream.call(call_of("wait")))
        await until(lambda: bool(there.upstream.calls))
        there.die()
        with pytest.raises(InterruptedCallError) as caught:
            await call
        assert "outcome is unknown" in caught.value.safe_message
        assert await upstream.call(call_of("greet")) == text("hello")
        assert len(there.lines) == 2


async def test_it_comes_back_by_itself_and_takes_all_lists_for_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.001)
    heard: list[Event] = []
    async with stage() as there, there.worker(heard):
        there.is_dead = True
        there.die()
        await settle(200)  # in which it tries in vain
        assert not heard
        there.is_dead = False
        await until(lambda: len(heard) == len(Kind))
        assert heard == [ListChanged("box", kind) for kind in Kind]


async def test_a_call_while_no_host_is_there_was_not_made() -> None:
    async with stage() as there, there.worker() as upstream:
        there.is_dead = True
        there.die()
        await until(lambda: upstream._link is not None and upstream._link.is_lost)
        with pytest.raises(UpstreamUnavailableError, match="not reached"):
            await upstream.call(call_of("greet"))


async def test_a_host_that_says_nothing_is_waited_for_within_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MARGIN_S", -4.98)
    async with stage() as there:
        there.may_open.clear()
        with pytest.raises(UpstreamUnavailableError, match="in time"):
            async with there.worker():
                pass
        there.may_open.set()


async def test_an_upstream_that_cannot_be_opened_says_why_here() -> None:
    async with stage() as there:
        there.problem = UpstreamUnavailableError("box", "no such file")
        with pytest.raises(UpstreamUnavailableError, match="no such file"):
            async with there.worker():
                pass


async def test_without_the_key_nothing_is_opened() -> None:
    async with stage() as there:
        with pytest.raises(UpstreamUnavailableError, match="ended"):
            async with there.worker(key=b"x" * 32):
                pass
        assert there.opened == 0


async def test_what_was_closed_is_not_opened_again() -> None:
    async with stage() as there:
        async with there.worker() as upstream:
            pass
        with pytest.raises(UpstreamUnavailableError, match="closed"):
            await upstream.call(call_of("greet"))
        await until(lambda: there.closed == 1)


async def test_events_that_come_too_fast_are_dropped_and_the_answer_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MAX_QUEUED", 4)
    async with stage() as there, there.worker() as upstream:
        slow = Caller()
        go_on = asyncio.Event()

        async def emit(event: Progress | LogEvent) -> None:
            await go_on.wait()
            slow.events.append(event)

        slow.emit = emit  # type: ignore[method-assign]  # a client that does not read

        async def tells(call: Call) -> Outcome:
            for number in range(100):
                await call.caller.emit(Progress(number))
            return text("told")

        there.upstream.tool("tell", tells)
        call = asyncio.get_running_loop().create_task(upstream.call(call_of("tell", slow)))
        await until(lambda: bool(there.upstream.calls) and there.host._connections != 0)
        await settle(200)
        go_on.set()
        assert await call == text("told")
        assert 4 <= len(slow.events) < 100


async def test_more_questions_than_are_taken_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with stage() as there, there.worker() as upstream:
        queue: asyncio.Queue[object] = asyncio.Queue(1)
        for _ in range(2):
            upstream._queue(queue, frames.CloseStream(1))
        assert "more than can be taken" in caplog.text


async def test_an_upstream_is_given_back_when_its_user_leaves() -> None:
    async with stage() as there:
        way = hosted_by(there.dial, KEY)("box", CONFIG, there.supervisor)
        heard: list[Event] = []
        async with way(heard.append) as upstream:
            there.upstream.tool("greet", lambda call: text("hello"))
            assert await upstream.call(call_of("greet")) == text("hello")
        await until(lambda: there.closed == 1)
