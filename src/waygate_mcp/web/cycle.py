"""One request and its response on a connection, with a shorter way for answers that are whole.

Knows uvicorn's request cycle and adds an ASGI extension to it: the cycle itself, which takes a
whole answer in one call and one write, where ASGI takes two messages, two writes and a check of
every header, and gives a whole body without a wait. A door that does not find the extension in its
scope goes ASGI's own way; nothing else differs. Measured on the small `tools/call` of `bench/`: the
two-message way costs about a fifth of the call.
"""

from __future__ import annotations

import asyncio
import logging
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


class _Signal:
    """What a cycle needs of an asyncio.Event, which is only made where somebody waits."""

    _is_set = False
    _event: asyncio.Event | None = None

    def set(self) -> None:
        """Let those who wait go on."""
        self._is_set = True
        if self._event is not None:
            self._event.set()

    def clear(self) -> None:
        """Let those wait who come from now on."""
        self._is_set = False
        if self._event is not None:
            self._event.clear()

    async def wait(self) -> None:
        """Wait until it is set."""
        if self._is_set:
            return
        if self._event is None:
            self._event = asyncio.Event()
        await self._event.wait()


class Cycle(RequestResponseCycle):
    """uvicorn's cycle with the extension. Made by the connection, one for each request.

    What is the same for nearly all requests stands in the class, and is set where it differs: uvicorn's
    constructor, which sets it all, is not called.
    """

    logger = logging.getLogger("uvicorn.error")
    access_log = False
    disconnected = False
    waiting_for_100_continue = False
    more_body = True
    response_started = False
    response_complete = False
    chunked_encoding = None
    expected_content_length = 0
    task: asyncio.Task[None] | None = None
    _heads: ClassVar[tuple[object, dict[int, bytes]]] = (None, {})

    def __init__(self, protocol: Any, keep_alive: bool) -> None:
        self.scope = protocol.scope
        self.transport = protocol.transport
        self.flow = protocol.flow
        self.default_headers = protocol.server_state.default_headers
        signal: Any = _Signal()
        self.message_event = signal
        self.on_response = protocol.on_response_complete
        self.keep_alive = keep_alive
        self.body = bytearray()
        if protocol.expect_100_continue:
            self.waiting_for_100_continue = True
        protocol.scope["extensions"] = {CYCLE: self}

    def start(
        self, loop: asyncio.AbstractEventLoop, app: Any, tasks: set[asyncio.Task[Any]]
    ) -> None:
        """Serve the request in a task that stands in `tasks` as long as it runs.

        It takes itself out: a callback for that would be one more turn of the loop for each request.
        """
        task = loop.create_task(self._serve(app, tasks))
        self.task = task
        tasks.add(task)

    async def _serve(self, app: Any, tasks: set[asyncio.Task[Any]]) -> None:
        """Have the application answer; what it leaves undone is uvicorn's to say."""
        try:
            await self.run_asgi(app)
        finally:
            task, self.task = self.task, None
            if task is not None:
                tasks.discard(task)
            self.scope.pop("extensions", None)  # see `answer`

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
        known, heads = Cycle._heads
        head = heads.get(status) if known is self.default_headers else None
        parts = [head or self._head(status)]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        if status >= 400 and _CLOSE in headers:
            self.keep_alive = False
            end = b"\r\n"
        else:
            end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        parts.append(end if status == 204 else b"content-length: %d\r\n%b" % (len(body), end))
        self.response_started = self.response_complete = True
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

    def _head(self, status: int) -> bytes:
        """Give the status line and the server's own headers (date), encoded once for each list of them."""
        known, heads = Cycle._heads
        if known is not self.default_headers:
            Cycle._heads = known, heads = self.default_headers, {}
        head = heads.get(status)
        if head is None:
            lines = [b"%b: %b\r\n" % header for header in self.default_headers]
            head = heads[status] = b"".join([STATUS_LINE[status], *lines])
        return head


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
