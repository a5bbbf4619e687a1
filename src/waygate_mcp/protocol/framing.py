"""How messages lie in a byte stream: Server-Sent Events and lines.

Both decoders are fed chunks as they come, give the same frames however the stream is cut, and bound
what they keep before a frame is complete. Raw line breaks in a message, which an upstream may have
written between the tokens of its JSON, never break a frame of ours.
Spec: WHATWG HTML, "Server-sent events"; 2026-07-28 basic/transports/stdio.
"""

from __future__ import annotations

import re

import msgspec

__all__ = [
    "KEEP_ALIVE",
    "FrameTooLarge",
    "LineDecoder",
    "SseDecoder",
    "SseEvent",
    "encode_event",
    "encode_line",
]

KEEP_ALIVE = b": keep-alive\n\n"
"""An SSE comment: keeps the connection from being closed for silence, means nothing."""

_LINE_BREAK = re.compile(rb"\r\n|\r|\n")
_FIND_LINE_END = re.compile(rb"[\r\n]").search
_BOM = b"\xef\xbb\xbf"


class FrameTooLarge(ValueError):  # noqa: N818 - what happened, not a fault of ours
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
    """Write one event. Line breaks in `data` become further data lines; `event` and `id` have none."""
    head = b""
    if event is not None:
        head = b"event: %b\n" % event.encode()
    if id is not None:
        head += b"id: %b\n" % id.encode()
    if retry_ms is not None:
        head += b"retry: %d\n" % retry_ms
    if b"\n" in data or b"\r" in data:
        data = _LINE_BREAK.sub(b"\ndata: ", data)
    return b"%bdata: %b\n\n" % (head, data)


def encode_line(message: bytes) -> bytes:
    """Write one JSON message as one line: raw line breaks can only stand between its tokens.

    Spec: 2026-07-28 basic/transports/stdio, "MUST NOT contain embedded newlines".
    """
    if b"\n" in message or b"\r" in message:
        message = _LINE_BREAK.sub(b" ", message)
    return message + b"\n"


class LineDecoder:
    """Cuts a stream into lines. CRLF and LF end a line; empty lines are dropped."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._begun = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take bytes, give the lines they complete.

        Raises:
            FrameTooLarge: a line passes the limit, complete or not.
        """
        begun, limit = self._begun, self._limit
        pieces = chunk.split(b"\n")
        rest = pieces.pop()
        lines = []
        for piece in pieces:
            line = piece
            if begun:
                line = bytes(begun + piece)
                begun.clear()
            if len(line) > limit:
                raise FrameTooLarge(limit)
            line = line.rstrip(b"\r")
            if line:
                lines.append(line)
        begun += rest
        if len(begun) > limit:
            raise FrameTooLarge(limit)
        return lines


class SseDecoder:
    """Cuts a stream into events, as the standard reads them: CR, LF or CRLF, comments, BOM."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._begun = bytearray()
        self._is_after_cr = False
        self._is_at_start = True
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
        events: list[SseEvent] = []
        start = 0
        if self._is_after_cr and chunk:
            # The CR ended a line already; this may be the second half of a CRLF.
            start = 1 if chunk[0] == ord("\n") else 0
            self._is_after_cr = False
        while (end := _FIND_LINE_END(chunk, start)) is not None:
            self._keep(chunk[start : end.start()])
            start = end.end()
            if end.group() == b"\r":
                self._is_after_cr = start == len(chunk)
                start += chunk[start : start + 1] == b"\n"
            event = self._take_line()
            if event is not None:
                events.append(event)
        self._keep(chunk[start:])
        return events

    def _keep(self, piece: bytes) -> None:
        """Add to the line under way, within the limit."""
        self._size += len(piece)
        if self._size > self._limit:
            raise FrameTooLarge(self._limit)
        self._begun += piece

    def _take_line(self) -> SseEvent | None:
        """Read the line under way, which is complete; give the event if it ends one."""
        line = bytes(self._begun)
        self._begun.clear()
        if self._is_at_start:
            self._is_at_start = False
            if line.startswith(_BOM):
                line = line[len(_BOM) :]
                self._size -= len(_BOM)
        if line:
            self._take_field(line)
            return None
        return self._finish() if self._has_field else None

    def _take_field(self, line: bytes) -> None:
        """Read one field line into the event under way."""
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._size += 1
            self._data.append(value)
        else:
            self._size -= len(line)  # nothing of it grows with the number of such lines
        if name == b"event":
            self._event = value.decode(errors="replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")
        elif name == b"retry" and value.isdigit() and len(value) <= 9:
            self._retry_ms = int(value)
        elif name != b"data":
            return
        self._has_field = True

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
