"""The transport of a client's connection, which writes with those of others.

Knows when bytes are handed to the socket (`net/outbox.py` says why it matters). Refuses to know what they
are. The order on a connection stays, and what closes one writes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from waygate_mcp.net.outbox import Outbox

__all__ = ["Outlet"]

_LARGE_BYTES = 64 * 1024
"""From here on it is written at once: the transport has to say when a client reads too slowly."""


class Outlet:
    """The transport of one connection, as far as a protocol of uvicorn's uses one."""

    def __init__(self, transport: asyncio.Transport, outbox: Outbox) -> None:
        self._transport = transport
        self._outbox = outbox
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.get_extra_info = transport.get_extra_info

    def write(self, data: bytes) -> None:
        """Write, with others where there are any; what is large, at once."""
        if not self._outbox.is_open and not self._kept:
            self._transport.write(data)
            return
        self._kept_bytes += len(data)
        if self._kept_bytes >= _LARGE_BYTES:
            self.flush()
            self._transport.write(data)
            return
        if not self._kept:
            self._outbox.add(self.flush)
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
