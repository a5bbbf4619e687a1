"""Events of one legacy stream, kept so that a client that lost it can go on where it was.

Knows a ring of messages and the one reader attached to it. Refuses to know HTTP.
Spec: 2025-11-25 basic/transports, "Resumability and Redelivery".
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable

import msgspec

__all__ = ["Shelf", "StreamBuffer", "StreamLimits", "parse_event_id"]

_SHELF_BYTES = 64 * 1024 * 1024

Writer = Callable[[str, bytes], Awaitable[None]]


class StreamLimits(msgspec.Struct, frozen=True):
    """How much of a stream is kept: events, bytes, and seconds after its last event."""

    events: int = 256
    size_bytes: int = 1024 * 1024
    age_s: float = 300.0


def parse_event_id(event_id: str) -> tuple[str, int] | None:
    """Split an event id into stream id and sequence number, None where it is not one of ours."""
    stream_id, _, number = event_id.rpartition("-")
    if not stream_id or not number.isascii() or not number.isdigit() or len(number) > 12:
        return None
    return stream_id, int(number)


class Shelf:
    """The finished streams of all sessions, within one limit of size; the oldest are emptied first.

    Streams under way are kept by their calls, whose number is limited.
    """

    def __init__(self, limit_bytes: int = _SHELF_BYTES) -> None:
        self.size_bytes = 0
        self._limit_bytes = limit_bytes
        self._streams: OrderedDict[str, StreamBuffer] = OrderedDict()

    def put(self, stream: StreamBuffer, now_s: float) -> None:
        """Keep a stream that is over, until its time is up or others need the room."""
        self._streams[stream.stream_id] = stream
        self.size_bytes += stream.size_bytes
        while self._streams:
            oldest = next(iter(self._streams.values()))
            if self.size_bytes <= self._limit_bytes and not oldest.is_stale(now_s):
                break
            self.size_bytes -= oldest.size_bytes
            del self._streams[oldest.stream_id]
            oldest.empty()


class StreamBuffer:
    """A numbered sequence of messages, written to whoever is attached and kept within limits.

    Numbers count from 1; 0 is the place before the first.
    """

    def __init__(self, stream_id: str, limits: StreamLimits, shelf: Shelf | None = None) -> None:
        self.stream_id = stream_id
        self.size_bytes = 0
        self.is_complete = False
        self.touched_s = 0.0
        self._limits = limits
        self._shelf = shelf
        self._events: deque[tuple[int, bytes]] = deque()
        self._next = 1
        self._dropped_to = 0
        self._writer: Writer | None = None
        self._on_end: Callable[[], None] | None = None

    @property
    def priming_id(self) -> str:
        """The id to resume from so that only what comes from now on is sent."""
        return f"{self.stream_id}-{self._next - 1}"

    @property
    def is_attached(self) -> bool:
        """Tell whether somebody reads the stream now."""
        return self._writer is not None

    def attach(self, writer: Writer, on_end: Callable[[], None] | None = None) -> None:
        """Make `writer` the one reader; whoever read before gets nothing more.

        `on_end` is called when the stream's last event was written to it, or when it is to leave.
        """
        self._writer = writer
        self._on_end = on_end

    def complete(self, now_s: float) -> None:
        """Note that no event follows."""
        self.is_complete = True
        self.touched_s = now_s
        if self._shelf is not None:
            self._shelf.put(self, now_s)
        self.close_reader()  # the two know each other

    def empty(self) -> None:
        """Forget all events; who comes back for them starts afresh."""
        self._events.clear()
        self.size_bytes = 0
        self._dropped_to = self._next - 1

    def close_reader(self) -> None:
        """Let whoever reads leave; what comes is kept for its return."""
        on_end = self._on_end
        self.detach()
        if on_end is not None:
            on_end()

    def detach(self, writer: Writer | None = None) -> None:
        """Take the reader off; with `writer` given, only if it still is the one."""
        if writer is None or self._writer == writer:
            self._writer = None
            self._on_end = None

    async def append(self, message: bytes, now_s: float) -> None:
        """Number a message, keep it, and write it to the reader if there is one."""
        number = self._next
        self._next += 1
        self.touched_s = now_s
        self._events.append((number, message))
        self.size_bytes += len(message)
        while len(self._events) > 1 and (
            len(self._events) > self._limits.events or self.size_bytes > self._limits.size_bytes
        ):
            gone, dropped = self._events.popleft()
            self.size_bytes -= len(dropped)
            self._dropped_to = gone
        if self._writer is not None:
            await self._writer(f"{self.stream_id}-{number}", message)

    def since(self, number: int) -> list[tuple[str, bytes]] | None:
        """Give (event id, message) of every event after `number`.

        None where some of them are gone: the client has to start afresh.
        """
        if number < self._dropped_to or number >= self._next:
            return None
        return [(f"{self.stream_id}-{n}", message) for n, message in self._events if n > number]

    def is_stale(self, now_s: float) -> bool:
        """Tell whether the stream is over and old enough to be forgotten."""
        return self.is_complete and now_s - self.touched_s > self._limits.age_s
