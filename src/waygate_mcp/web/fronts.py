"""Fronts over HTTP: where the messages of one call go.

Both answer JSON if the final message comes first, and turn into an event stream at the first event or
after a while of silence. A late switch keeps the HTTP statuses of errors correct, and an answer that
no event preceded is never a stream (decisions.md 25).
Spec: 2026-07-28 basic/transports/streamable-http, "Receiving Messages"; 2025-11-25 basic/transports,
"Sending Messages to the Server".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from waygate_mcp.gateway.exchange import Exchange
from waygate_mcp.gateway.sessions import Session
from waygate_mcp.gateway.stream_buffer import StreamBuffer
from waygate_mcp.protocol.framing import KEEP_ALIVE, encode_event
from waygate_mcp.web.problems import rate_headers
from waygate_mcp.web.visit import Visit

if TYPE_CHECKING:  # the house builds the door
    from waygate_mcp.runtime.generation import Generation
    from waygate_mcp.web.guard import Guard

__all__ = ["RETRY_MS", "LegacyFront", "ModernFront", "prime"]

RETRY_MS = 500
"""How long a client waits before it comes back to a stream that was closed (`retry`)."""

_LARGE_BYTES = 512 * 1024
"""An answer larger than this is never turned into an event."""


class ModernFront:
    """Carries a modern call's messages on the response of its own POST."""

    # What most calls leave as it is stands in the class: it is set where it differs.
    is_done = False
    exchange: Exchange | None = None
    generation: Generation[Guard] | None = None
    watch: asyncio.Task[None] | None = None
    _waiter: asyncio.Event | None = None

    def __init__(self, visit: Visit) -> None:
        self.visit = visit

    async def until_done(self) -> None:
        """Wait until the final message was written."""
        if not self.is_done:
            self._waiter = asyncio.Event()
            await self._waiter.wait()

    async def send(self, message: bytes) -> None:
        """Write an event, turning the response into a stream if it is none yet."""
        visit = self.visit
        await visit.begin_stream()
        await visit.write(encode_event(message))

    async def finish(self, message: bytes | None, status: int = 200) -> None:
        """Write the final message: JSON, or the last event of the stream."""
        visit = self.visit
        if self.exchange is not None:
            visit.outcome = self.exchange.result
            if self.exchange.limited is not None:
                visit.extra_headers += rate_headers(self.exchange.limited)
        try:
            if message is None:
                visit.abandon()
            elif visit.is_begun:
                await visit.write(encode_event(message))
                await visit.end()
            elif not visit.answer_at_once(status, message):
                await visit.answer(status, message)
        finally:  # who asked may be cancelled while a slow client reads; the retry waits even so
            self.is_done = True
            if self._waiter is not None:
                self._waiter.set()

    async def keep_alive(self) -> None:
        """Break a silence that intermediaries might take for death."""
        await self.visit.begin_stream()
        await self.visit.write(KEEP_ALIVE)

    async def close_stream(self) -> None:
        """Do nothing: streams of this revision cannot be resumed."""


async def prime(visit: Visit, session: Session, stream: StreamBuffer) -> None:
    """Tell a client that can use it how to come back: an id, empty data, and when to retry.

    Only from 2025-11-25 on: older clients fail on empty data.
    """
    if session.revision.has_priming_event:
        await visit.write(encode_event(b"", id=stream.priming_id, retry_ms=RETRY_MS))


class LegacyFront:
    """Carries a legacy call's messages on the response of its own POST, resumable once a stream.

    A lost connection is not a cancellation: events go on into the buffer.
    """

    is_done = False
    exchange: Exchange | None = None
    generation: Generation[Guard] | None = None
    watch: asyncio.Task[None] | None = None
    _stream: StreamBuffer | None = None

    def __init__(
        self,
        visit: Visit,
        session: Session,
        monotonic: Callable[[], float],
        *,
        prefers_stream: bool = False,
    ) -> None:
        self._prefers_stream = prefers_stream
        self.visit = visit
        self._session = session
        self._monotonic = monotonic

    async def send(self, message: bytes) -> None:
        """Number, keep and write an event, turning the response into a stream if it is none yet."""
        stream = self._stream or await self._open()
        await stream.append(message, self._monotonic())

    async def finish(self, message: bytes | None, status: int = 200) -> None:
        """Write the final message: JSON, or the last event of the stream.

        A cancelled call gets none: its stream just ends, and there is nothing to come back for.
        """
        visit = self.visit
        if self.exchange is not None:
            visit.outcome = self.exchange.result
            if self.exchange.limited is not None:
                visit.extra_headers += rate_headers(self.exchange.limited)
        if self._stream is None and message is None:
            await visit.begin_stream()
            await visit.end()
        elif self._stream is None and message is not None and self._is_json(message, status):
            if not visit.answer_at_once(status, message):
                await visit.answer(status, message)
        else:
            stream = self._stream or await self._open()
            if message is not None:
                await stream.append(message, self._monotonic())
            stream.complete(self._monotonic())
            await visit.end()
        self.is_done = True

    def _is_json(self, message: bytes, status: int) -> bool:
        """Tell whether a final message that no event preceded goes out as JSON.

        It does, unless the client names the event stream first in Accept. Large ones always do:
        current clients refuse large events (docs/decisions/0010).
        """
        return not self._prefers_stream or status != 200 or len(message) > _LARGE_BYTES

    async def keep_alive(self) -> None:
        """Break a silence that intermediaries might take for death."""
        if self._stream is None:
            await self._open()
        await self.visit.write(KEEP_ALIVE)

    async def close_stream(self) -> None:
        """End the response while the call goes on; the client comes back with `Last-Event-ID`."""
        if not self._session.revision.has_priming_event:
            return
        stream = self._stream or await self._open()
        stream.close_reader()
        await self.visit.end()

    def detach(self) -> None:
        """Note that the client is gone; what comes is kept for its return."""
        if self._stream is not None:
            self._stream.detach(self._write)
        self.visit.abandon()

    async def _open(self) -> StreamBuffer:
        """Turn the response into a stream; a client that is gone already cannot come back to it."""
        self._stream = stream = self._session.open_stream(self._monotonic())
        if not self.visit.is_ended:
            stream.attach(self._write)
            await self.visit.begin_stream()
            await prime(self.visit, self._session, stream)
        return stream

    async def _write(self, event_id: str, message: bytes) -> None:
        await self.visit.write(encode_event(message, id=event_id))
