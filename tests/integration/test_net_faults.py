"""Upstreams that misbehave, on real sockets and both event loops: each failure is bounded and named."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from waygate_mcp.errors import (
    TooLargeError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
    WaygateError,
)
from waygate_mcp.net.dial import NetworkPolicy
from waygate_mcp.net.http import read_body
from waygate_mcp.net.pool import PoolCounts, PoolLimits
from waygate_mcp.net.pooled import PooledTransport
from waygate_mcp.net.urls import parse_target

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LIMIT = 1 << 20
MUCH = 100 << 20
Loop = Callable[[], asyncio.AbstractEventLoop]
Story = Callable[[], Coroutine[Any, Any, None]]
Say = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

LOOPS: list[Loop] = [asyncio.new_event_loop, uvloop.new_event_loop]
on_both_loops = pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])


def run(story: Coroutine[Any, Any, None], loop: Loop) -> None:
    """Run a story in at most ten seconds, and see that it leaves no task behind."""

    async def bounded() -> None:
        async with asyncio.timeout(10):
            await story
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(bounded())


class Peer:
    """A server that takes a request and then does as it is told; counts what it could send."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.sent_bytes = 0
        self.requests = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0] or 0)
                await reader.readexactly(size)
                self.requests += 1
                await self._say(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.tasks.discard(task)

    async def pour(self, writer: asyncio.StreamWriter, piece: bytes, until: int = MUCH) -> None:
        """Send `piece` again and again."""
        while self.sent_bytes < until:
            writer.write(piece)
            await writer.drain()
            self.sent_bytes += len(piece)


@asynccontextmanager
async def facing(
    say: Callable[[Peer, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    **limits: float,
) -> AsyncIterator[tuple[PooledTransport, Peer]]:
    """Open a transport to a peer; at the end every connection is gone on both sides."""
    peer = Peer(lambda reader, writer: say(peer, reader, writer))
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    target = parse_target(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    policy = NetworkPolicy.for_document(target)
    async with server:
        async with PooledTransport(
            target,
            "up",
            policy,
            limits=PoolLimits(**limits),  # type: ignore[arg-type]
        ) as transport:
            yield transport, peer
            assert transport.counts.busy == transport.counts.streams == 0
        if peer.tasks:
            await asyncio.wait(set(peer.tasks), timeout=5)
        assert not peer.tasks


async def post(transport: PooledTransport) -> bytes:
    async with transport.request("POST", "/mcp", [], b"{}") as response:
        return await read_body(response, LIMIT)


def saying(*pieces: bytes, closes: bool = True) -> Any:
    """Say pieces one after another, then close or not."""

    async def say(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.005)
        if closes:
            writer.close()

    return say


def pouring(head: bytes, piece: bytes) -> Any:
    """Say a head, then a piece without end."""

    async def say(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await peer.pour(writer, piece)
        writer.close()

    return say


async def resetting(peer: Peer, reader: Any, writer: asyncio.StreamWriter) -> None:
    """Say half a body, then reset the connection."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
    await writer.drain()
    await asyncio.sleep(0.01)
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


FAULTS: dict[str, tuple[Any, type[WaygateError]]] = {
    "garbage": (saying(b"\x00\xff not http at all\r\n\r\n"), UpstreamProtocolError),
    "another protocol": (saying(b"SSH-2.0-x\r\n"), UpstreamProtocolError),
    "closes without a word": (saying(), UpstreamProtocolError),
    "half a head": (saying(b"HTTP/1.1 200 OK\r\ncontent-"), UpstreamProtocolError),
    "closes after the head": (
        saying(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"),
        UpstreamProtocolError,
    ),
    "half a chunk": (saying(CHUNKED, b"a\r\nhalf"), UpstreamProtocolError),
    "a length too long": (
        saying(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhi"),
        UpstreamProtocolError,
    ),
    "reset in mid-body": (resetting, UpstreamProtocolError),
    "endless headers": (pouring(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 100), UpstreamProtocolError),
    "an endless header": (pouring(b"HTTP/1.1 200 OK\r\nx: ", b"y" * 9999), UpstreamProtocolError),
    "endless interim answers": (
        pouring(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 99),
        UpstreamProtocolError,
    ),
    "an endless chunk extension": (pouring(CHUNKED + b"1;", b"x" * 9999), UpstreamProtocolError),
    "endless trailers": (
        pouring(CHUNKED + b"2\r\nhi\r\n0\r\n", b"x: y\r\n" * 99),
        UpstreamProtocolError,
    ),
    "a line of 100 MB": (
        pouring(b"HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n", b"x" * 65536),
        TooLargeError,
    ),
    "an endless body": (pouring(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536), TooLargeError),
    "a flood of tiny chunks": (pouring(CHUNKED, b"1\r\nx\r\n" * 5000), TooLargeError),
}


@on_both_loops
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_ends_its_own_call_alone(fault: str, loop: Loop) -> None:
    say, expected = FAULTS[fault]

    async def story() -> None:
        async with facing(say, head_s=2, silence_s=2) as (transport, peer):
            with pytest.raises(expected):
                await post(transport)
            assert peer.requests == 1, "a POST is never sent again"
            # What it could send before we hung up: our limits and the kernel's buffers.
            assert peer.sent_bytes < 24 << 20

    run(story(), loop)


@on_both_loops
@pytest.mark.parametrize("extra", [OK, b"rubbish", b"\r\nHTTP/1.1 500 x\r\n\r\n"])
def test_what_follows_an_answer_never_answers_the_next_call(extra: bytes, loop: Loop) -> None:
    async def say(peer: Peer, reader: Any, writer: asyncio.StreamWriter) -> None:
        body = b"%03d" % peer.requests
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n" + body + extra)

    async def story() -> None:
        async with facing(say) as (transport, _):
            assert [await post(transport) for _ in range(5)] == [
                b"001",
                b"002",
                b"003",
                b"004",
                b"005",
            ]
            assert transport.counts.opened == 5

    run(story(), loop)


@on_both_loops
def test_an_answer_sent_between_two_calls_answers_neither(loop: Loop) -> None:
    async def say(peer: Peer, reader: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await writer.drain()
        if peer.requests == 1:
            await asyncio.sleep(0.02)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstray")

    async def story() -> None:
        async with facing(say) as (transport, _):
            assert await post(transport) == b"hi"
            await asyncio.sleep(0.06)
            assert transport.counts.idle == 0
            assert await post(transport) == b"hi"

    run(story(), loop)


@on_both_loops
def test_a_connection_closed_while_idle_fails_no_call(loop: Loop) -> None:
    async def story() -> None:
        async with facing(saying(OK)) as (transport, peer):
            for _ in range(3):
                assert await post(transport) == b"hi"
                await asyncio.sleep(0.02)
            assert (peer.requests, transport.counts.opened) == (3, 3)

    run(story(), loop)


@on_both_loops
def test_a_close_the_loop_has_not_told_us_of_is_seen_at_the_socket(loop: Loop) -> None:
    """The peer's close waits in the kernel while this loop is kept busy."""
    listener = socket.create_server(("127.0.0.1", 0))
    target = parse_target(f"http://127.0.0.1:{listener.getsockname()[1]}/")

    def accept() -> socket.socket:
        one, _ = listener.accept()
        one.settimeout(5)
        one.recv(65536)
        one.sendall(OK)
        return one

    async def story() -> None:
        policy = NetworkPolicy.for_document(target)
        async with PooledTransport(target, "up", policy) as transport:
            first = asyncio.to_thread(accept)
            answered, one = await asyncio.gather(post(transport), first)
            one.close()  # and no await until the next request is written
            second = asyncio.get_running_loop().run_in_executor(None, accept)
            assert await post(transport) == answered == b"hi"
            (await second).close()

    with listener:
        listener.settimeout(5)
        run(story(), loop)


@on_both_loops
@pytest.mark.parametrize(
    "pieces", [[b""], [b"HTTP/1.1 200 OK\r\n"], [CHUNKED], [EVENTS, b"5\r\n: hi\n\r\n"]]
)
def test_silence_is_given_up(pieces: list[bytes], loop: Loop) -> None:
    async def story() -> None:
        async with facing(saying(*pieces, closes=False), head_s=0.1, silence_s=0.1) as (
            transport,
            _,
        ):
            with pytest.raises(UpstreamTimeoutError):
                await post(transport)

    run(story(), loop)


@on_both_loops
def test_a_head_that_drips_is_given_up_at_the_callers_deadline(loop: Loop) -> None:
    async def drip(peer: Peer, reader: Any, writer: asyncio.StreamWriter) -> None:
        for letter in b"HTTP/1.1 200 OK\r\nx: " + b"y" * 1000:
            writer.write(bytes([letter]))
            await writer.drain()
            await asyncio.sleep(0.02)

    async def story() -> None:
        async with facing(drip) as (transport, _):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await post(transport)
            assert transport.counts == PoolCounts(idle=0, busy=0, streams=0, waiting=0, opened=1)

    run(story(), loop)


@on_both_loops
def test_a_reader_that_stops_stops_the_peer(loop: Loop) -> None:
    async def story() -> None:
        say = pouring(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536)
        async with facing(say) as (transport, peer), transport.request("POST", "/", []) as response:
            chunks = response.chunks()
            await anext(chunks)
            before = -1
            while before != peer.sent_bytes:  # until the buffers between us are full
                before = peer.sent_bytes
                await asyncio.sleep(0.1)
            assert before < 24 << 20
            assert response.queued_bytes < 1 << 20
            await chunks.aclose()

    run(story(), loop)


@on_both_loops
def test_open_streams_keep_no_short_call_waiting(loop: Loop) -> None:
    async def say(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if peer.requests <= 5:
            writer.write(EVENTS)
            await reader.read()  # until the client is gone
        else:
            writer.write(OK)

    async def story() -> None:
        async with facing(say, connections=2, streams=5, wait_s=1) as (transport, _):
            streams = [transport.request("POST", "/", [], b"{}") for _ in range(5)]
            for stream in streams:
                await stream.__aenter__()
            assert transport.counts.streams == 5
            assert await asyncio.gather(*(post(transport) for _ in range(20))) == [b"hi"] * 20
            assert transport.counts.opened <= 7
            for stream in streams:
                await stream.__aexit__(None, None, None)

    run(story(), loop)


@on_both_loops
def test_many_calls_share_few_connections(loop: Loop) -> None:
    async def story() -> None:
        async with facing(saying(OK, closes=False), connections=4) as (transport, peer):
            assert await asyncio.gather(*(post(transport) for _ in range(100))) == [b"hi"] * 100
            assert (transport.counts.opened, peer.requests) == (4, 100)

    run(story(), loop)


@on_both_loops
def test_nobody_listening_is_unavailable(loop: Loop) -> None:
    async def story() -> None:
        async with facing(saying(OK)) as (transport, _):
            target = transport.target
        policy = NetworkPolicy.for_document(target)
        async with PooledTransport(target, "up", policy) as again:
            with pytest.raises(UpstreamUnavailableError):
                await post(again)

    run(story(), loop)


@on_both_loops
def test_a_thousand_calls_left_at_any_moment_leave_nothing_behind(loop: Loop) -> None:
    async def say(peer: Peer, reader: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS)
        await asyncio.sleep(0.001)
        writer.write(b"2\r\nhi\r\n0\r\n\r\n")

    async def leave(transport: PooledTransport, number: int) -> None:
        try:
            async with asyncio.timeout(number % 20 / 1000):
                assert await post(transport) == b"hi"
        except (TimeoutError, UpstreamError):
            pass

    async def story() -> None:
        async with facing(say, connections=8, streams=8) as (transport, _):
            for start in range(0, 1000, 50):
                calls = (leave(transport, number) for number in range(start, start + 50))
                await asyncio.gather(*calls)
            counts = transport.counts
            assert (counts.busy, counts.streams, counts.waiting) == (0, 0, 0)
            assert await post(transport) == b"hi"

    run(story(), loop)
