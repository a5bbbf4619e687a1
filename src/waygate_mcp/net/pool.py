"""The connections to one upstream, and who may have one.

Knows two budgets: one for calls that end soon, one for streams that may last. A response that turns
out to be a stream moves from the first to the second, so that parked calls and listeners never keep
short calls waiting. Refuses to know HTTP: when a response is a stream its user says.
Spec: threat model rules 26 and 39; decision record 0020.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from waygate_mcp.errors import UpstreamUnavailableError
from waygate_mcp.net.connection import Connection, PooledResponse, State, look
from waygate_mcp.net.outbox import Outbox

__all__ = ["ConnectionPool", "PoolCounts", "PoolLimits"]


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """What one upstream may take.

    `connections` for short calls and idle ones, `streams` beside them; `waiting` calls for at most
    `wait_s`. An idle connection lives `idle_s`. `head_s` and `silence_s` are last limits for a head
    and between two pieces of a body: whoever calls has deadlines of its own.
    """

    connections: int = 64
    streams: int = 256
    waiting: int = 1024
    connect_s: float = 10.0
    wait_s: float = 10.0
    idle_s: float = 30.0
    head_s: float = 900.0
    silence_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """How many connections there are, and calls waiting for one; `opened` ever since."""

    idle: int
    busy: int
    streams: int
    waiting: int
    opened: int


class ConnectionPool:
    """Hands connections out and takes them back. `dial` opens one; `upstream` names it in errors."""

    def __init__(
        self, upstream: str, dial: Callable[[], Awaitable[Connection]], limits: PoolLimits
    ) -> None:
        self._upstream = upstream
        self._dial = dial
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._shorts: set[Connection] = set()
        self._streams: set[Connection] = set()
        self._idle: list[Connection] = []
        self._unsent: list[Connection] = []
        self._outbox = Outbox.here()
        self._dialling_shorts = 0
        self._dialling_streams = 0
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._opened = 0
        self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None
        waits = (limits.idle_s, limits.head_s, limits.silence_s)
        self._tick_s = min(1.0, *(wait / 4 for wait in waits))

    @property
    def counts(self) -> PoolCounts:
        """The numbers of now."""
        return PoolCounts(
            idle=len(self._idle),
            busy=len(self._shorts) - len(self._idle) + self._dialling_shorts,
            streams=len(self._streams) + self._dialling_streams,
            waiting=len(self._waiters),
            opened=self._opened,
        )

    def take(self) -> Connection | None:
        """Give an idle connection for `send`, None where `acquire` has to find one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_idle:
                return connection
            connection.abort()
        return None

    def send(self, connection: Connection, request: bytes) -> PooledResponse:
        """Send a request, with those of others where there are any.

        There is one look for all at what came unasked, right before they are written; where something
        did, or the peer closed, the response ends with an UnsentError.
        """
        response = connection.prepare(request)
        if self._outbox.is_open:
            if not self._unsent:
                self._outbox.add(self._send_all)
            self._unsent.append(connection)
        else:
            connection.write(is_quiet=not connection.has_news)
        return response

    def _send_all(self) -> None:
        connections, self._unsent = self._unsent, []
        spoiled = look(connections)
        for connection in connections:
            connection.write(is_quiet=connection.descriptor not in spoiled)

    async def acquire(self, *, is_stream: bool = False, is_fresh: bool = False) -> Connection:
        """Give a connection that is usable now; to be given back by `release`.

        `is_fresh` asks for one that served nobody yet.

        Raises:
            UpstreamUnavailableError: there is none to be had.
        """
        if self._is_closed:
            raise UpstreamUnavailableError(self._upstream, "the transport is not open")
        if is_stream:
            return await self._acquire_stream()
        while True:
            while self._idle:
                connection = self._idle.pop()
                if not is_fresh and connection.is_usable:
                    return connection
                connection.abort()
            if self._has_room:
                self._dialling_shorts += 1
                return await self._open_short()
            handed = await self._wait()
            if handed is None:
                return await self._open_short()
            if handed.is_usable and not is_fresh:
                return handed
            handed.abort()  # makes room

    def release(self, connection: Connection) -> None:
        """Take a connection back, whatever became of it."""
        if connection in self._streams:
            if connection.state is not State.IDLE or not self._has_room:
                connection.abort()
                return
            self._streams.discard(connection)
            self._shorts.add(connection)
        if not connection.finish():
            return
        connection.since = self._loop.time()
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        self._idle.append(connection)

    def count_as_stream(self, connection: Connection) -> None:
        """Move a connection to the budget of streams, if there is room in it."""
        if connection in self._shorts and self._has_stream_room:
            self._shorts.discard(connection)
            self._streams.add(connection)
            self._offer_room()

    def close(self) -> None:
        """Disconnect all; those who wait get an UpstreamUnavailableError."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for connection in [*self._shorts, *self._streams]:
            connection.abort()
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(
                    UpstreamUnavailableError(self._upstream, "the transport was closed")
                )

    @property
    def _has_room(self) -> bool:
        return len(self._shorts) + self._dialling_shorts < self._limits.connections

    @property
    def _has_stream_room(self) -> bool:
        return len(self._streams) + self._dialling_streams < self._limits.streams

    async def _acquire_stream(self) -> Connection:
        """Give a connection of the other budget, an idle one if there is one."""
        if not self._has_stream_room:
            raise UpstreamUnavailableError(self._upstream, "too many streams are open")
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable:
                self.count_as_stream(connection)
                return connection
            connection.abort()
        self._dialling_streams += 1
        try:
            connection = await self._open()
            self._streams.add(connection)
        finally:
            self._dialling_streams -= 1
        return connection

    async def _open_short(self) -> Connection:
        """Dial in a place that was counted already."""
        try:
            connection = await self._open()
            self._shorts.add(connection)
        finally:
            self._dialling_shorts -= 1
            self._offer_room()
        return connection

    async def _open(self) -> Connection:
        """Dial, and see to it that the connection's end is noticed."""
        connection = await self._dial()
        if self._is_closed or connection.state is State.CLOSED:
            connection.abort()
            text = "the connection was closed as soon as it was open"
            raise UpstreamUnavailableError(self._upstream, text)
        self._opened += 1
        connection.on_closed = self._forget
        if self._timer is None:
            self._timer = self._loop.call_later(self._tick_s, self._tick)
        return connection

    async def _wait(self) -> Connection | None:
        """Wait for a connection, or None: a place to dial, already counted."""
        if len(self._waiters) >= self._limits.waiting:
            raise UpstreamUnavailableError(self._upstream, "too many calls wait for a connection")
        waiter: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(self._limits.wait_s):
                return await waiter
        except TimeoutError:
            self._abandon(waiter)
            raise UpstreamUnavailableError(
                self._upstream, "no connection became free in time"
            ) from None
        except asyncio.CancelledError:
            self._abandon(waiter)
            raise

    def _abandon(self, waiter: asyncio.Future[Connection | None]) -> None:
        """Withdraw from the queue, passing on what was handed over meanwhile."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        if not waiter.done() or waiter.cancelled() or waiter.exception() is not None:
            return
        handed = waiter.result()
        if handed is not None:
            self.release(handed)
        else:
            self._dialling_shorts -= 1
            self._offer_room()

    def _offer_room(self) -> None:
        """Let who waits dial, while there is room."""
        while self._waiters and self._has_room and not self._is_closed:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._dialling_shorts += 1
                waiter.set_result(None)

    def _forget(self, connection: Connection) -> None:
        """Note that a connection is gone."""
        self._streams.discard(connection)
        self._shorts.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._offer_room()

    def _tick(self) -> None:
        """Close what is idle or silent for too long; one timer for all, instead of one for each."""
        self._timer = None
        now = self._loop.time()
        limits = self._limits
        for connection in self._idle[:]:
            if now - connection.since > limits.idle_s:
                connection.abort()
        for connection in [*self._shorts, *self._streams]:
            if not connection.is_waited_for:
                continue
            silent_s = now - connection.since
            if connection.state is State.HEAD and silent_s > limits.head_s:
                connection.expire(f"gave no answer within {limits.head_s:.0f} s")
            elif connection.state is State.BODY and silent_s > limits.silence_s:
                connection.expire(f"said nothing for {limits.silence_s:.0f} s")
        if self._shorts or self._streams:
            self._timer = self._loop.call_later(self._tick_s, self._tick)
