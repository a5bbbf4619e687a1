"""The old HTTP transport: one event stream for all that comes, a POST for each message that goes.

Knows the endpoint event and where it may lead. Refuses to know sessions and messages: a stream is a
line like a process is.
Spec: 2024-11-05 basic/transports, "HTTP with SSE"; protocol.md 9, rule 17.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from urllib.parse import urljoin, urlsplit

from waygate_mcp.errors import (
    TooLargeError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
    WaygateError,
)
from waygate_mcp.model.ports import Supervisor
from waygate_mcp.net.http import HttpExchange, HttpResponse, media_type
from waygate_mcp.protocol.framing import FrameTooLarge, SseDecoder, SseEvent
from waygate_mcp.upstreams.legacy import NotLegacyError, SessionLostError
from waygate_mcp.upstreams.multiplex import Line, Multiplex

__all__ = ["endpoint_path", "open_sse_line"]

_ENDPOINT_S = 10.0
_MAX_URL_CHARS = 8_192


def endpoint_path(upstream: str, origin: str, path: str, given: str) -> str:
    """Give the path messages are posted to, from the endpoint event of the stream at `path`.

    Raises:
        UpstreamProtocolError: it leads to another origin, or nowhere.
    """
    base = origin + path
    try:
        target, own = urlsplit(urljoin(base, given.strip())), urlsplit(base)
        is_same = (target.scheme, target.hostname, _port(target.scheme, target.port)) == (
            own.scheme, own.hostname, _port(own.scheme, own.port)
        )  # fmt: skip
    except ValueError as exc:
        raise UpstreamProtocolError(upstream, "its endpoint event holds no URL") from exc
    if not is_same or target.username is not None or len(given) > _MAX_URL_CHARS:
        raise UpstreamProtocolError(upstream, "its endpoint event leads to another origin")
    found = (target.path or "/") + (f"?{target.query}" if target.query else "")
    if not (found.isascii() and found.isprintable()) or " " in found:
        raise UpstreamProtocolError(upstream, "its endpoint event holds no URL")
    return found


def _port(scheme: str, port: int | None) -> int:
    return port if port is not None else {"https": 443}.get(scheme, 80)


def open_sse_line(
    name: str,
    exchange: HttpExchange,
    url: tuple[str, str],
    supervisor: Supervisor,
    *,
    limit_bytes: int,
) -> Callable[[Multiplex], Awaitable[Line]]:
    """Give a function that opens the stream at `url` (origin and path) and reads it."""

    async def open_line(channel: Multiplex) -> Line:
        line = _SseLine(name, exchange, url, channel, limit_bytes)
        await line.open(supervisor)
        return line

    return open_line


class _SseLine:
    """An event stream, and where its answers are posted."""

    def __init__(
        self,
        name: str,
        exchange: HttpExchange,
        url: tuple[str, str],
        channel: Multiplex,
        limit_bytes: int,
    ) -> None:
        self.is_closed = False
        self._name = name
        self._exchange = exchange
        self._origin, self._path = url
        self._channel = channel
        self._limit = limit_bytes
        self._endpoint = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    async def open(self, supervisor: Supervisor) -> None:
        """Open the stream and await its endpoint event."""
        self._task = supervisor.start(self._read(), name=f"event-stream:{self._name}")
        try:
            async with asyncio.timeout(_ENDPOINT_S):
                await asyncio.shield(self._endpoint)
        except TimeoutError as exc:
            await self.close()
            raise UpstreamUnavailableError(self._name, "sent no endpoint event") from exc
        except BaseException:
            await self.close()
            raise

    async def send(self, message: bytes) -> None:
        """See Line.

        Raises:
            SessionLostError: the upstream does not know the stream any more.
            UpstreamProtocolError: it refused the message.
        """
        if self.is_closed:
            raise UpstreamUnavailableError(self._name, "its event stream has ended")
        sent = [("content-type", "application/json"), ("accept", "*/*")]
        path: str = self._endpoint.result()
        async with self._exchange.request("POST", path, sent, message) as response:
            if response.status in (404, 410):
                self.is_closed = True
                raise SessionLostError(self._name, "the session is gone")
            if response.status >= 300:
                raise UpstreamProtocolError(self._name, f"answered HTTP {response.status}")
            # Read to the end, within reason, so that the connection can be used again.
            async with aclosing(response.chunks()) as chunks:
                size = 0
                async for chunk in chunks:
                    size += len(chunk)
                    if size > 65_536:
                        break

    async def close(self) -> None:
        """See Line."""
        self.is_closed = True
        task, self._task = self._task, None  # it knows this line
        if task is not None:
            task.cancel()
            await asyncio.wait({task}, timeout=5)
        if not self._endpoint.done():
            self._endpoint.cancel()

    async def _read(self) -> None:
        """Read the stream to its end; what is in flight then has an outcome nobody knows."""
        failure: WaygateError = UpstreamTimeoutError(
            self._name, "its event stream ended with a request in flight"
        )
        try:
            async with self._exchange.request(
                "GET", self._path, [("accept", "text/event-stream")]
            ) as response:
                self._check(response)
                await self._read_events(response)
        except WaygateError as exc:
            failure = exc.with_traceback(None)  # else it would hold this frame, and the frame it
        finally:
            self.is_closed = True
            if not self._endpoint.done():
                self._endpoint.set_exception(failure)
                self._endpoint.exception()  # whoever waited for it may have gone
            self._channel.fail(failure)

    def _check(self, response: HttpResponse) -> None:
        """Tell an outage from a server that has no such stream."""
        if response.status >= 500 or response.status in (401, 403):
            raise UpstreamUnavailableError(self._name, f"answered HTTP {response.status}")
        if response.status != 200 or media_type(response) != "text/event-stream":
            raise NotLegacyError(self._name, f"GET: HTTP {response.status} without an event stream")

    async def _read_events(self, response: HttpResponse) -> None:
        """Take events as they come."""
        decoder = SseDecoder(self._limit)
        async with aclosing(response.chunks()) as chunks:
            async for chunk in chunks:
                try:
                    events = decoder.feed(chunk)
                except FrameTooLarge as exc:
                    raise TooLargeError(exc.limit) from None
                for event in events:
                    self._take(event)

    def _take(self, event: SseEvent) -> None:
        if event.data is None:
            return
        if event.event == "endpoint" and not self._endpoint.done():
            given = event.data.decode(errors="replace")
            self._endpoint.set_result(endpoint_path(self._name, self._origin, self._path, given))
        elif event.event == "message":
            self._channel.take(event.data)
