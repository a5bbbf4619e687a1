"""What a turn of the loop has to say to many clients, written together at its end.

Knows when bytes are handed to the socket. Refuses to know what they are. A write wakes whoever waits
for it at the other end, and that costs far more where the other end is idle: between two answers there
is time enough for it to fall asleep again, between two writes in a row there is not
(docs/decisions/0129 has the figures). Nothing waits longer than to the end of the turn, the order on a
connection stays, and what closes one writes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

__all__ = ["Outbox", "Outlet"]

_LARGE_BYTES = 64 * 1024
"""From here on it is written at once: the transport has to say when a client reads too slowly."""


class Outbox:
    """The connections of one server that have something to write."""

    def __init__(self) -> None:
        self._outlets: list[Outlet] = []

    def add(self, outlet: Outlet, loop: asyncio.AbstractEventLoop) -> None:
        """Have an outlet flushed at the end of this turn."""
        if not self._outlets:
            loop.call_soon(self.flush)
        self._outlets.append(outlet)

    def flush(self) -> None:
        """Write all that is there."""
        outlets, self._outlets = self._outlets, []
        for outlet in outlets:
            outlet.flush()


class Outlet:
    """The transport of one connection, as far as a protocol of uvicorn's uses one."""

    def __init__(
        self, transport: asyncio.Transport, outbox: Outbox, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._transport = transport
        self._outbox = outbox
        self._loop = loop
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.get_extra_info = transport.get_extra_info

    def write(self, data: bytes) -> None:
        """Write at the end of the turn; what is large, at once."""
        self._kept_bytes += len(data)
        if self._kept_bytes >= _LARGE_BYTES:
            self.flush()
            self._transport.write(data)
            return
        if not self._kept:
            self._outbox.add(self, self._loop)
        self._kept.append(data)

    def writelines(self, parts: Iterable[bytes]) -> None:
        """Write at once: it is used for what is large."""
        self.flush()
        self._transport.writelines(parts)

    def flush(self) -> None:
        """Write what is kept; where the connection is gone, nobody is there to read it."""
        kept = self._kept
        self._kept_bytes = 0
        if kept:
            self._kept = []
            if not self._transport.is_closing():
                self._transport.write(kept[0] if len(kept) == 1 else b"".join(kept))

    def close(self) -> None:
        """Close once all is written."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Disconnect at once."""
        self._kept = []
        self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
