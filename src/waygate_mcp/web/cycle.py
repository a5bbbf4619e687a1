"""One request and its response on a connection, with a shorter way for answers that are whole.

Knows uvicorn's request cycle and adds an ASGI extension to it: the cycle itself, which takes a
whole answer in one call and one write, where ASGI takes two messages, two writes and a check of
every header, and gives a whole body without a wait. A door that does not find the extension in its
scope goes ASGI's own way; nothing else differs. Measured on the small `tools/call` of `bench/`: the
two-message way costs about a fifth of the call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

__all__ = ["CYCLE", "Cycle", "split_target"]

CYCLE = "waygate.cycle"
"""Name of the extension in `scope["extensions"]`."""

_CLOSE = (b"connection", b"close")
_COPY_BELOW_BYTES = 16 * 1024
"""Below it a copy behind the head is cheaper than a second buffer."""


class Cycle(RequestResponseCycle):
    """uvicorn's cycle with the extension. Made by the connection, one for each request."""

    _encoded_defaults: ClassVar[tuple[object, bytes]] = (None, b"")

    def __init__(self, protocol: Any, keep_alive: bool) -> None:
        super().__init__(
            scope=protocol.scope,
            transport=protocol.transport,
            flow=protocol.flow,
            logger=protocol.logger,
            access_logger=protocol.access_logger,
            access_log=False,
            default_headers=protocol.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=protocol.expect_100_continue,
            keep_alive=keep_alive,
            on_response=protocol.on_response_complete,
        )
        protocol.scope["extensions"] = {CYCLE: self}

    def take_body(self) -> bytes | None:
        """Give the whole body if it is here already, as it is for all but large or slow requests."""
        if self.more_body or self.disconnected or self.waiting_for_100_continue:
            return None
        body = bytes(self.body)
        self.body = bytearray()
        self.message_event.clear()
        return body

    def answer(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """Write a whole answer. Names and values are ours or were checked by whoever gives them.

        False where the usual way has to be taken: the client reads too slowly to take more, or asked
        with a method whose answer has no body.
        """
        if self.response_started or self.flow.write_paused or self.scope["method"] == "HEAD":
            return False
        if self.disconnected:
            return True
        parts = [STATUS_LINE[status], self._default_lines()]
        parts.extend([b"%b: %b\r\n" % header for header in headers])
        if status != 204:
            parts.append(b"content-length: %d\r\n" % len(body))
        if status >= 400 and _CLOSE in headers:
            self.keep_alive = False
            parts.append(b"\r\n")
        else:
            parts.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        if len(body) < _COPY_BELOW_BYTES:
            parts.append(body)
            self.transport.write(b"".join(parts))
        else:
            self.transport.writelines((b"".join(parts), body))
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
        # Scope and cycle know each other; apart, they are gone at once and not at a collection.
        del self.scope["extensions"]
        return True

    def _default_lines(self) -> bytes:
        """Give the lines of the server's own headers (date), encoded once for each list of them."""
        known, lines = Cycle._encoded_defaults
        if known is not self.default_headers:
            known = self.default_headers
            lines = b"".join(b"%b: %b\r\n" % header for header in known)
            Cycle._encoded_defaults = (known, lines)
        return lines


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Split a request target into path and query.

    Raises:
        httptools.HttpParserInvalidURLError: it is no target.
    """
    if target.startswith(b"/") and b"#" not in target:
        path, _, query = target.partition(b"?")
        return path, query
    parsed = httptools.parse_url(target)
    return parsed.path or b"/", parsed.query or b""
