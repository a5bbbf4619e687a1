"""The outermost callable of the server: which door a request comes in by.

Knows the raw paths of the MCP doors and the events of the server's life. Refuses to know anything
else of a request: each door asks the guard itself. Paths are compared as they came, undecoded
(threat model rule 2); what is not exactly an MCP path is the REST door's.
"""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from waygate_mcp.config.document import DEFAULT_ENDPOINT
from waygate_mcp.errors import InterruptedCallError, WaygateError
from waygate_mcp.runtime.house import House
from waygate_mcp.telemetry.logs import get_logger
from waygate_mcp.web.cycle import CYCLE
from waygate_mcp.web.forward import PeerDoor
from waygate_mcp.web.guard import Guard
from waygate_mcp.web.mcp import McpDoor
from waygate_mcp.web.problems import describe, encode_envelope
from waygate_mcp.web.sse import SseDoor

if TYPE_CHECKING:  # loaded when the server serves already; see `App`
    from waygate_mcp.web.rest import RestDoor

__all__ = ["App", "build_app"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MCP_PATH = b"/mcp"
SSE_PATH = b"/sse"
MESSAGES_PATH = b"/messages/"
_NAMED = re.compile(rb"/servers/([^/]+)/mcp")

_log = get_logger("web.app")


class App:
    """The ASGI application. The house opens and closes with it.

    The REST door's framework takes longer to load than all else together, and no call needs it: it
    is loaded by a thread while the MCP doors serve already, and requests for it wait.
    """

    def __init__(self, house: House[Guard]) -> None:
        self.failure: WaygateError | None = None
        """Why the house did not open, for whoever started the server."""
        self._house = house
        self._endpoints = {MCP_PATH: DEFAULT_ENDPOINT}
        self._mcp = McpDoor(house)
        self._sse = SseDoor(house)
        self._peers = PeerDoor(house, self._mcp, self._sse)
        self._rest: RestDoor | None = None
        self._loading: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the life of the server."""
        if scope["type"] == "http":
            try:
                path: bytes = scope.get("raw_path") or scope["path"].encode()
                endpoint = self._endpoints.get(path)
                if endpoint is not None:
                    await self._mcp(scope, receive, send, endpoint)
                else:
                    await self._serve(path, scope, receive, send)
            except asyncio.CancelledError:
                if not self._house.is_draining:
                    raise
                # The server stops and waited as long as it may: it asked for this end itself.
                await self._cut_short(scope, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            # No door takes web sockets.
            await send({"type": "websocket.close", "code": 1000})

    async def serve_worker(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request that another worker sends, by the socket only workers know."""
        try:
            await self._peers(scope, receive, send)
        except asyncio.CancelledError:
            if not self._house.is_draining:
                raise
            await self._cut_short(scope, send)

    async def _serve(self, path: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        if (named := _NAMED.fullmatch(path)) is not None:
            endpoint = named[1].decode("latin-1")
            if endpoint in self._house.current().gateway.endpoints:  # not what strangers make up
                self._endpoints[path] = endpoint
            await self._mcp(scope, receive, send, endpoint)
        elif (path == SSE_PATH or path.startswith(MESSAGES_PATH)) and scope["method"] != "OPTIONS":
            # Preflights are answered by the REST door, which asks nobody for a key before.
            await self._sse(scope, receive, send)
        else:
            rest = self._rest or await self._loaded_rest()
            if rest is None:
                await self._apologise(send, "the REST door is not there")
            else:
                await rest(scope, path.decode("latin-1"), receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Open the house at startup and close it at shutdown."""
        await receive()
        try:
            await self._house.__aenter__()
        except WaygateError as exc:
            self.failure = exc
            await send({"type": "lifespan.startup.failed", "message": ""})
            return
        self._house.keep_document_history()
        self._loading = self._house.supervisor.start(self._load_rest(), name="load-rest-door")
        await send({"type": "lifespan.startup.complete"})
        try:
            await receive()
        finally:
            await self._house.__aexit__(None, None, None)
        await send({"type": "lifespan.shutdown.complete"})

    async def _load_rest(self) -> None:
        def load() -> RestDoor:
            door: RestDoor = importlib.import_module("waygate_mcp.web.rest").RestDoor(self._house)
            return door

        self._rest = await asyncio.to_thread(load)

    async def _loaded_rest(self) -> RestDoor | None:
        if self._loading is not None:
            # Others wait for the same: one that goes away must not end it.
            await asyncio.shield(self._loading)
        return self._rest

    async def _apologise(self, send: Send, reason: str) -> None:
        """Answer where no door could; the log says why."""
        problem = describe(InterruptedCallError(reason))
        body = encode_envelope(problem, "", self._house.stamp.now())
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": problem.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _cut_short(self, scope: Scope, send: Send) -> None:
        """End an answer that was begun, or give one, before the connection closes."""
        cycle = scope.get("extensions", {}).get(CYCLE)
        if cycle is None or cycle.response_complete:
            return
        if cycle.response_started and cycle.chunked_encoding:
            await send({"type": "http.response.body", "body": b""})
        elif not cycle.response_started:
            await self._apologise(send, "the server stops")


def build_app(house: House[Guard]) -> App:
    """Build the ASGI application of a house that is not open yet."""
    return App(house)
