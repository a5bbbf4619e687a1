"""Our own HTTP/1.1 client for the path of a call: one origin, pooled, streaming.

Knows one exchange from its first byte to the connection's return: sending once, redirects within the
origin, and when sending again is allowed. Refuses to know MCP, proxies and HTTP/2; environment
proxies are ignored, and content codings are not asked for, so that a limit of bytes is one of
memory. Credentials given at construction leave for the one origin only.
Spec: RFC 9112; threat model rules 19, 20, 26, 27 and 39; decision record 0020.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from waygate_mcp.errors import (
    ConfigError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamUnavailableError,
)
from waygate_mcp.net.connection import Connection, PooledResponse, UnsentError
from waygate_mcp.net.dial import Dialler, NetworkPolicy, Resolve, resolve_by_system
from waygate_mcp.net.heads import HeadWriter, check_path
from waygate_mcp.net.http import Header, media_type
from waygate_mcp.net.pool import ConnectionPool, PoolCounts, PoolLimits
from waygate_mcp.net.urls import Target, same_origin_path

__all__ = ["PooledTransport"]

_MAX_REDIRECTS = 3
_KEPT_METHOD = (307, 308)
_IDEMPOTENT = frozenset(("DELETE", "GET"))
_DEFAULT_LIMITS = PoolLimits()


class PooledTransport:
    """Carries requests to one origin; an async context manager holding the connections.

    `target`'s path is not used: each request brings its own. `headers` (credentials, for example) go
    to this origin alone. `tls` is for https, the system's authorities where it is None. `upstream`
    names it in errors.

    Raises:
        LocalProtocolError: one of `headers` must not be sent.
    """

    def __init__(
        self,
        target: Target,
        upstream: str,
        policy: NetworkPolicy,
        *,
        headers: Sequence[Header] = (),
        tls: ssl.SSLContext | None = None,
        limits: PoolLimits = _DEFAULT_LIMITS,
        resolve: Resolve = resolve_by_system,
    ) -> None:
        self.target = target
        self._upstream = upstream
        self._tls = tls
        self._limits = limits
        self._writer = HeadWriter(target.authority, headers)
        self._dialler = Dialler(
            target, upstream, policy, resolve=resolve, connect_s=limits.connect_s
        )
        self._pool: ConnectionPool | None = None

    async def __aenter__(self) -> Self:
        """Make ready to connect; nothing is sent yet."""
        if self.target.scheme == "https" and self._tls is None:
            # Reading the system's authorities takes milliseconds of file reading.
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        self._pool = ConnectionPool(self._upstream, self._dial, self._limits)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every connection; exchanges under way break off."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
            await asyncio.sleep(0)  # sockets are closed in the loop's next round

    @property
    def counts(self) -> PoolCounts:
        """The pool's numbers of now, for metrics."""
        if self._pool is None:
            return PoolCounts(idle=0, busy=0, streams=0, waiting=0, opened=0)
        return self._pool.counts

    def request(
        self, method: str, path: str, headers: Sequence[Header], body: bytes = b""
    ) -> _Exchange:
        """See HttpExchange. Follows 307 and 308 within the origin.

        A POST is sent once: where its connection closes without an answer, nobody knows what became
        of it. GET and DELETE are sent again, once, if an old connection closed before any answer.
        Spec: RFC 9112 9.3.1.
        """
        return _Exchange(self, method, path, headers, body)

    async def _dial(self) -> Connection:
        loop = asyncio.get_running_loop()
        made: list[Connection] = []  # one for each address that was tried

        def make() -> Connection:
            made.append(Connection(self._upstream, loop))
            return made[-1]

        try:
            _, connection = await self._dialler.connect(make, self._tls)
            made.remove(connection)
        finally:
            for one in made:
                one.abort()  # or it would wait for the collector
        return connection

    async def post(self, path: str, headers: Sequence[Header], body: bytes) -> PooledResponse:
        """See Poster: the way of nearly all calls."""
        pool = self._open_pool()
        request = self._writer.write("POST", path, headers, body)
        while True:
            connection = pool.take() or await pool.acquire()
            is_new = not connection.uses
            response = pool.send(connection, request)
            try:
                while not response.status:
                    if response.problem is not None:
                        raise response.problem
                    await connection.wait_more(response)
            except UpstreamProtocolError as exc:
                pool.release(connection)
                if is_new or not isinstance(exc, UnsentError):
                    raise
            except BaseException:
                connection.abort()
                raise
            else:
                break
        if response.status >= 300 or "content-encoding" in response.headers:
            asked = (path, headers, body)
            connection, response = await self._settle(pool, "POST", asked, connection, response)
        response.pool = pool
        if not response.is_whole and media_type(response) == "text/event-stream":
            pool.count_as_stream(connection)
        return response

    async def carry(self, exchange: _Exchange) -> tuple[ConnectionPool, Connection, PooledResponse]:
        """Send a request, following redirects, for its exchange alone.

        Gives the pool to which the connection goes back when the response is done with.
        """
        pool = self._open_pool()
        asked = (exchange.path, exchange.headers, exchange.body)
        request = self._writer.write(exchange.method, *asked)
        connection, response = await self._send_once(pool, exchange.method, request)
        return pool, *await self._settle(pool, exchange.method, asked, connection, response)

    def _open_pool(self) -> ConnectionPool:
        if self._pool is None:
            raise UpstreamUnavailableError(self._upstream, "the transport is not open")
        return self._pool

    async def _settle(
        self,
        pool: ConnectionPool,
        method: str,
        asked: tuple[str, Sequence[Header], bytes],
        connection: Connection,
        response: PooledResponse,
    ) -> tuple[Connection, PooledResponse]:
        """Follow redirects from the first response on; give the one that is no redirect."""
        path, headers, body = asked
        for _ in range(_MAX_REDIRECTS):
            if not 300 <= response.status < 400:
                break
            pool.release(connection)
            path = self._redirected(path, response)
            request = self._writer.write(method, path, headers, body)
            connection, response = await self._send_once(pool, method, request)
        problem = self._check(response)
        if problem is None and 300 <= response.status < 400:
            text = f"redirects more than {_MAX_REDIRECTS} times"
            problem = UpstreamProtocolError(self._upstream, text)
        if problem is not None:
            pool.release(connection)
            raise problem
        return connection, response

    async def _send_once(
        self, pool: ConnectionPool, method: str, request: bytes
    ) -> tuple[Connection, PooledResponse]:
        """Send a request and wait for its head; again only where that cannot make it run twice."""
        is_stream = method == "GET"
        connection = await pool.acquire(is_stream=is_stream)
        is_old = connection.uses > 0
        try:
            return connection, await connection.exchange(request)
        except UpstreamProtocolError:
            pool.release(connection)
            if not is_old or connection.got_anything or method not in _IDEMPOTENT:
                raise
        except BaseException:
            connection.abort()
            raise
        connection = await pool.acquire(is_stream=is_stream, is_fresh=True)
        try:
            return connection, await connection.exchange(request)
        except BaseException:
            connection.abort()
            raise

    def _redirected(self, path: str, response: PooledResponse) -> str:
        """Give where a redirect leads; nowhere but on the same origin, with the method kept."""
        location = response.headers.get("location", "")
        if response.status not in _KEPT_METHOD or not location:
            raise UpstreamProtocolError(self._upstream, f"answered HTTP {response.status}")
        try:
            there = same_origin_path(self.target, path, location)
            check_path(there)
        except (ConfigError, ValueError) as exc:
            raise UpstreamProtocolError(
                self._upstream, "redirects to another origin, or to no URL"
            ) from exc
        return there

    def _check(self, response: PooledResponse) -> UpstreamError | None:
        """Say what is wrong with a response's head."""
        coding = response.headers.get("content-encoding", "identity").lower()
        if coding == "identity":
            return None
        text = f"used the content coding {coding[:40]!r}, which nobody asked for"
        return UpstreamProtocolError(self._upstream, text)


class _Exchange:
    """One request; entered when its response's head is there. See HttpExchange."""

    __slots__ = ("_connection", "_pool", "_transport", "body", "headers", "method", "path")

    def __init__(
        self,
        transport: PooledTransport,
        method: str,
        path: str,
        headers: Sequence[Header],
        body: bytes,
    ) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self._transport = transport
        self._pool: ConnectionPool | None = None
        self._connection: Connection | None = None

    async def __aenter__(self) -> PooledResponse:
        """Send the request and wait for the head."""
        self._pool, self._connection, response = await self._transport.carry(self)
        if not response.is_whole and media_type(response) == "text/event-stream":
            self._pool.count_as_stream(self._connection)
        return response

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the connection back, or disconnect where the body was not read to its end."""
        connection, self._connection = self._connection, None
        if connection is not None and self._pool is not None:
            self._pool.release(connection)
