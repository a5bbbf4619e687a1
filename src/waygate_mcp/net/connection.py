"""One HTTP/1.1 connection: requests one after another, each with one response.

Knows reading: httptools' callbacks, limits, back pressure, and when a connection can be used again.
Refuses to know where it leads, and who waits for it: `pool.py` and `pooled.py` do.
Spec: RFC 9112 6, 9; threat model rules 26 and 27.

    state     left by                          to
    IDLE      prepare                          HEAD
    IDLE      bytes, or the peer closes        CLOSED
    HEAD      the final response's head        BODY
    BODY      the body's end                   IDLE where it can be used again, else CLOSED
    HEAD|BODY nonsense, close, reset, limits   CLOSED, with a problem
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncGenerator, Callable, Sequence
from enum import Enum, auto
from typing import NamedTuple, Protocol, Self, cast

import httptools

from waygate_mcp.errors import (
    TooLargeError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)
from waygate_mcp.net.http import WholeReader
from waygate_mcp.net.outbox import Outbox

__all__ = ["Connection", "PooledResponse", "State", "UnsentError", "look"]

_MAX_HEAD_BYTES = 64 * 1024
_MAX_HEADERS = 128
_HIGH_BYTES = 256 * 1024
_LOW_BYTES = 64 * 1024
_MAX_PIECES = 1024
_VERSIONS = ("1.1", "1.0")
_LENGTH = b"\r\ncontent-length: "
_MAX_PLAIN_BYTES = 2 * 1024
_MAX_DIGITS = 8
_BROKE_OFF = "broke its answer off"
_SOMETHING = select.POLLIN | select.POLLHUP | select.POLLERR
_OUTCOME_UNKNOWN = "The upstream server closed the connection in mid-call; the outcome is unknown."


class UnsentError(UpstreamProtocolError):
    """The connection could not be used any more when its request was to be written: it was not sent."""


class State(Enum):
    """Where a connection stands; see the table above."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    CLOSED = auto()


class Pool(Protocol):
    """Where a connection goes back to."""

    def release(self, connection: Connection) -> None:
        """Take a connection back, whatever became of it."""


class PooledResponse(WholeReader):
    """A response under way; see HttpResponse."""

    __slots__ = (
        "_connection",
        "_pieces",
        "headers",
        "is_whole",
        "pool",
        "problem",
        "queued_bytes",
        "status",
    )

    def __init__(self, connection: Connection) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.is_whole = False
        self.problem: UpstreamError | None = None
        self.queued_bytes = 0
        self.pool: Pool | None = None
        self._pieces: list[bytes] = []
        self._connection: Connection | None = connection

    def put(self, piece: bytes) -> bool:
        """Take a piece of the body; tell whether there is room for more."""
        self._pieces.append(piece)
        self.queued_bytes += len(piece)
        return self.queued_bytes < _HIGH_BYTES and len(self._pieces) < _MAX_PIECES

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """See HttpResponse."""
        while (piece := await self._take()) is not None:
            yield piece

    async def read_whole(self, limit_bytes: int) -> bytes:
        """Read the whole body; see `http.read_body`.

        Raises:
            TooLargeError: it is longer than `limit_bytes`; the rest was not read.
        """
        parts: list[bytes] = []
        size = 0
        while (piece := await self._take()) is not None:
            size += len(piece)
            if size > limit_bytes:
                raise TooLargeError(limit_bytes)
            parts.append(piece)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _take(self) -> bytes | None:
        """Give what came, None at the body's end."""
        while not self._pieces:
            if self.is_whole:
                return None
            if self.problem is not None:
                raise self.problem
            assert self._connection is not None, "an open response has its connection"
            await self._connection.wait_more(self)
        taken = self._take_pieces()
        if self._connection is not None:
            self._connection.make_room(self)
        return taken

    def _take_pieces(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        self.queued_bytes = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def take_whole(self, limit_bytes: int) -> bytes | None:
        """See HeldResponse."""
        if self.is_whole and self.queued_bytes <= limit_bytes:
            return self._take_pieces()
        return None

    def release(self) -> None:
        """See HeldResponse; `pool` and the connection were noted when it was handed out."""
        pool, self.pool = self.pool, None
        connection = self._connection
        if pool is not None and connection is not None:
            pool.release(connection)

    def close(self, problem: UpstreamError) -> None:
        """Let go of the connection; with `problem`, unless the body is whole."""
        self._connection = None
        if not self.is_whole and self.problem is None:
            self.problem = problem


class _Plain(NamedTuple):
    """The head of an answer that was read before, in two pieces: between them stands the body's length."""

    before: bytes
    after: bytes
    length: bytes
    headers: dict[str, str]

    @classmethod
    def of(cls, answer: bytes, headers: dict[str, str]) -> Self | None:
        """Cut up an answer that came in one piece; None where it is not that plain.

        The parser has read it as a 200 with its length stated once and nothing after its body. Where that
        does not fit with what is cut here, the parser goes on alone.
        """
        end = answer.find(b"\r\n\r\n")
        head = answer[:end].lower()
        at = head.find(_LENGTH) + len(_LENGTH)
        stop = answer.find(b"\r\n", at)
        length = answer[at:stop]
        if end > _MAX_PLAIN_BYTES or head.count(b"content-length") != 1 or not length.isdigit():
            return None
        if not 0 < int(length) == len(answer) - end - 4:
            return None
        return cls(answer[:at], answer[stop : end + 4], length, headers)


def look(connections: Sequence[Connection]) -> list[int]:
    """Give the descriptors on which something came, or that were closed: one look at all the sockets."""
    poll = select.poll()
    for connection in connections:
        if connection.descriptor >= 0:
            poll.register(connection.descriptor, _SOMETHING)
    return [descriptor for descriptor, _ in poll.poll(0)]


class Connection(asyncio.Protocol):
    """A connection of the pool. `upstream` names it in errors.

    `on_closed` is called once, when it can no longer be used. The loop's time stands in `since`: when
    it became idle, or since when somebody waits for bytes. `uses` counts requests; `got_anything`
    tells whether any byte came since the last one was sent.
    """

    def __init__(self, upstream: str, loop: asyncio.AbstractEventLoop) -> None:
        self.since = 0.0
        self.state = State.IDLE
        self.uses = 0
        self.got_anything = False
        self.on_closed: Callable[[Connection], None] | None = None
        self._upstream = upstream
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self.descriptor = -1
        self._poll: select.poll | None = None
        self._outbox = Outbox.here()
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._response = PooledResponse(self)
        self._headers: dict[str, str] = {}
        self._waiter: asyncio.Future[None] | None = None
        self._unproductive_bytes = 0
        self._header_bytes = 0
        self._header_count = 0
        self._is_kept = False
        self._ends_with_close = False
        self._is_paused = False
        self._plain: _Plain | None = None
        self._first: bytes | None = None
        self._unsent: bytes | None = None

    # ------------------------------------------------------------------ for the pool
    @property
    def is_usable(self) -> bool:
        """Whether a request may be sent: idle, and nothing came that nobody asked for.

        Looks at the socket itself, so that a close the loop has not yet told us of is seen.
        """
        return self.is_idle and not self.has_news

    @property
    def has_news(self) -> bool:
        """Whether something came, or the peer closed."""
        return self._poll is not None and bool(self._poll.poll(0))

    @property
    def is_idle(self) -> bool:
        """Whether it serves nobody and is open, as far as the loop has told us."""
        transport = self._transport
        return self.state is State.IDLE and transport is not None and not transport.is_closing()

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody waits for bytes, since `since`."""
        return self._waiter is not None and not self._waiter.done()

    async def exchange(self, request: bytes) -> PooledResponse:
        """Send a request in one write and wait for the head of its final response.

        Raises:
            UpstreamProtocolError: what came is no response, or nothing came.
            UpstreamTimeoutError: see `expire`.
        """
        response = self.prepare(request)
        self.write(is_quiet=True)
        while not response.status:
            if response.problem is not None:
                raise response.problem
            await self.wait_more(response)
        return response

    def prepare(self, request: bytes) -> PooledResponse:
        """Take a request to be sent by `write`; its response has no status before the head is there."""
        response = self._response = PooledResponse(self)
        self._unsent = request
        self.state = State.HEAD
        self.uses += 1
        self.got_anything = False
        self._unproductive_bytes = self._header_bytes = self._header_count = 0
        self._headers = response.headers
        return response

    def write(self, *, is_quiet: bool) -> None:
        """Send what was prepared, if it is still wanted; `is_quiet` says that nothing came unasked."""
        request, self._unsent = self._unsent, None
        transport = self._transport
        if request is None or transport is None:
            return
        if is_quiet and not transport.is_closing():
            transport.write(request)
        else:
            self._unsent = request
            self._fail(None)

    def finish(self) -> bool:
        """End an exchange; tell whether the connection may serve another, else it is gone."""
        if self.state is State.IDLE:
            return True
        self.abort()
        return False

    def abort(self) -> None:
        """Disconnect at once."""
        self._fail(None)

    def expire(self, what: str) -> None:
        """Give up what is waited for.

        Whoever waits gets an UpstreamTimeoutError.
        """
        self._fail(UpstreamTimeoutError(self._upstream, what))

    # ------------------------------------------------------------------ for the response
    def wait_more(self, response: PooledResponse) -> asyncio.Future[None]:
        """Give what is done once something changed for `response`."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        if response is not self._response or self.state is State.CLOSED:
            response.problem = self._closed(_BROKE_OFF)
            waiter.set_result(None)
        else:
            self._waiter = waiter
            self.since = self._loop.time()
        return waiter

    def make_room(self, response: PooledResponse) -> None:
        """Go on reading, once what was queued is taken."""
        if self._is_paused and response is self._response and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()

    # ------------------------------------------------------------------ asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not derived from it
        sock = transport.get_extra_info("socket")
        if sock is not None:
            self.descriptor = sock.fileno()
            self._poll = select.poll()
            self._poll.register(self.descriptor, _SOMETHING)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self.state is State.IDLE or self._unsent is not None:
            self.abort()  # nobody asked for anything: a second answer, or one before its question
            return
        parser = self._parser
        if parser is None:
            return
        if self.got_anything:
            self._first = None
        else:
            if self._plain is not None and self._take_plain(self._plain, data):
                return
            self._first = data
        self.got_anything = True
        self._unproductive_bytes += len(data)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            cause = exc.__context__
            if isinstance(cause, UpstreamProtocolError):
                self._fail(cause)
            else:
                text = f"sent no HTTP/1.1: {str(exc)[:200]}"
                self._fail(UpstreamProtocolError(self._upstream, text))
            return
        if self._unproductive_bytes > _MAX_HEAD_BYTES and not self._response.is_whole:
            text = f"sent {self._unproductive_bytes} bytes without a head or body in them"
            self._fail(UpstreamProtocolError(self._upstream, text))

    def _take_plain(self, plain: _Plain, data: bytes) -> bool:
        """Take an answer that differs from an earlier one in its body only, without parsing it again.

        Servers repeat their heads, within a second at least. The parser sees whole answers or none, so
        that it stands at the beginning of one all the same.
        """
        if not data.startswith(plain.before):
            return False
        at = len(plain.before)
        stop = data.find(b"\r\n", at, at + _MAX_DIGITS)
        length = data[at:stop]
        if stop < 0 or not length.isdigit() or not data.startswith(plain.after, stop):
            return False
        begin = stop + len(plain.after)
        if not 0 < int(length) == len(data) - begin:
            return False
        self.got_anything = True
        response = self._response
        headers = plain.headers
        if length != plain.length:
            headers = {**headers, "content-length": length.decode()}
        response.headers = headers
        response.status = 200
        response.put(data[begin:])
        self._is_kept = True
        self._end_response()
        return True

    def eof_received(self) -> bool | None:
        """See asyncio; there are no half-open connections here."""
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        if self._unsent is not None:
            self._fail(None)
        elif self.state is State.BODY and self._ends_with_close and exc is None:
            self._response.is_whole = True
            self._fail(None)
        else:
            text = "closed the connection without an answer"
            if self.state is State.BODY:
                text = _BROKE_OFF
            self._fail(self._closed(f"{text}{f': {exc}' if exc else ''}"))

    # ------------------------------------------------------------------ httptools
    def on_message_begin(self) -> None:
        """Refuse a second response to one request; interim ones are still to be told apart."""
        if self.state is not State.HEAD:
            raise UpstreamProtocolError(self._upstream, "answered twice")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; those of trailers are counted and dropped."""
        self._header_count += 1
        self._header_bytes += len(name) + len(value)
        if self._header_count > _MAX_HEADERS or self._header_bytes > _MAX_HEAD_BYTES:
            raise UpstreamProtocolError(self._upstream, "sent too many or too long headers")
        if self.state is State.HEAD:
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Wake who waits for the head, unless it is an interim one."""
        parser = self._parser
        assert parser is not None, "it calls this"
        status = parser.get_status_code()
        if parser.get_http_version() not in _VERSIONS or not 100 <= status <= 599:
            raise UpstreamProtocolError(self._upstream, "sent no HTTP/1.1 status line")
        if status < 200:
            if status == 101:
                raise UpstreamProtocolError(self._upstream, "switched the protocol")
            self._headers.clear()
            self._first = None
            return
        headers = self._headers
        coding = headers.get("transfer-encoding")
        if coding is not None and coding.strip().lower() != "chunked":
            raise UpstreamProtocolError(self._upstream, "used an unknown transfer coding")
        self._is_kept = parser.should_keep_alive()
        self._ends_with_close = coding is None and "content-length" not in headers
        self._unproductive_bytes = 0
        self._response.status = status
        self.state = State.BODY
        self._wake()

    def on_body(self, body: bytes) -> None:
        """Queue a piece of the body, and stop reading where nobody takes it."""
        self._unproductive_bytes = 0
        if not self._response.put(body) and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        """End the response; the connection stays if nothing speaks against it."""
        if self.state is not State.BODY:
            return  # an interim response
        if self._is_kept and self._first is not None and self._response.status == 200:
            is_plain = not (self._ends_with_close or "transfer-encoding" in self._headers)
            self._plain = _Plain.of(self._first, self._headers) if is_plain else None
            self._first = None
        self._end_response()

    # ------------------------------------------------------------------ inside
    def _end_response(self) -> None:
        """End a response that is whole; the connection serves again, if nothing speaks against it."""
        self._response.is_whole = True
        transport = self._transport
        # An answer to a request that is not yet sent: what is left of it must not be sent later.
        if self._is_kept and transport is not None and not transport.get_write_buffer_size():
            self.state = State.IDLE
            if self._is_paused:
                self._is_paused = False
                transport.resume_reading()
            self._wake()
        else:
            self._fail(None)

    def _reason(self) -> UpstreamError:
        """Say why the response ends, where nothing else is known."""
        if self._unsent is not None:
            return UnsentError(self._upstream, "closed a connection, or spoke on it unasked")
        return self._closed(_BROKE_OFF)

    def _closed(self, how: str) -> UpstreamProtocolError:
        """Word a close in mid-exchange: clients are told that nobody knows what became of it."""
        return UpstreamProtocolError(self._upstream, how, safe_message=_OUTCOME_UNKNOWN)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
            self._outbox.expect()

    def _fail(self, problem: UpstreamError | None) -> None:
        """Close, and tell whoever waits; a response that is whole stays whole.

        Connection, parser and response know each other; apart, they are gone at once and not at a
        collection.
        """
        if self.state is not State.CLOSED:
            self.state = State.CLOSED
            self._parser = None
            self._response.close(problem or self._reason())
            if self.on_closed is not None:
                self.on_closed(self)
        self._poll = self._first = self._unsent = None
        self.descriptor = -1
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        self._wake()
