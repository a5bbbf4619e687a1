"""Bytes in, bytes out: a connection without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from waygate_mcp.web import connection as module
from waygate_mcp.web.connection import Connection, ConnectionLimits

App = Callable[[Any, Any, Any], Awaitable[None]]
GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
POST = b"POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n%b\r\n"


class Wire(asyncio.Transport):
    """A transport that remembers what was written, and the connection on it."""

    def __init__(self, app: App, most: int = 10) -> None:
        super().__init__({"sockname": ("127.0.0.1", 8000), "peername": ("127.0.0.1", 50000)})
        self.written = b""
        self.closing = False
        self.paused = False

        class Bound(Connection):
            @staticmethod
            def current_limits() -> ConnectionLimits:
                return ConnectionLimits(most)

        config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", lifespan="off")
        self.state = ServerState()
        self.connection = Bound(config, self.state, {})

    def open(self) -> None:
        self.connection.connection_made(self)

    def send(self, data: bytes) -> None:
        """What the client sends; nothing arrives on a closed connection."""
        if not self.closing:
            self.connection.data_received(data)

    async def finish(self) -> bytes:
        """Let every request that is served come to its end; give what was written since."""
        while self.state.tasks:
            await asyncio.wait(set(self.state.tasks), timeout=5)
        written, self.written = self.written, b""
        return written

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Echo:
    """Answers with the body it read, or with nothing read where `early`."""

    def __init__(self, *, early: bool = False) -> None:
        self.early = early
        self.scopes: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        body = b""
        while not self.early:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def timers(line: Wire) -> tuple[bool, bool]:
    """Whether our own timer runs, and whether the one between two requests does."""
    connection = line.connection
    return connection._timer is not None, connection._idle_since is not None


@contextmanager
def wire(app: App | None = None, most: int = 10) -> Iterator[Wire]:
    """Open a connection and leave no timer behind."""
    opened = Wire(app or Echo(), most)
    opened.open()
    yield opened
    opened.close()
    opened.connection._unset_keepalive_if_required()
    opened.connection._disarm()


async def test_requests_on_one_connection_are_answered_one_after_the_other() -> None:
    with wire() as line:
        for _ in range(3):
            line.send(POST % b"" + b"hello")
            assert (await line.finish()).endswith(b"\r\n\r\nhello")
        assert not line.closing


async def test_a_request_in_many_pieces_is_one_request() -> None:
    with wire() as line:
        for byte in POST % b"" + b"hello":
            line.send(bytes([byte]))
        assert (await line.finish()).endswith(b"hello")
        assert line.connection._timer is None


async def test_pipelined_requests_are_answered_in_order() -> None:
    with wire() as line:
        line.send((POST % b"" + b"first") + (POST % b"" + b"secon"))
        written = await line.finish()
        await asyncio.sleep(0)
        written += await line.finish()
        assert written.index(b"first") < written.index(b"secon")


async def test_path_and_query_reach_the_application_raw_and_decoded() -> None:
    echo = Echo()
    with wire(echo) as line:
        line.send(b"GET /a%20b?c=%41 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await line.finish()
        (scope,) = echo.scopes
        assert scope["raw_path"] == b"/a%20b"
        assert scope["path"] == "/a b"
        assert scope["query_string"] == b"c=%41"


H2C = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQ\r\n"
SOCKET = b"connection: upgrade\r\nupgrade: websocket\r\n"


@pytest.mark.parametrize("more", [H2C, SOCKET])
async def test_an_upgrade_nobody_offers_costs_no_request_its_body(more: bytes) -> None:
    echo = Echo()
    with wire(echo) as line:
        for _ in range(2):
            line.send(POST % more + b"hello")
            assert (await line.finish()).endswith(b"hello")
        line.send(POST % more)
        line.send(b"hel")
        line.send(b"lo")
        assert (await line.finish()).endswith(b"hello")
        line.send(b"GET /last HTTP/1.1\r\nhost: localhost\r\n%b\r\n" % more)
        assert b"200 OK" in await line.finish()
        assert echo.scopes[0]["raw_path"] == b"/mcp"
        assert (b"upgrade", more.split(b"upgrade: ")[1].split(b"\r")[0]) in echo.scopes[0][
            "headers"
        ]
        assert [scope["raw_path"] for scope in echo.scopes[1:]] == [b"/mcp", b"/mcp", b"/last"]


async def test_an_upgrade_with_a_chunked_body_and_a_request_behind_it() -> None:
    with wire() as line:
        head = POST.replace(b"content-length: 5", b"transfer-encoding: chunked") % H2C
        line.send(head + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n" + (POST % H2C) + b"again")
        written = await line.finish()
        await asyncio.sleep(0)
        written += await line.finish()
        assert written.index(b"hello") < written.index(b"again")


# --- refusals


@pytest.mark.parametrize(
    "data",
    [b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
     b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
     b"GET http://[ HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /\xff HTTP/1.1\r\nhost: a\r\n\r\n"],
)  # fmt: skip
async def test_what_is_no_http_is_400_and_the_end(data: bytes) -> None:
    with wire() as line:
        line.send(data)
        assert line.written.startswith(b"HTTP/1.1 400 ")
        assert b"connection: close" in line.written
        assert line.closing


async def test_a_head_that_does_not_end_is_431() -> None:
    with wire() as line:
        line.send(b"GET / HTTP/1.1\r\nx: ")
        for _ in range(65):
            line.send(b"y" * 1024)
        assert line.written.startswith(b"HTTP/1.1 431 ")
        assert line.closing


async def test_a_body_larger_than_a_head_may_be_is_fine() -> None:
    with wire() as line:
        line.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 200000\r\n\r\n")
        for _ in range(200):
            line.send(b"y" * 1000)
        assert (await line.finish()).endswith(b"y" * 200_000)
        line.send(GET)
        assert b"200 OK" in await line.finish()


async def test_many_small_heads_on_one_connection_never_add_up() -> None:
    with wire() as line:
        for _ in range(200):
            line.send(GET[:10])
            line.send(GET[10:-2] + b"x: " + b"y" * 1000 + b"\r\n\r\n")
            assert b"200 OK" in await line.finish()
        assert not line.closing


async def test_more_connections_than_allowed_are_503() -> None:
    with wire(most=0) as line:
        assert line.written.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in line.written
        assert line.closing


async def test_a_refusal_in_the_midst_of_an_answer_closes_without_words() -> None:
    go = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await go.wait()

    with wire(slow) as line:
        line.send(GET)
        for _ in range(2):  # the application's turn, and the one that writes
            await asyncio.sleep(0)
        before = line.written
        assert before
        line.send(b"nonsense\r\n\r\n")
        assert line.written == before
        assert line.closing
        go.set()
        await line.finish()


# --- time


async def test_a_connection_that_says_nothing_is_closed() -> None:
    with wire() as line:
        assert line.connection._timer is not None
        line.connection._head_is_late()
        assert line.written == b""
        assert line.is_closing()


async def test_a_head_that_drips_is_408() -> None:
    with wire() as line:
        line.send(GET)
        await line.finish()
        line.send(b"GET / HT")
        assert line.connection._timer is not None
        line.connection._head_is_late()
        assert line.written.startswith(b"HTTP/1.1 408 ")
        assert line.closing


async def test_a_drip_does_not_lengthen_its_own_time() -> None:
    with wire() as line:
        line.send(b"GET")
        timer = line.connection._timer
        line.send(b" / HTTP")
        assert line.connection._timer is timer


async def test_the_head_once_there_there_is_no_timer() -> None:
    with wire() as line:
        line.send(POST % b"")
        assert line.connection._timer is None
        line.send(b"hello")
        await line.finish()
        assert line.connection._timer is None
        assert line.connection._idle_since is not None


async def test_empty_lines_between_requests_do_not_keep_a_connection_for_ever() -> None:
    with wire() as line:
        line.send(GET)
        await line.finish()
        line.send(b"\r\n")
        assert line.connection._idle_since is not None


async def test_the_rest_of_a_request_answered_early_is_dropped_for_a_moment() -> None:
    with wire(Echo(early=True)) as line:
        line.send(POST % b"" + b"he")
        assert b"200 OK" in await line.finish()
        assert timers(line) == (True, False)
        assert not line.is_closing()
        line.send(b"llo")
        assert timers(line) == (False, True)
        line.send(GET)
        assert b"200 OK" in await line.finish()


async def test_an_early_answer_to_an_endless_body_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LINGER_S", 0)
    with wire(Echo(early=True)) as line:
        line.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
        await line.finish()
        line.send(b"1\r\nx\r\n")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert line.closing


async def test_a_lost_connection_leaves_no_timer() -> None:
    with wire() as line:
        line.close()
        await asyncio.sleep(0)
        assert line.connection._timer is None
        assert line.connection not in line.state.connections


def test_a_connection_without_limits_of_its_own_is_none_of_ours() -> None:
    with pytest.raises(NotImplementedError):
        Connection.current_limits()


def has_keep_alive_timer(line: Wire) -> bool:
    return line.connection.timeout_keep_alive_task is not None


async def test_an_idle_connection_is_closed_when_its_time_is_up() -> None:
    with wire() as line:
        line.send(GET)
        await line.finish()
        line.connection.timeout_keep_alive = 0
        line.connection._close_if_idle()
        assert line.closing


async def test_a_connection_used_since_is_left_and_looked_at_again_in_time() -> None:
    with wire() as line:
        line.send(GET)
        await line.finish()
        line.connection._close_if_idle()
        assert has_keep_alive_timer(line)
        line.send(POST % b"" + b"he")  # in the middle of a request: nothing to look at
        line.connection._close_if_idle()
        assert not has_keep_alive_timer(line)
        assert not line.is_closing()
