"""An ASGI application in this process, spoken to as if it were a server on the network.

Knows the application's side of ASGI: its lifespan, entered once, and one task for each exchange.
Refuses to know sockets and MCP. The application is foreign code: whatever it raises becomes an
UpstreamError here, and what it does after its response is its own affair, within a grace period.
Spec: ASGI 3.0, "HTTP & WebSocket" and "Lifespan".
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    MutableMapping,
    Sequence,
)
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from waygate_mcp.errors import UpstreamProtocolError, UpstreamUnavailableError
from waygate_mcp.net.http import Header

__all__ = ["AsgiApp", "AsgiTransport"]

Message = MutableMapping[str, Any]
AsgiApp = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[Message]],
        Callable[[Message], Awaitable[None]],
    ],
    Awaitable[None],
]
"""An ASGI 3 application: scope, receive, send."""

# Loopback names pass the Host checks that server libraries make when nothing else is configured.
_HOST, _PORT = "127.0.0.1", 8000
_ASGI = {"version": "3.0", "spec_version": "2.3"}
_CHUNKS_AHEAD = 8
_STARTUP_S = 60.0
_SHUTDOWN_S = 10.0
_GRACE_S = 5.0


class _Response:
    """What an application answers: a head, then chunks through a bounded queue."""

    def __init__(self, upstream: str) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._upstream = upstream
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(_CHUNKS_AHEAD)
        self._failure: BaseException | None = None
        self.is_whole = False
        self._started = asyncio.Event()
        self.closed = asyncio.Event()

    async def send(self, message: Message) -> None:
        """Take a message of the application; after a disconnect it goes nowhere, as with sockets."""
        kind = message["type"]
        if kind == "http.response.start" and not self.status:
            self.status = int(message["status"])
            for name, value in message.get("headers", ()):
                self.headers[bytes(name).decode("latin-1").lower()] = bytes(value).decode("latin-1")
            self._started.set()
        elif kind == "http.response.body" and self.status and not self.is_whole:
            if chunk := bytes(message.get("body", b"")):
                await self._put(chunk)
            if not message.get("more_body", False):
                self.is_whole = True
                await self._put(None)
        else:
            raise RuntimeError(f"ASGI message {kind!r} is not allowed here")

    async def _put(self, item: bytes | None) -> None:
        """Queue an item, waiting for room as long as somebody reads."""
        if self.closed.is_set():
            return
        await self._queue.put(item)

    def close(self) -> None:
        """Tell the application that the client is gone, and let a blocked `send` return."""
        self.closed.set()
        while not self._queue.empty():
            self._queue.get_nowait()

    def end(self, failure: BaseException | None) -> None:
        """Note that the application has returned, or raised `failure`."""
        self._failure = failure
        self._started.set()
        if not self.is_whole and not self.closed.is_set():
            if self._queue.full():  # the reader finds the failure before what was queued last
                self._queue.get_nowait()
            self._queue.put_nowait(None)

    async def wait_head(self) -> None:
        """Wait until the head is there."""
        await self._started.wait()
        if not self.status:
            raise UpstreamProtocolError(
                self._upstream, "the application gave no response"
            ) from self._failure

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """See HttpResponse."""
        while (chunk := await self._queue.get()) is not None:
            yield chunk
        if not self.is_whole:
            raise UpstreamProtocolError(
                self._upstream, "the application broke its response off"
            ) from self._failure


class AsgiTransport:
    """Carries requests to an ASGI application; an async context manager holding its lifespan.

    An application without a lifespan is served all the same. `upstream` names it in errors. Leaving
    the context ends the lifespan and whatever the application still runs for old exchanges.
    """

    def __init__(self, app: AsgiApp, upstream: str) -> None:
        self._app = app
        self._upstream = upstream
        self._state: dict[str, Any] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._lifespan: asyncio.Task[None] | None = None
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._is_open = False

    async def __aenter__(self) -> Self:
        """Run the application's startup.

        Raises:
            UpstreamUnavailableError: it failed, or took longer than 60 seconds.
        """
        started = asyncio.get_running_loop().create_future()
        self._to_app.put_nowait({"type": "lifespan.startup"})
        self._lifespan = self._spawn(self._run_lifespan(started), "lifespan")
        try:
            async with asyncio.timeout(_STARTUP_S):
                problem = await started
        except TimeoutError:
            problem = f"its startup took longer than {_STARTUP_S:.0f} s"
        except BaseException:
            self._lifespan.cancel()
            raise
        if problem is not None:
            self._lifespan.cancel()
            raise UpstreamUnavailableError(self._upstream, problem)
        self._is_open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End what exchanges left running, then the lifespan; each within a bounded time."""
        self._is_open = False
        left = self._tasks - {self._lifespan}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_GRACE_S)
        lifespan = self._lifespan
        if lifespan is not None and not lifespan.done():
            self._to_app.put_nowait({"type": "lifespan.shutdown"})
            await asyncio.wait({lifespan}, timeout=_SHUTDOWN_S)
            lifespan.cancel()
            await asyncio.wait({lifespan}, timeout=_GRACE_S)

    def _spawn(self, coroutine: Any, what: str) -> asyncio.Task[None]:
        """Start a task of the application's own, kept until it ends."""
        # Not the Supervisor's: an application's tasks are foreign code whose failures belong to the
        # exchange that awaits them, and this transport waits for every one of them when it is left.
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(
            coroutine, name=f"asgi:{self._upstream}:{what}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run_lifespan(self, started: asyncio.Future[str | None]) -> None:
        """Run the application's lifespan in one task from startup to shutdown."""

        def settle(problem: str | None) -> None:
            if not started.done():
                started.set_result(problem)

        async def send(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                settle(None)
            elif message["type"] == "lifespan.startup.failed":
                settle(f"its startup failed: {str(message.get('message', ''))[-2000:]}")

        scope = {"type": "lifespan", "asgi": _ASGI, "state": self._state}
        try:
            await self._app(scope, self._to_app.get, send)
        except Exception:  # noqa: BLE001 - the plugin boundary: foreign code may raise anything
            # Before an answer this is how an application says that it has no lifespan.
            settle(None)
        finally:
            settle(None)

    @asynccontextmanager
    async def request(
        self, method: str, path: str, headers: Sequence[Header], body: bytes = b""
    ) -> AsyncIterator[_Response]:
        """See HttpExchange."""
        if not self._is_open:
            raise UpstreamUnavailableError(self._upstream, "the application is not running")
        response = _Response(self._upstream)
        scope = self._scope(method, path, headers, len(body))
        task = self._spawn(self._run_exchange(scope, body, response), method)
        try:
            await response.wait_head()
            yield response
        finally:
            response.close()
            if not task.done() and not response.is_whole:
                asyncio.get_running_loop().call_later(_GRACE_S, task.cancel)

    def _scope(
        self, method: str, path: str, headers: Sequence[Header], size: int
    ) -> dict[str, Any]:
        """Describe a request as a server would."""
        bare, _, query = path.partition("?")
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        raw.append((b"host", f"{_HOST}:{_PORT}".encode()))
        if size or method == "POST":
            raw.append((b"content-length", b"%d" % size))
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": bare,
            "raw_path": bare.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": raw,
            "client": (_HOST, 0),
            "server": (_HOST, _PORT),
        }
        if self._state:
            scope["state"] = dict(self._state)
        return scope

    async def _run_exchange(
        self, scope: Mapping[str, Any], body: bytes, response: _Response
    ) -> None:
        """Run the application for one request; its failure is told to whoever reads the response."""
        is_read = False

        async def receive() -> Message:
            nonlocal is_read
            if not is_read:
                is_read = True
                return {"type": "http.request", "body": body, "more_body": False}
            await response.closed.wait()
            return {"type": "http.disconnect"}

        failure: BaseException | None = None
        try:
            await self._app(dict(scope), receive, response.send)
        except Exception as exc:  # noqa: BLE001 - the plugin boundary: foreign code may raise anything
            failure = exc
        finally:
            response.end(failure)
