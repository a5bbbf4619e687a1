"""The host of processes: who shares what, who may come in, and what ends with whom."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.support.dialogues import person
from tests.support.hosted import CONFIG, KEY, Caller, call_of, stage, until
from tests.support.scripted import form, text
from tests.support.virtual_time import settle
from waygate_mcp.errors import LimitError, TooLargeError, UpstreamError, UpstreamUnavailableError
from waygate_mcp.model.call import Answer, Call, Outcome
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import Event, ListChanged, ResourceUpdated
from waygate_mcp.upstreams import host_frames as frames
from waygate_mcp.upstreams import hosting as module
from waygate_mcp.upstreams.host_frames import FrameStream


async def test_workers_share_one_upstream_which_closes_with_the_last() -> None:
    async with stage() as there:
        async with there.worker() as first:
            async with there.worker() as second:
                there.upstream.tool("who", lambda call: text(call.principal.id))
                answers = await asyncio.gather(
                    first.call(call_of("who", who=person("alice"))),
                    second.call(call_of("who", who=person("bob"))),
                )
                assert list(answers) == [text("key:alice"), text("key:bob")]
                assert there.opened == 1
            await until(lambda: there.host._connections == 1)
            assert there.closed == 0
        await until(lambda: there.closed == 1)
        assert len(there.shared) == 0


async def test_another_configuration_is_another_upstream() -> None:
    async with stage() as there, there.worker():
        other = msgspec.structs.replace(CONFIG, args=("again",))
        async with there.worker(config=other):
            assert there.opened == 2


async def test_many_who_come_at_once_open_it_once() -> None:
    async with stage() as there:
        there.may_open.clear()

        async def use() -> None:
            async with there.worker():
                pass

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(use())
            await until(lambda: there.host._connections == 3)
            there.may_open.set()
        assert there.opened == 1


async def test_one_that_failed_to_open_is_tried_again_by_the_next() -> None:
    async with stage() as there:
        there.problem = UpstreamUnavailableError("box", "no such file")
        with pytest.raises(UpstreamUnavailableError):
            async with there.worker():
                pass
        there.problem = None
        async with there.worker():
            assert there.opened == 1


async def test_an_opening_nobody_waits_for_is_given_up() -> None:
    async with stage() as there:
        there.may_open.clear()

        async def use() -> None:
            async with there.shared.use("box", CONFIG, lambda _event: None):
                pass

        using = asyncio.get_running_loop().create_task(use())
        await until(lambda: len(there.shared) == 1)
        using.cancel()
        await asyncio.wait({using})
        await until(lambda: len(there.shared) == 0)
        assert there.opened == 0


async def test_calls_of_a_worker_that_is_gone_are_cancelled() -> None:
    async with stage() as there:
        ended: list[str] = []

        async def waits(_call: Call) -> Outcome:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")
            return text("")

        async with there.worker() as staying:
            there.upstream.tool("wait", waits)
            there.upstream.tool("greet", lambda call: text("hello"))
            async with there.worker() as leaving:
                call = asyncio.get_running_loop().create_task(leaving.call(call_of("wait")))
                await until(lambda: bool(there.upstream.calls))
            await until(lambda: ended == ["cancelled"])
            await asyncio.wait({call})
            call.exception()
            assert await staying.call(call_of("greet")) == text("hello")


async def test_a_bug_is_an_error_to_the_worker_and_a_line_in_the_log() -> None:
    async with stage() as there, there.worker() as upstream:

        async def breaks(_call: Call) -> Outcome:
            raise ZeroDivisionError

        there.upstream.tool("break", breaks)
        with pytest.raises(UpstreamError, match="host of processes"):
            await upstream.call(call_of("break"))


async def test_an_answer_too_large_for_a_frame_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage() as there, there.worker() as upstream:
        there.upstream.tool("large", lambda call: text("x" * 10_000))
        monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 5_000)
        with pytest.raises(TooLargeError):
            await upstream.call(call_of("large"))


async def test_a_worker_may_have_so_many_calls_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_UNDER_WAY", 0)
    async with stage() as there, there.worker() as upstream:
        with pytest.raises(LimitError):
            await upstream.call(call_of("greet"))


async def test_so_many_connections_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_CONNECTIONS", 1)
    async with stage() as there, there.worker():
        with pytest.raises(UpstreamError):
            async with there.worker():
                pass


async def test_a_host_that_stops_takes_nobody() -> None:
    async with stage() as there:
        await there.supervisor.close()
        reader, _ = await there.dial()
        assert await reader.read() == b""


async def test_who_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_FRAME_S", 0.01)
    async with stage() as there:
        reader, _ = await there.dial()
        assert await reader.read() == b""
        assert there.opened == 0


@pytest.mark.parametrize("first", [b"\0\0\0\x01\xc1", b""])
async def test_who_says_something_else_first_is_let_go(first: bytes) -> None:
    async with stage() as there:
        reader, writer = await there.dial()
        if first:
            writer.write(first)
        else:
            FrameStream(reader, writer, "box", frames.FromHost).put(frames.Cancel(1))
        assert await reader.read() == b""


async def test_answers_and_cancellations_for_nobody_are_dropped() -> None:
    async with stage() as there, there.worker() as upstream:
        link = upstream._link
        assert link is not None
        link.stream.put(frames.Cancel(99))
        link.stream.put(frames.Answered(99, 1, Answer(b"{}")))

        async def asks(call: Call) -> Outcome:
            await call.caller.ask(form())
            (number,) = (n for n in link.queues)
            link.stream.put(frames.Answered(number, 99, Answer(b"{}")))
            await settle(200)
            return text("done")

        there.upstream.tool("ask", asks)
        assert await upstream.call(call_of("ask", Caller(Answer(b"{}")))) == text("done")


async def test_a_worker_that_does_not_read_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_UNWRITTEN_BYTES", -1)
    heard: list[Event] = []
    async with stage() as there, there.worker(heard) as upstream:
        there.upstream.announce(ListChanged("box", Kind.TOOL))
        await until(lambda: upstream._link is not None and upstream._link.is_lost)
        assert not heard


async def test_news_too_long_for_a_frame_is_not_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Event] = []
    async with stage() as there, there.worker(heard):
        monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 100)
        there.upstream.announce(ResourceUpdated("box", "memo://" + "x" * 200))
        assert "too long" in caplog.text
        there.upstream.announce(ResourceUpdated("box", "memo://a"))
        await until(lambda: heard == [ResourceUpdated("box", "memo://a")])


async def test_a_new_upstream_is_hidden_in_the_log_where_it_must_be() -> None:
    async with stage() as there:
        opening = frames.Open(KEY, "box", CONFIG, ("abcdefgh",))
        reader, writer = await there.dial()
        FrameStream(reader, writer, "box", frames.FromHost).put(opening)
        await until(lambda: there.hidden == ["abcdefgh"])
