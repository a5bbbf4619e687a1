"""A connection without a socket: bytes in, bytes out, and what the reader asked of its transport."""

from __future__ import annotations

import asyncio
from typing import Any

from waygate_mcp.net.connection import Connection


class FakeTransport(asyncio.Transport):
    """Keeps what is written; `connection` hears what a test says the peer did."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection
        self.written: list[bytes] = []
        self.is_paused = False
        self.is_gone = False
        self.unsent_bytes = 0
        connection.connection_made(self)

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        self.is_gone = True

    def is_closing(self) -> bool:
        return self.is_gone

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def say(self, *pieces: bytes) -> None:
        """Let the peer send pieces, each a read of its own."""
        for piece in pieces:
            self.connection.data_received(piece)

    def lose(self, exc: Exception | None = None) -> None:
        """Let the peer close, or the connection break."""
        self.connection.connection_lost(exc)
