from __future__ import annotations

import asyncio
import socket
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest

from tests.support.wire import FakeTransport
from waygate_mcp.errors import (
    LocalProtocolError,
    UpstreamProtocolError,
    UpstreamUnavailableError,
)
from waygate_mcp.net.connection import Connection, PooledResponse
from waygate_mcp.net.dial import NetworkPolicy
from waygate_mcp.net.http import read_body
from waygate_mcp.net.outbox import Outbox
from waygate_mcp.net.pool import PoolCounts
from waygate_mcp.net.pooled import PooledTransport
from waygate_mcp.net.urls import parse_target

TARGET = parse_target("http://example.org:81/")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


class Answering(FakeTransport):
    """Answers requests by a script; None closes the connection instead."""

    def __init__(self, connection: Connection, script: list[bytes | None]) -> None:
        self.script = script
        super().__init__(connection)

    def write(self, data: Any) -> None:
        super().write(data)
        answer = self.script.pop(0)
        loop = asyncio.get_running_loop()
        if answer is None:
            loop.call_soon(self.lose)
        else:
            loop.call_soon(self.say, answer)


Make = Callable[..., PooledTransport]


@pytest.fixture
def peers() -> list[Answering]:
    return []


@pytest.fixture
def make(peers: list[Answering], monkeypatch: pytest.MonkeyPatch) -> Make:
    def build(*answers: bytes | None, headers: Sequence[tuple[str, str]] = ()) -> PooledTransport:
        script = list(answers)
        transport = PooledTransport(TARGET, "up", NetworkPolicy(), headers=headers)

        async def connect(factory: Callable[[], Connection], tls: object) -> Any:
            peers.append(Answering(factory(), script))
            return peers[-1], peers[-1].connection

        monkeypatch.setattr(transport._dialler, "connect", connect)
        return transport

    return build


async def ask(transport: PooledTransport, method: str = "POST", path: str = "/mcp") -> bytes:
    async with asyncio.timeout(2), transport.request(method, path, [], b"") as response:
        return await read_body(response, 100)


async def test_one_connection_serves_many_calls(make: Make, peers: list[Answering]) -> None:
    async with make(OK, OK, OK) as transport:
        for _ in range(3):
            assert await ask(transport) == b"hi"
        assert (transport.counts.opened, transport.counts.idle) == (1, 1)
    assert peers[0].is_gone
    assert transport.counts.opened == 0


async def test_a_body_that_was_not_read_costs_the_connection_only_if_it_was_not_there(
    make: Make,
) -> None:
    async with make(OK, OK[:-1], OK) as transport:
        for _ in range(3):
            async with transport.request("POST", "/", []):
                pass
        assert transport.counts.opened == 2


async def test_a_post_whose_connection_closes_is_never_sent_again(
    make: Make, peers: list[Answering]
) -> None:
    async with make(OK, None, OK) as transport:
        await ask(transport)
        with pytest.raises(UpstreamProtocolError):
            await ask(transport)
        assert sum(len(peer.written) for peer in peers) == 2


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_idempotent_request_is_sent_again_once_on_a_new_connection(
    make: Make, peers: list[Answering], method: str
) -> None:
    async with make(OK, None, OK, None, None) as transport:
        await ask(transport)
        assert await ask(transport, method) == b"hi"
        assert [len(peer.written) for peer in peers] == [2, 1]
        with pytest.raises(UpstreamProtocolError):
            await ask(transport, method)
        assert [len(peer.written) for peer in peers] == [2, 2, 1]


async def test_a_request_on_a_new_connection_is_not_sent_again(make: Make) -> None:
    async with make(None, OK) as transport:
        with pytest.raises(UpstreamProtocolError):
            await ask(transport, "GET")


async def test_an_answer_that_began_is_not_asked_for_again(make: Make) -> None:
    async with make(OK, b"HTTP/1.1 2rubbish", OK) as transport:
        await ask(transport)
        with pytest.raises(UpstreamProtocolError):
            await ask(transport, "GET")


def redirect(location: str, status: int = 307) -> bytes:
    return f"HTTP/1.1 {status} x\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n".encode()


async def test_redirects_within_the_origin_keep_method_body_and_credentials(
    make: Make, peers: list[Answering]
) -> None:
    async with make(redirect("/b"), redirect("c", 308), OK, headers=[("x-key", "k")]) as transport:
        async with transport.request("POST", "/a", [], b"body") as response:
            assert response.status == 200
        sent = peers[0].written
    assert [one.split(b" ")[1] for one in sent] == [b"/a", b"/b", b"/c"]
    assert all(one.startswith(b"POST") and one.endswith(b"\r\n\r\nbody") for one in sent)
    assert all(b"x-key: k\r\n" in one for one in sent)


@pytest.mark.parametrize(
    "answer",
    [
        redirect("http://example.org/"),
        redirect("https://example.org:81/"),
        redirect("//evil.example:81/"),
        redirect("http://example.org:81@evil.example/"),
        redirect("file:///etc/passwd"),
        redirect(""),
        redirect("/b", 301),
        redirect("/b", 302),
        redirect("/b", 303),
        b"HTTP/1.1 304 x\r\n\r\n",
    ],
)
async def test_any_other_redirect_is_refused(
    make: Make, peers: list[Answering], answer: bytes
) -> None:
    async with make(answer, OK, headers=[("authorization", "secret")]) as transport:
        with pytest.raises(UpstreamProtocolError):
            await ask(transport)
        assert sum(len(peer.written) for peer in peers) == 1


async def test_redirects_end(make: Make) -> None:
    async with make(*[redirect("/")] * 5) as transport:
        with pytest.raises(UpstreamProtocolError, match="more than"):
            await ask(transport)


async def test_a_coding_nobody_asked_for_is_refused(make: Make) -> None:
    coded = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nhi"
    async with make(coded) as transport:
        with pytest.raises(UpstreamProtocolError, match="coding"):
            await ask(transport)


async def test_a_stream_leaves_the_place_of_short_calls(make: Make) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; x=y\r\n\r\n"
    async with make(head, head) as transport:
        async with transport.request("POST", "/", []):
            assert (transport.counts.busy, transport.counts.streams) == (0, 1)
        async with transport.request("GET", "/", []):
            assert (transport.counts.busy, transport.counts.streams) == (0, 1)
        assert (transport.counts.busy, transport.counts.streams) == (0, 0)


async def test_a_caller_who_leaves_disconnects(make: Make, peers: list[Answering]) -> None:
    async with make(b"") as transport:
        asking = asyncio.get_running_loop().create_task(ask(transport))
        for _ in range(5):
            await asyncio.sleep(0)
        assert peers[0].written
        asking.cancel()
        await asyncio.wait({asking})
        assert peers[0].is_gone
        assert transport.counts.busy == 0


async def test_what_must_not_be_sent_opens_no_connection(
    make: Make, peers: list[Answering]
) -> None:
    async with make(OK) as transport:
        with pytest.raises(LocalProtocolError):
            async with transport.request("POST", "/", [("x", "1\r\ny: 2")]):
                pass
    assert peers == []


async def test_a_transport_that_is_not_open_sends_nothing(make: Make) -> None:
    with pytest.raises(UpstreamUnavailableError):
        await ask(make(OK))


# --- the short way of calls


async def test_a_post_gives_a_response_that_is_given_back(
    make: Make, peers: list[Answering]
) -> None:
    async with make(OK, OK, headers=[("authorization", "k")]) as transport:
        for _ in range(2):
            response = await transport.post("/mcp", (("x", "1"),), b"{}")
            assert transport.counts.busy == 1
            assert response.take_whole(2) == b"hi"
            response.release()
            response.release()
            assert (transport.counts.busy, transport.counts.idle) == (0, 1)
    assert len(peers) == 1
    assert peers[0].written[0] == peers[0].written[1]
    assert b"POST /mcp HTTP/1.1\r\n" in peers[0].written[0]
    assert b"authorization: k\r\n" in peers[0].written[0]


async def test_a_post_that_fails_holds_no_connection_and_is_sent_once(
    make: Make, peers: list[Answering]
) -> None:
    async with make(OK, None, OK) as transport:
        (await transport.post("/mcp", (), b"{}")).release()
        with pytest.raises(UpstreamProtocolError):
            await transport.post("/mcp", (), b"{}")
        assert (transport.counts.busy, transport.counts.idle) == (0, 0)
        assert sum(len(peer.written) for peer in peers) == 2


async def test_a_post_that_is_cancelled_disconnects(make: Make, peers: list[Answering]) -> None:
    async with make(b"") as transport:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await transport.post("/mcp", (), b"{}")
        assert peers[0].is_gone
        assert transport.counts.busy == 0


async def test_a_post_follows_redirects_and_refuses_codings(make: Make) -> None:
    async with make(redirect("/there"), OK) as transport:
        response = await transport.post("/mcp", (), b"{}")
        assert response.take_whole(2) == b"hi"
        response.release()
        assert transport.counts.busy == 0
    coded = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nhi"
    async with make(coded, OK) as transport:
        with pytest.raises(UpstreamProtocolError, match="coding"):
            await transport.post("/mcp", (), b"{}")
        assert transport.counts.busy == 0


async def test_a_post_answered_by_a_stream_leaves_the_place_of_short_calls(make: Make) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    async with make(head) as transport:
        response = await transport.post("/mcp", (), b"{}")
        assert (transport.counts.busy, transport.counts.streams) == (0, 1)
        assert response.take_whole(100) is None
        response.release()
        assert transport.counts.streams == 0


async def test_a_transport_that_is_not_open_posts_nothing(make: Make) -> None:
    with pytest.raises(UpstreamUnavailableError):
        await make().post("/mcp", (), b"{}")


# --- requests of one turn go out together


class Wires:
    """Connections over real sockets; `far` are the other ends, in the order in which they were dialled."""

    def __init__(self, transport: PooledTransport, monkeypatch: pytest.MonkeyPatch) -> None:
        self.far: list[socket.socket] = []
        self._dialled = defaultdict[int, asyncio.Event](asyncio.Event)
        monkeypatch.setattr(transport._dialler, "connect", self._connect)

    async def _connect(self, factory: Callable[[], Connection], _tls: object) -> Any:
        near, far = socket.socketpair()
        far.setblocking(False)
        self.far.append(far)
        self._dialled[len(self.far) - 1].set()
        return await asyncio.get_running_loop().create_connection(factory, sock=near)

    async def dialled(self, number: int) -> None:
        """Wait until a connection is there."""
        await self._dialled[number].wait()

    async def heard(self, number: int) -> bytes:
        """What the other end of a connection has got, once there is anything, or its end."""
        async with asyncio.timeout(5):
            await self.dialled(number)
            with suppress(ConnectionResetError):  # an end with something unread
                return await asyncio.get_running_loop().sock_recv(self.far[number], 65_536)
        return b""

    def close(self) -> None:
        for far in self.far:
            far.close()


@pytest.fixture
def transport() -> PooledTransport:
    return PooledTransport(TARGET, "up", NetworkPolicy())


@pytest.fixture
def wires(transport: PooledTransport, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wires]:
    opened = Wires(transport, monkeypatch)
    yield opened
    opened.close()


def begun(post: Coroutine[Any, Any, PooledResponse]) -> asyncio.Task[PooledResponse]:
    """A call under way."""
    return asyncio.get_running_loop().create_task(post)


async def served_once(transport: PooledTransport, wires: Wires) -> None:
    """Have one call answered, so that its connection lies idle."""
    call = begun(transport.post("/mcp", (), b"first"))
    assert (await wires.heard(0)).endswith(b"first")
    wires.far[0].sendall(OK)
    (await call).release()
    assert transport.counts.idle == 1


@pytest.mark.parametrize("spoilt_by", ["a second answer", "its end"])
async def test_a_connection_spoilt_before_the_turn_ends_gets_no_request(
    transport: PooledTransport, wires: Wires, spoilt_by: str
) -> None:
    async with transport:
        await served_once(transport, wires)
        call = begun(transport.post("/mcp", (), b"second"))
        Outbox.here().load = 2
        for _ in range(2):  # as with two calls in one turn: what is written waits for the other
            Outbox.here().expect()
        await asyncio.sleep(0)  # it has the connection, and is not written yet
        assert transport.counts.idle == 0
        if spoilt_by == "its end":
            wires.far[0].close()
        else:
            wires.far[0].sendall(OK)
        assert (await wires.heard(1)).endswith(b"second")
        wires.far[1].sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes")
        response = await call
        assert response.take_whole(10) == b"yes"
        response.release()
        if spoilt_by != "its end":
            assert await wires.heard(0) == b"", "the first connection got a second request"
        assert transport.counts == PoolCounts(idle=1, busy=0, streams=0, waiting=0, opened=2)


async def test_a_server_that_speaks_first_is_not_dialled_for_ever(
    transport: PooledTransport, wires: Wires
) -> None:
    async with transport:
        call = begun(transport.post("/mcp", (), b"{}"))
        await wires.dialled(0)
        wires.far[0].sendall(b"220 welcome\r\n")
        with pytest.raises(UpstreamProtocolError, match=r"unasked|HTTP"):
            await call
        assert len(wires.far) == 1
        assert transport.counts.busy == 0


async def test_calls_of_one_turn_reach_the_server_each_on_its_connection(
    transport: PooledTransport, wires: Wires
) -> None:
    async with transport:
        calls = [begun(transport.post("/mcp", (), b"%d" % n)) for n in range(5)]
        Outbox.here().load = 5
        for _ in calls:
            Outbox.here().expect()
        for number in range(5):
            body = (await wires.heard(number)).rpartition(b"\r\n")[2]
            wires.far[number].sendall(
                b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
            )
        for number, call in enumerate(calls):
            response = await call
            assert response.take_whole(10) == b"%d" % number
            response.release()
