"""One HTTP request at the MCP door, from its headers to the end of its response.

Knows how a response is written, once, and how it is recorded. Refuses to know MCP.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from waygate_mcp.auth.oauth import TokenPrincipal
from waygate_mcp.telemetry.logs import RequestRecord
from waygate_mcp.web.cycle import CYCLE, Cycle
from waygate_mcp.web.guard import STRANGER, Guard

if TYPE_CHECKING:  # the house builds the door
    from waygate_mcp.runtime.house import House

__all__ = ["JSON", "Receive", "Scope", "Send", "Visit"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON = (b"content-type", b"application/json")
_EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
_SHORTEST_STREAM_S = 1.0  # within the leeway for clocks, so that nobody comes back in a circle
_NO_STORE = (b"cache-control", b"no-store")
_NO_BUFFERING = (b"x-accel-buffering", b"no")


class Visit:
    """One request and its response.

    `rpc_method`, `name`, `outcome` and `principal` are filled in as they become known, for the
    record that is written when the response ends.
    """

    # What most requests leave as it is stands in the class: it is set where it differs.
    is_forwarded: ClassVar[bool] = False
    """Whether another worker took the request and sent it here."""
    door = "http"
    endpoint = ""
    headers: Mapping[bytes, bytes] = MappingProxyType({})
    extra_headers: tuple[Header, ...] = ()
    request_id = ""
    principal = STRANGER
    rpc_method: str | None = None
    name: str | None = None
    outcome: str | None = None
    status = 0
    is_begun = False
    is_ended = False

    def __init__(self, house: House[Guard], scope: Scope, receive: Receive, send: Send) -> None:
        self._house = house
        self._send = send
        self._started_s = time.perf_counter()
        extensions = scope.get("extensions")
        self._cycle: Cycle | None = extensions.get(CYCLE) if extensions else None
        self.scope = scope
        self.receive = receive

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The task that serves the request, None where the server does not tell."""
        return None if self._cycle is None else self._cycle.task

    def whole_body(self, limit_bytes: int) -> bytes | None:
        """Give the body if all of it is here and within the limit; else it has to be read."""
        cycle = self._cycle
        if cycle is None or len(cycle.body) > limit_bytes:
            return None
        return cycle.take_body()

    def answer_at_once(
        self, status: int, body: bytes, headers: tuple[Header, ...] = (JSON,)
    ) -> bool:
        """Write a whole response where that takes no waiting; False where it does, nothing written."""
        cycle = self._cycle
        if cycle is None or self.is_begun:
            return False
        headers = (*headers, (b"x-request-id", self.request_id.encode()), *self.extra_headers)
        if not cycle.answer(status, headers, body):
            return False
        self.is_begun = True
        self.status = status
        self._record()
        return True

    async def answer(
        self, status: int, body: bytes = b"", headers: tuple[Header, ...] = (JSON,)
    ) -> None:
        """Write a whole response. Does nothing where one was begun already."""
        if self.is_begun or self.answer_at_once(status, body, headers):
            return
        self.is_begun = True
        self.status = status
        length = (b"content-length", b"%d" % len(body))
        more = (b"x-request-id", self.request_id.encode())
        if status != 204:
            headers = (*headers, length)
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": (*headers, more, *self.extra_headers),
            }
        )
        await self._send({"type": "http.response.body", "body": body})
        self._record()

    async def begin_stream(self) -> None:
        """Begin an event stream. Does nothing where a response was begun already, or nobody is left."""
        if self.is_begun or self.is_ended:
            return
        self.is_begun = True
        self.status = 200
        await self._send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    _EVENT_STREAM,
                    _NO_STORE,
                    _NO_BUFFERING,
                    (b"x-request-id", self.request_id.encode()),
                    *self.extra_headers,
                ],
            }
        )

    async def write(self, chunk: bytes) -> None:
        """Write a part of the stream; the client's slowness holds the writer up, nobody else."""
        if not self.is_ended:
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self) -> None:
        """End the stream, once."""
        if self.is_ended or not self.is_begun:
            return
        self._record()  # first: nobody writes, and nobody ends it again, while this is sent
        await self._send({"type": "http.response.body", "body": b""})

    async def until_disconnect(self) -> None:
        """Wait until the client is gone or the response is over."""
        while (await self.receive())["type"] != "http.disconnect":
            pass  # a part of a body nobody wants is dropped

    async def until_over(self) -> None:
        """Wait as `until_disconnect` does, but no longer than the token that opened the stream is good.

        The stream is ended then; its client comes back with a new one.
        """
        principal = self.principal
        if not isinstance(principal, TokenPrincipal):
            await self.until_disconnect()
            return
        left_s = principal.expires_at_s - self._house.clock.now()
        try:
            async with asyncio.timeout(max(left_s, _SHORTEST_STREAM_S)):
                await self.until_disconnect()
        except TimeoutError:
            self.outcome = "token_expired"
            await self.end()

    def abandon(self) -> None:
        """Record a request whose client left before it got a response."""
        if not self.is_ended:
            self.status = self.status or 499
            self._record()

    def _record(self) -> None:
        """Count and log the request; only the first call does anything."""
        if self.is_ended:
            return
        self.is_ended = True
        house, scope = self._house, self.scope
        seconds = time.perf_counter() - self._started_s
        method = scope["method"]
        if not self.is_forwarded:  # the worker that took it counts it
            house.metrics.observe_request(method, self.endpoint or "mcp", self.status, seconds)
        client = scope.get("client")
        house.request_log.write(
            RequestRecord(
                request_id=self.request_id,
                door=self.door,
                method=method,
                path=scope["path"],
                status=self.status,
                duration_ms=int(seconds * 1e6) / 1e3,  # a third of what `round` costs
                endpoint=self.endpoint or None,
                rpc_method=self.rpc_method,
                name=self.name,
                outcome=self.outcome,
                principal=self.principal.id if self.principal is not STRANGER else None,
                client=client[0] if client else None,
            )
        )
