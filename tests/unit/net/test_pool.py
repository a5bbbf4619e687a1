from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.support.wire import FakeTransport
from waygate_mcp.errors import UpstreamTimeoutError, UpstreamUnavailableError
from waygate_mcp.net.connection import Connection, PooledResponse, UnsentError
from waygate_mcp.net.outbox import Outbox
from waygate_mcp.net.pool import ConnectionPool, PoolCounts, PoolLimits

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class Peers:
    """Dials fakes; `fails` is raised instead, `is_slow` never connects."""

    def __init__(self) -> None:
        self.transports: list[FakeTransport] = []
        self.fails: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def dial(self) -> Connection:
        if self.gate is not None:
            await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        connection = Connection("up", asyncio.get_running_loop())
        self.transports.append(FakeTransport(connection))
        return connection


@pytest.fixture
def peers() -> Peers:
    return Peers()


Make = Callable[..., ConnectionPool]


@pytest.fixture
def make(peers: Peers) -> Make:
    def build(**limits: float) -> ConnectionPool:
        return ConnectionPool("up", peers.dial, PoolLimits(**limits))  # type: ignore[arg-type]

    return build


async def soon(pool: ConnectionPool) -> asyncio.Task[Connection]:
    """Start waiting for a connection."""
    task = asyncio.get_running_loop().create_task(pool.acquire())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_the_connection_used_last_is_used_first(make: Make) -> None:
    pool = make()
    first, second = await pool.acquire(), await pool.acquire()
    pool.release(first)
    pool.release(second)
    assert pool.counts == PoolCounts(idle=2, busy=0, streams=0, waiting=0, opened=2)
    assert await pool.acquire() is second
    assert await pool.acquire() is first
    pool.close()


async def test_a_connection_that_closed_while_idle_is_not_given(make: Make, peers: Peers) -> None:
    pool = make()
    old = await pool.acquire()
    pool.release(old)
    peers.transports[0].lose()
    assert pool.counts.idle == 0
    assert await pool.acquire() is not old
    pool.close()


async def test_at_the_limit_calls_wait_for_one_another(make: Make) -> None:
    pool = make(connections=1)
    first = await pool.acquire()
    waiting = await soon(pool)
    assert pool.counts.waiting == 1
    pool.release(first)
    assert await waiting is first
    pool.close()


async def test_a_place_that_becomes_free_is_dialled_anew(make: Make, peers: Peers) -> None:
    pool = make(connections=1)
    first = await pool.acquire()
    waiting = await soon(pool)
    first.abort()
    assert await waiting is peers.transports[1].connection
    assert pool.counts.busy == 1
    pool.close()


async def test_streams_have_places_of_their_own(make: Make) -> None:
    pool = make(connections=1, streams=2)
    for _ in range(2):
        pool.count_as_stream(await pool.acquire())
    assert pool.counts.streams == 2
    short = await pool.acquire()
    pool.count_as_stream(short)  # no room: it stays where it is
    assert (pool.counts.streams, pool.counts.busy) == (2, 1)
    with pytest.raises(UpstreamUnavailableError, match="streams"):
        await pool.acquire(is_stream=True)
    pool.close()


async def test_a_call_that_becomes_a_stream_lets_the_next_one_in(make: Make) -> None:
    pool = make(connections=1)
    first = await pool.acquire()
    waiting = await soon(pool)
    pool.count_as_stream(first)
    assert await waiting is not first
    pool.close()


async def test_the_connection_of_a_stream_comes_back(make: Make) -> None:
    pool = make(connections=1)
    stream = await pool.acquire(is_stream=True)
    pool.release(stream)
    assert pool.counts == PoolCounts(idle=1, busy=0, streams=0, waiting=0, opened=1)
    assert await pool.acquire(is_stream=True) is stream
    short = await pool.acquire()
    pool.release(stream)  # no room among the short ones
    assert pool.counts.streams == 0
    pool.release(short)
    assert pool.counts.idle == 1
    pool.close()


async def test_only_so_many_calls_wait(make: Make) -> None:
    pool = make(connections=1, waiting=1)
    first = await pool.acquire()
    waiting = await soon(pool)
    with pytest.raises(UpstreamUnavailableError, match="too many"):
        await pool.acquire()
    pool.release(first)
    await waiting
    pool.close()


async def test_a_call_waits_only_so_long(make: Make) -> None:
    pool = make(connections=1, wait_s=0.001)
    first = await pool.acquire()
    with pytest.raises(UpstreamUnavailableError, match="in time"):
        await pool.acquire()
    assert pool.counts.waiting == 0
    pool.release(first)
    assert pool.counts.idle == 1
    pool.close()


@pytest.mark.parametrize("frees", ["release", "abort"])
async def test_a_waiter_that_is_cancelled_late_passes_its_place_on(make: Make, frees: str) -> None:
    pool = make(connections=1)
    first = await pool.acquire()
    gone, next_one = await soon(pool), await soon(pool)
    if frees == "release":
        pool.release(first)
    else:
        first.abort()
    gone.cancel()
    async with asyncio.timeout(1):
        connection = await next_one
    assert gone.cancelled()
    pool.release(connection)
    assert pool.counts == PoolCounts(
        idle=1, busy=0, streams=0, waiting=0, opened=1 if frees == "release" else 2
    )
    pool.close()


async def test_a_dial_that_fails_or_is_cancelled_holds_no_place(make: Make, peers: Peers) -> None:
    pool = make(connections=1, streams=1)
    peers.fails = UpstreamUnavailableError("up", "refused")
    for is_stream in (False, True):
        with pytest.raises(UpstreamUnavailableError):
            await pool.acquire(is_stream=is_stream)
    peers.fails, peers.gate = None, asyncio.Event()
    dialling = await soon(pool)
    dialling.cancel()
    await asyncio.wait({dialling})
    assert pool.counts == PoolCounts(idle=0, busy=0, streams=0, waiting=0, opened=0)
    pool.close()


async def test_a_fresh_connection_is_none_that_lay_idle(make: Make) -> None:
    pool = make(connections=1)
    old = await pool.acquire()
    pool.release(old)
    assert await pool.acquire(is_fresh=True) is not old
    assert pool.counts.busy == 1
    pool.close()


async def test_closing_ends_all_and_tells_who_waits(make: Make, peers: Peers) -> None:
    pool = make(connections=1)
    await pool.acquire()
    waiting = await soon(pool)
    pool.close()
    with pytest.raises(UpstreamUnavailableError):
        await waiting
    with pytest.raises(UpstreamUnavailableError):
        await pool.acquire()
    assert all(transport.is_gone for transport in peers.transports)


async def test_a_dial_that_ends_after_closing_is_hung_up(make: Make, peers: Peers) -> None:
    pool = make()
    peers.gate = asyncio.Event()
    dialling = await soon(pool)
    pool.close()
    peers.gate.set()
    with pytest.raises(UpstreamUnavailableError):
        await dialling
    assert peers.transports[0].is_gone


async def waiting_for(connection: Connection) -> asyncio.Task[PooledResponse]:
    task = asyncio.get_running_loop().create_task(connection.exchange(b"x"))
    await asyncio.sleep(0)
    return task


async def test_silence_ends_and_idle_connections_too(make: Make, peers: Peers) -> None:
    pool = make(idle_s=5, head_s=10, silence_s=20)
    asks, reads, idle = [await pool.acquire() for _ in range(3)]
    asking = await waiting_for(asks)
    heading = await waiting_for(reads)
    peers.transports[1].say(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n")
    body = asyncio.get_running_loop().create_task((await heading).read_whole(10))
    await asyncio.sleep(0)
    pool.release(idle)
    pool._tick()
    assert not any(transport.is_gone for transport in peers.transports)
    for connection, back_s in ((asks, 11.0), (reads, 11.0), (idle, 6.0)):
        connection.since -= back_s
    pool._tick()
    assert [transport.is_gone for transport in peers.transports] == [True, False, True]
    with pytest.raises(UpstreamTimeoutError):
        await asking
    reads.since -= 10
    pool._tick()
    with pytest.raises(UpstreamTimeoutError):
        await body
    pool.close()


async def test_requests_of_one_turn_are_sent_at_its_end(make: Make, peers: Peers) -> None:
    pool = make()
    first, second, third = [await pool.acquire() for _ in range(3)]
    Outbox.here().load = 2
    Outbox.here().expect()
    for connection, request in ((first, b"1"), (second, b"2"), (third, b"3")):
        assert pool.send(connection, request).status == 0
    second.abort()  # who sent it has left
    assert [peer.written for peer in peers.transports] == [[], [], []]
    await asyncio.sleep(0)
    assert [peer.written for peer in peers.transports] == [[b"1"], [], [b"3"]]
    pool.send(await pool.acquire(), b"4")  # nobody said that there will be more
    assert peers.transports[3].written == [b"4"]
    pool.close()


async def test_a_request_whose_connection_spoke_or_closed_before_was_not_sent(
    make: Make, peers: Peers
) -> None:
    pool = make()
    first, second, third = [await pool.acquire() for _ in range(3)]
    Outbox.here().load = 2
    Outbox.here().expect()
    responses = [pool.send(one, b"request") for one in (first, second, third)]
    peers.transports[0].say(OK)
    peers.transports[1].lose()
    await asyncio.sleep(0)
    assert [peer.written for peer in peers.transports] == [[], [], [b"request"]]
    assert [type(response.problem) for response in responses] == [
        UnsentError, UnsentError, type(None),
    ]  # fmt: skip
    assert pool.counts.busy == 1
    pool.close()
