from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from tests.support.wire import FakeTransport
from waygate_mcp.errors import (
    TooLargeError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)
from waygate_mcp.net.connection import Connection, PooledResponse, State

REQUEST = b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


async def opened() -> FakeTransport:
    return FakeTransport(Connection("up", asyncio.get_running_loop()))


async def exchanged(
    peer: FakeTransport, *pieces: bytes, loses: bool = False, exc: Exception | None = None
) -> PooledResponse:
    """Send a request, let the peer answer; give the response or raise what the caller sees."""

    async def answer() -> None:
        await asyncio.sleep(0)
        peer.say(*pieces)
        if loses:
            peer.lose(exc)

    async with asyncio.timeout(2), asyncio.TaskGroup() as group:
        group.create_task(answer())
        try:
            return await peer.connection.exchange(REQUEST)
        except UpstreamError as problem:
            failure = problem
    raise failure


async def test_a_request_is_one_write_and_the_connection_serves_again() -> None:
    peer = await opened()
    for _ in range(2):
        response = await exchanged(peer, OK)
        assert (response.status, response.headers["content-length"]) == (200, "2")
        assert await response.read_whole(10) == b"hi"
        assert peer.connection.finish()
    assert peer.written == [REQUEST, REQUEST]


async def test_an_answer_may_come_byte_by_byte() -> None:
    peer = await opened()
    whole = CHUNKED + b"2;ext=1\r\nhi\r\n1\r\n!\r\n0\r\nx-trailer: 1\r\n\r\n"
    response = await exchanged(peer, *(whole[at : at + 1] for at in range(len(whole))))
    assert b"".join([chunk async for chunk in response.chunks()]) == b"hi!"
    assert "x-trailer" not in response.headers
    assert peer.connection.finish()


async def test_interim_answers_are_skipped() -> None:
    peer = await opened()
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    response = await exchanged(peer, b"HTTP/1.1 100 Continue\r\n\r\n" + hints, OK)
    assert response.status == 200
    assert "link" not in response.headers


async def test_an_answer_without_length_ends_with_the_connection() -> None:
    peer = await opened()
    response = await exchanged(peer, b"HTTP/1.1 200 OK\r\n\r\nall of", b" it", loses=True)
    assert await response.read_whole(100) == b"all of it"
    assert not peer.connection.finish()


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi",
        OK + OK,
        OK + b"rubbish",
    ],
)
async def test_a_whole_answer_counts_though_its_connection_is_not_used_again(head: bytes) -> None:
    peer = await opened()
    response = await exchanged(peer, head)
    assert await response.read_whole(10) == b"hi"
    assert not peer.connection.finish()
    assert peer.is_gone


async def test_an_answer_before_the_request_was_sent_is_the_last() -> None:
    peer = await opened()
    peer.unsent_bytes = 5
    response = await exchanged(peer, OK)
    assert await response.read_whole(10) == b"hi"
    assert not peer.connection.finish()


@pytest.mark.parametrize(
    "pieces",
    [
        [b"rubbish\r\n\r\n"],
        [b"\x16\x03\x01\x00\x05"],
        [b"HTTP/2.0 200 OK\r\n\r\n"],
        [b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"],
        [b"HTTP/1.1 600 x\r\n\r\n"],
        [b"HTTP/1.1 99 x\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nx y: 1\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\n" + b"x: 1\r\n" * 200 + b"\r\n"],
        [b"HTTP/1.1 200 OK\r\nx: " + b"1" * 70_000 + b"\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nx: ", *[b"1" * 10_000] * 10],
        [b"HTTP/1.1 200 ", *[b"O" * 10_000] * 10],
        [b"HTTP/1.1 200 OK\r\n", *[b"x: 1\r\n"] * 200],
        [b"HTTP/1.1 100 Continue\r\n\r\n"] * 4000,
    ],
)
async def test_what_is_no_answer_is_the_upstreams_fault(pieces: list[bytes]) -> None:
    peer = await opened()
    with pytest.raises(UpstreamProtocolError):
        await exchanged(peer, *pieces)
    assert peer.is_gone
    assert peer.connection.state is State.CLOSED


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"],
        [CHUNKED + b"5\r\nhal"],
        [CHUNKED + b"5\r\nhallo\r\n"],
        [CHUNKED + b"5\r\nhallo"],
        [CHUNKED + b"zz\r\n"],
        [CHUNKED + b"2\r\nhallo\r\n"],
        [CHUNKED + b"ffffffffffffffffff\r\n"],
        [CHUNKED + b"2;", *[b"x" * 10_000] * 10],
        [CHUNKED + b"2\r\nhi\r\n0\r\nx: ", *[b"x" * 10_000] * 10],
        [CHUNKED + b"2\r\nhi\r\n0\r\n" + b"x: 1\r\n" * 200],
    ],
)
async def test_a_body_that_is_not_whole_is_not_taken_for_one(pieces: list[bytes]) -> None:
    peer = await opened()
    response = await exchanged(peer, *pieces, loses=True)
    with pytest.raises(UpstreamProtocolError):
        await response.read_whole(1000)
    assert not peer.connection.finish()


@pytest.mark.parametrize("exc", [None, ConnectionResetError(104, "reset")])
async def test_a_close_without_an_answer_says_that_nobody_knows(exc: Exception | None) -> None:
    peer = await opened()
    with pytest.raises(UpstreamProtocolError, match="without an answer") as caught:
        await exchanged(peer, loses=True, exc=exc)
    assert "the outcome is unknown" in caught.value.safe_message
    assert not peer.connection.got_anything


async def test_a_reset_ends_no_body() -> None:
    peer = await opened()
    head = b"HTTP/1.1 200 OK\r\n\r\nhalf"
    response = await exchanged(peer, head, loses=True, exc=ConnectionResetError())
    with pytest.raises(UpstreamProtocolError):
        await response.read_whole(100)


async def test_bytes_that_nobody_asked_for_end_an_idle_connection() -> None:
    peer = await opened()
    closed: list[Connection] = []
    peer.connection.on_closed = closed.append
    peer.say(OK)
    assert peer.is_gone
    assert closed == [peer.connection]
    assert not peer.connection.is_usable


async def test_a_reader_that_is_slow_slows_the_peer_down() -> None:
    peer = await opened()
    piece = b"x" * 100_000
    response = await exchanged(peer, b"HTTP/1.1 200 OK\r\ncontent-length: 400000\r\n\r\n")
    paused = []
    for _ in range(3):
        peer.say(piece)
        paused.append(peer.is_paused)
    chunks = response.chunks()
    assert len(await anext(chunks)) == 300_000
    paused.append(peer.is_paused)
    assert paused == [False, False, True, False]
    peer.say(piece)
    assert [len(chunk) async for chunk in chunks] == [100_000]
    assert peer.connection.finish()


async def test_many_small_pieces_slow_the_peer_down_too() -> None:
    peer = await opened()
    await exchanged(peer, CHUNKED, b"1\r\nx\r\n" * 2000)
    assert peer.is_paused


async def test_a_body_over_the_limit_is_not_read_on() -> None:
    peer = await opened()
    response = await exchanged(peer, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n12345")
    with pytest.raises(TooLargeError):
        await response.read_whole(4)
    assert not peer.connection.finish()
    assert peer.is_gone


async def test_who_waits_too_long_is_told_so() -> None:
    peer = await opened()
    waiting = asyncio.get_running_loop().create_task(peer.connection.exchange(REQUEST))
    await asyncio.sleep(0)
    assert peer.connection.is_waited_for
    peer.connection.expire("slow")
    with pytest.raises(UpstreamTimeoutError):
        await waiting


async def test_what_comes_after_the_end_changes_nothing() -> None:
    peer = await opened()
    peer.connection.abort()
    peer.say(OK)
    peer.lose()
    peer.connection.abort()
    assert peer.connection.state is State.CLOSED


async def test_a_response_left_early_gives_no_more() -> None:
    peer = await opened()
    response = await exchanged(peer, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
    peer.connection.finish()
    with pytest.raises(UpstreamProtocolError):
        await response.read_whole(10)


async def test_a_connection_that_is_closed_is_gone_without_a_collection() -> None:
    peer = await opened()
    response = await exchanged(peer, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
    connection = weakref.ref(peer.connection)
    peer.connection.abort()
    gc.disable()
    try:
        del peer
        assert connection() is None
    finally:
        gc.enable()
    assert await response.read_whole(10) == b"hi"


# --- answers whose head was seen before


def answer(
    body: bytes, *, head: bytes = b"content-type: application/json", more: bytes = b""
) -> bytes:
    return b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: %d\r\n%b\r\n%b" % (
        head, len(body), more, body
    )  # fmt: skip


class CountingParser:
    """A parser that counts what it is fed."""

    def __init__(self, connection: Connection) -> None:
        self.fed: list[bytes] = []
        self._parser = connection._parser
        connection._parser = self  # type: ignore[assignment]

    def feed_data(self, data: bytes) -> None:
        self.fed.append(data)
        assert self._parser is not None
        self._parser.feed_data(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._parser, name)


async def test_a_head_seen_before_is_not_parsed_again_whatever_the_length_of_its_body() -> None:
    peer = await opened()
    parser = CountingParser(peer.connection)
    for body in (b"{}", b"{}", b"x" * 1000, b'{"a":1}'):
        response = await exchanged(peer, answer(body, more=b"date: now\r\n"))
        assert response.status == 200
        assert response.headers == {
            "content-type": "application/json", "content-length": str(len(body)), "date": "now"
        }  # fmt: skip
        assert response.take_whole(len(body) - 1) is None
        assert response.take_whole(len(body)) == body
        assert peer.connection.finish()
    assert parser.fed == [answer(b"{}", more=b"date: now\r\n")]


@pytest.mark.parametrize(
    "second",
    [
        (answer(b"other", head=b"content-type: text/plain"),),
        (answer(b"other", more=b"connection: close\r\n"),),
        (answer(b"other")[:-2], b"er"),
        (b"HTTP/1.1 200 OK\r\n", answer(b"other")[17:]),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"other"),),
        (b"HTTP/1.1 100 Continue\r\n\r\n", answer(b"other")),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nother\r\n0\r\n\r\n",),
        (answer(b"other").replace(b" 5", b" 0005"),),
    ],
)
async def test_an_answer_that_differs_in_more_is_parsed(second: tuple[bytes, ...]) -> None:
    peer = await opened()
    assert (await exchanged(peer, answer(b"first"))).take_whole(9) == b"first"
    response = await exchanged(peer, *second)
    assert response.status == 200
    assert await response.read_whole(9) == b"other"
    if peer.connection.finish():
        assert (await exchanged(peer, answer(b"third"))).take_whole(9) == b"third"


@pytest.mark.parametrize(
    "second",
    [
        answer(b"two").replace(b" 3", b" +3"),
        answer(b"two").replace(b" 3", b" 3\r\nContent-Length: 4"),
        answer(b"two").replace(b" 3", b" 99999999999999999999"),
        answer(b"two").replace(b" 3", b" "),
    ],
)
async def test_nonsense_after_a_head_seen_before_is_still_nonsense(second: bytes) -> None:
    peer = await opened()
    await exchanged(peer, answer(b"one"))
    with pytest.raises(UpstreamProtocolError):
        await exchanged(peer, second)
    assert peer.is_gone


@pytest.mark.parametrize(
    "second", [answer(b"two") + answer(b"more"), answer(b"two ") + b"x", answer(b"two ") + b"\r\n"]
)
async def test_more_than_an_answer_after_a_head_seen_before_ends_the_connection(
    second: bytes,
) -> None:
    peer = await opened()
    await exchanged(peer, answer(b"one"))
    response = await exchanged(peer, second)
    assert (response.take_whole(9) or b"").strip() == b"two"
    assert peer.is_gone == (not second.endswith(b"\r\n"))  # which stands between two answers


@pytest.mark.parametrize(
    "first",
    [
        b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length:2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nx: content-length: 2\r\ncontent-length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 3000 + b"\r\ncontent-length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    ],
)
async def test_a_head_that_is_not_plain_is_parsed_each_time(first: bytes) -> None:
    peer = await opened()
    parser = CountingParser(peer.connection)
    for number in range(1, 3):
        response = await exchanged(peer, first)
        assert response.status in (200, 201)
        assert await response.read_whole(2) in (b"hi", b"")
        assert peer.connection.finish()
        assert len(parser.fed) == number


async def test_an_answer_seen_before_to_a_request_not_yet_sent_ends_the_connection() -> None:
    peer = await opened()
    await exchanged(peer, OK)
    peer.unsent_bytes = 1
    response = await exchanged(peer, OK)
    assert response.take_whole(2) == b"hi"
    assert peer.is_gone
