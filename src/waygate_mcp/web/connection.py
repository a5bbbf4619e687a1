"""One connection, within bounds: how many, how long a head may be and may take, what is thrown away.

Knows bytes before they are a request, where uvicorn and its parser set no limit. Refuses to know
what a request means; the guard looks at the headers again, exactly.

    head      at most 64 KiB and 20 s, else 431 or 408        a client that drips headers holds nothing
    request   answered before its body was read: the rest is dropped for 5 s, then the connection
    idle      75 s between two requests                        uvicorn's own timer
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from waygate_mcp.net.outbox import Outbox
from waygate_mcp.web.cycle import Cycle, split_target
from waygate_mcp.web.heads import Cut, Head, Heads
from waygate_mcp.web.outlet import Outlet

__all__ = ["Connection", "ConnectionLimits"]

HEAD_TIMEOUT_S = 20.0
LINGER_S = 5.0
MAX_HEAD_BYTES = 64 * 1024
_FRAMING_HEADERS = (b"content-length", b"transfer-encoding")


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections one process has open at once."""

    connections_max: int


class Connection(HttpToolsProtocol):
    """A connection of ours. A subclass gives `current_limits`; its connections share the heads they know."""

    heads: ClassVar[Heads]
    outbox: Outbox

    def __init_subclass__(cls) -> None:
        cls.heads = Heads()

    @staticmethod
    def current_limits() -> ConnectionLimits:
        """Give the limits in force."""
        raise NotImplementedError

    _is_in_head = False
    _is_in_body = False
    _head_bytes = 0
    _timer: asyncio.TimerHandle | None = None
    _idle_since: float | None = None
    _scope: dict[str, Any] | None = None

    def connection_made(self, transport: Any) -> None:
        """Take a connection, or refuse it where there are too many."""
        self.outbox = Outbox.here()
        outlet: Any = Outlet(transport, self.outbox)
        super().connection_made(outlet)
        if len(self.connections) > self.current_limits().connections_max:
            self._refuse(503, "Too many connections.", b"retry-after: 1\r\n")
            return
        self._arm(HEAD_TIMEOUT_S, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._disarm()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None
        super().connection_lost(exc)
        if not self.connections:
            self.heads.clear()
        # A cycle knows its connection; apart, both are gone at once and not at a collection.
        self.cycle = cast("Any", None)
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        """Serve a request whose head is known; else feed the parser, and watch how long the head gets."""
        self._idle_since = None
        cut: Cut | None = None
        cycle: Any = self.cycle
        if (
            not (self._is_in_head or self._is_in_body)
            and (cycle is None or cycle.response_complete)  # idle: in place, each request comes by
            and (cut := self.heads.cut(data)) is not None
            and (head := self.heads.find(cut)) is not None
        ):
            self._serve_known(head, cut)
            return
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse(400, "Invalid HTTP request.")
            return
        if cut is not None:
            self._learn(cut)
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, "The header is too large.")
            elif self._timer is None:
                self._arm(HEAD_TIMEOUT_S, self._head_is_late)
        elif not self._is_in_body and self._timer is None and self._is_idle:
            # Empty lines between requests are allowed, and no reason to wait for ever.
            self._arm_keep_alive()

    def on_message_begin(self) -> None:
        """Note that a head has begun."""
        self._is_in_head = True
        self.url = b""
        self.headers = []
        self.scope = cast("Any", {**(self._scope or self._own_scope()), "headers": self.headers})

    def _own_scope(self) -> dict[str, Any]:
        """Make what stands in the scope of every request of this connection."""
        super().on_message_begin()
        own = self._scope = cast("dict[str, Any]", self.scope)
        del own["state"]  # the doors keep theirs elsewhere
        return own

    def _serve_known(self, head: Head, cut: Cut) -> None:
        """Begin a request that is all here, as the parser's callbacks would have."""
        if self._timer is not None:
            self._disarm()
        body: Any
        _, length, body = cut
        scope: Any = (self._scope or self._own_scope()) | head.take(length)
        self.scope = scope
        self.headers = scope["headers"]
        self.expect_100_continue = False
        cycle = self.cycle = Cycle(self, True)
        cycle.body = body
        cycle.more_body = False
        cycle.message_event.set()
        self._start(cycle, self.app)

    def _start(self, cycle: Cycle, app: Any) -> None:
        """Have a request served."""
        cycle.start(self.loop, app, self.tasks)
        self.outbox.load = len(self.tasks)
        self.outbox.expect()

    def _learn(self, cut: Cut) -> None:
        """Keep the head of the request that was parsed just now, if nothing of it was special."""
        cycle: Any = self.cycle
        if (
            cycle is not None
            and not cycle.more_body
            and cycle.keep_alive
            and cycle.scope is self.scope
        ):
            scope = cast("dict[str, Any]", self.scope)
            if scope["http_version"] == "1.1" and not self.parser.should_upgrade():
                self.heads.learn(cut, scope)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header as it is; what it asks for is looked at once, when all are here."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Begin the request: as uvicorn does, with a cycle of ours and without what we never use."""
        self._is_in_head = False
        self._is_in_body = True
        self._head_bytes = 0
        self._disarm()
        parser, scope = self.parser, cast("dict[str, Any]", self.scope)
        version = parser.get_http_version()
        scope["method"] = parser.get_method().decode("ascii")
        if version != "1.1":
            scope["http_version"] = version
        raw_path, scope["query_string"] = split_target(self.url)
        path = raw_path.decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        self.expect_100_continue = (b"expect", b"100-continue") in self.headers
        before: Any = self.cycle  # None before the first request
        self.cycle = Cycle(self, version != "1.0" and parser.should_keep_alive())
        if before is None or before.response_complete:
            self._start(self.cycle, self.app)
        else:
            # A pipelined request waits its turn, and the client with it.
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """Take a part of the body; the client is slowed down while nobody reads it."""
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Note that all of a request is here."""
        if self.parser.should_upgrade():
            return  # it is not: see `_feed`
        self._is_in_body = False
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()
        if self._timer is not None and self._is_idle:
            # It was answered before it ended, and is dropped by now.
            self._disarm()
            self._arm_keep_alive()

    def on_response_complete(self) -> None:
        """Go on with what is pipelined, wait for more, or drop what is left of a request."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start(cast("Cycle", cycle), app)
        else:
            self._arm_keep_alive()
        if self._is_in_body and self._is_idle and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._arm(LINGER_S, self.transport.close)

    def _feed(self, data: bytes) -> None:
        """Feed the parser, which stops where a client asks for another protocol.

        None is offered, so the request is served as it is, body included (RFC 9110, 7.8): a fresh
        parser is shown the framing of the body and goes on. Some clients ask so on every request.
        """
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
            else:
                return
            self.parser = httptools.HttpRequestParser(_GoingOn(self))
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            framing = [
                b"%b: %b\r\n" % header for header in self.headers if header[0] in _FRAMING_HEADERS
            ]
            self.parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(framing))

    @property
    def _is_idle(self) -> bool:
        cycle: Any = self.cycle  # None before the first request, whatever the library's types say
        return cycle is None or bool(cycle.response_complete)

    def _unset_keepalive_if_required(self) -> None:
        """Note that it is not idle. The timer stays: it looks again when its time comes."""
        self._idle_since = None

    def _arm_keep_alive(self) -> None:
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self._close_if_idle
            )

    def _close_if_idle(self) -> None:
        """Close what nobody used for the whole time; one timer serves any number of requests."""
        self.timeout_keep_alive_task = None
        since = self._idle_since
        if since is None:
            return
        left = since + self.timeout_keep_alive - self.loop.time()
        if left <= 0:
            self.timeout_keep_alive_handler()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(left, self._close_if_idle)

    def _head_is_late(self) -> None:
        self._timer = None
        if self._head_bytes:
            self._refuse(408, "The header was not received in time.")
        else:
            self.transport.close()

    def _refuse(self, status: int, text: str, more: bytes = b"") -> None:
        """Answer and close, where nothing of the connection can be used any more."""
        if self.transport.is_closing():
            return
        self._disarm()
        if self._is_idle:
            body = text.encode()
            head = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n" % len(body)
            self.transport.write(
                STATUS_LINE[status] + more + head + b"connection: close\r\n\r\n" + body
            )
        self.transport.close()

    def _arm(self, seconds: float, then: Callable[[], None]) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, then)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _GoingOn:
    """What a parser calls that goes on with a request whose head is known: no head is told twice."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._is_known = True
        self.on_body = connection.on_body
        self.on_message_complete = connection.on_message_complete

    def on_message_begin(self) -> None:
        if not self._is_known:
            self._connection.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._is_known:
            self._connection.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_known:
            self._connection.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._is_known:
            self._is_known = False
        else:
            self._connection.on_headers_complete()
