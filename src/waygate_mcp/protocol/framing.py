"""How messages lie in a byte stream: Server-Sent Events and lines.

Both decoders are fed chunks as they come and bound what they keep before a frame is complete.
Spec: WHATWG HTML, "Server-sent events"; 2026-07-28 basic/transports/stdio.
"""

from __future__ import annotations

import msgspec

__all__ = ["KEEP_ALIVE", "FrameTooLarge", "LineDecoder", "SseDecoder", "SseEvent", "encode_event"]

KEEP_ALIVE = b": keep-alive\n\n"
"""An SSE comment: keeps the connection from being closed for silence, means nothing."""


class FrameTooLarge(ValueError):
    """A line or event is larger than `limit` bytes; nothing after it can be trusted."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"a frame is larger than {limit} bytes")


class SseEvent(msgspec.Struct, frozen=True):
    """One event. `data` is None where the event had no data line (it then sets id or retry only)."""

    data: bytes | None = None
    event: str = "message"
    id: str | None = None
    retry_ms: int | None = None


def encode_event(
    data: bytes, *, event: str | None = None, id: str | None = None, retry_ms: int | None = None
) -> bytes:
    """Write one event. `data` must hold no line break (compact JSON never does)."""
    head = b""
    if event is not None:
        head = b"event: %b\n" % event.encode()
    if id is not None:
        head += b"id: %b\n" % id.encode()
    if retry_ms is not None:
        head += b"retry: %d\n" % retry_ms
    return b"%bdata: %b\n\n" % (head, data)


class LineDecoder:
    """Cuts a stream into lines. CRLF and LF end a line; empty lines are dropped."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take bytes, give the lines they complete.

        Raises:
            FrameTooLarge: a line passes the limit, complete or not.
        """
        pieces = chunk.split(b"\n")
        lines = []
        for piece in pieces[:-1]:
            self._add(piece)
            line = b"".join(self._parts).rstrip(b"\r")
            self._parts.clear()
            self._size = 0
            if line:
                lines.append(line)
        self._add(pieces[-1])
        return lines

    def _add(self, piece: bytes) -> None:
        """Keep a part of the line under way."""
        if not piece:
            return
        self._size += len(piece)
        if self._size > self._limit:
            raise FrameTooLarge(self._limit)
        self._parts.append(piece)


class SseDecoder:
    """Cuts a stream into events, as the standard reads them: CR, LF or CRLF, comments, BOM."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._buffer = bytearray()
        self._searched = 0
        self._at_start = True
        self._size = 0
        self._data: list[bytes] = []
        self._event = ""
        self._id: str | None = None
        self._retry_ms: int | None = None
        self._has_field = False

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Take bytes, give the events they complete.

        Raises:
            FrameTooLarge: an event passes the limit, complete or not.
        """
        self._buffer += chunk
        events: list[SseEvent] = []
        while (line := self._next_line()) is not None:
            if line:
                self._take_field(line)
            elif self._has_field:
                events.append(self._finish())
        if len(self._buffer) + self._size > self._limit:
            raise FrameTooLarge(self._limit)
        return events

    def _next_line(self) -> bytes | None:
        """Take one complete line from the buffer, None where there is none yet."""
        buffer = self._buffer
        newline = buffer.find(b"\n", self._searched)
        carriage = buffer.find(b"\r", self._searched, newline if newline >= 0 else len(buffer))
        end = carriage if carriage >= 0 else newline
        if end < 0 or (end == carriage and carriage == len(buffer) - 1):
            # A CR at the very end may be the first half of CRLF: wait for the next byte.
            self._searched = max(0, len(buffer) - 1) if end < 0 else end
            return None
        skip = 2 if end == carriage and buffer[end + 1] == ord("\n") else 1
        line = bytes(buffer[:end])
        del buffer[: end + skip]
        self._searched = 0
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        return line

    def _take_field(self, line: bytes) -> None:
        """Read one field line into the event under way."""
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not name:
            return
        self._has_field = True
        if name == b"data":
            self._size += len(value) + 1
            if self._size > self._limit:
                raise FrameTooLarge(self._limit)
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode(errors="replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")
        elif name == b"retry" and value.isdigit() and len(value) <= 9:
            self._retry_ms = int(value)

    def _finish(self) -> SseEvent:
        """Give the event under way and start the next."""
        event = SseEvent(
            data=b"\n".join(self._data) if self._data else None,
            event=self._event or "message",
            id=self._id,
            retry_ms=self._retry_ms,
        )
        self._data.clear()
        self._event, self._id, self._retry_ms = "", None, None
        self._size, self._has_field = 0, False
        return event
