"""The strict server over HTTP: Streamable HTTP at /mcp, HTTP+SSE at /sse. Headers are checked as messages are."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from tests.peers.strict_server import Line, Message, StrictServer

_WRAPPED = re.compile(r"=\?base64\?(.*)\?=", re.DOTALL)


class _Stream:
    """An answer as it comes: one JSON text if nothing comes before it, else events."""

    def __init__(self, request: web.Request, headers: dict[str, str]) -> None:
        self._request = request
        self._headers = headers
        self.response: web.StreamResponse | None = None

    async def send(self, message: Message) -> None:
        """Send a message; a response that comes first is the whole body."""
        if self.response is None and "method" not in message:
            code = message.get("error", {}).get("code")
            status = {-32601: 404, -32022: 400}.get(code, 200) if self._is_modern else 200
            self.response = web.json_response(message, status=status, headers=self._headers)
            return
        response = await self.open()
        await response.write(b"event: message\ndata: %b\n\n" % json.dumps(message).encode())

    @property
    def _is_modern(self) -> bool:
        return "mcp-method" in self._request.headers

    async def open(self) -> web.StreamResponse:
        """Begin the events."""
        if self.response is None:
            self.response = web.StreamResponse(
                headers={**self._headers, "content-type": "text/event-stream"}
            )
            await self.response.prepare(self._request)
        return self.response


class _Streamable:
    """Streamable HTTP."""

    def __init__(self, server: StrictServer) -> None:
        self._server = server
        self._sessions: dict[str, tuple[Line, asyncio.Queue[Message]]] = {}
        self._modern = server.line(self._nowhere) if server.wire.is_modern else None

    async def _nowhere(self, message: Message) -> None:
        raise AssertionError(f"no request to send it on: {message}")

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Take a message."""
        message: Message = json.loads(await request.read())
        if self._server.wire.is_modern:
            return await self._post_modern(request, message)
        if message.get("method") == "server/discover":
            return web.Response(status=400, text="no session")
        self._check_media(request)
        if message.get("method") == "initialize":
            return await self._initialize(request, message)
        line, _ = self._session(request)
        return await self._let_take(request, line, message)

    async def _initialize(self, request: web.Request, message: Message) -> web.StreamResponse:
        unsent: asyncio.Queue[Message] = asyncio.Queue()
        line = self._server.line(unsent.put)
        identifier = f"s{next(self._server.numbers)}"
        self._sessions[identifier] = (line, unsent)
        return await self._let_take(request, line, message, {"mcp-session-id": identifier})

    async def _let_take(
        self,
        request: web.Request,
        line: Line,
        message: Message,
        headers: dict[str, str] | None = None,
    ) -> web.StreamResponse:
        if "id" not in message or "method" not in message:
            await line.take(message)
            return web.Response(status=202)
        stream = _Stream(request, headers or {})
        work = asyncio.get_running_loop().create_task(line.take(message, stream.send))
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError:  # the client is gone, which means something in one era only
            if self._server.wire.is_modern:
                work.cancel()
            raise
        if not work.cancelled():
            work.result()
        return await stream.open()

    async def _post_modern(self, request: web.Request, message: Message) -> web.StreamResponse:
        self._check_media(request)
        if message["method"] != "initialize":
            self._check_modern_headers(request, message)
        assert self._modern is not None
        return await self._let_take(request, self._modern, message)

    def _check_modern_headers(self, request: web.Request, message: Message) -> None:
        given = request.headers
        params = message.get("params", {})
        wanted = {
            "mcp-protocol-version": self._server.wire.revision,
            "mcp-method": message["method"],
        }
        if message["method"] in ("tools/call", "prompts/get"):
            wanted["mcp-name"] = params["name"]
        if message["method"] == "resources/read":
            wanted["mcp-name"] = params["uri"]
        found = {name: _unwrapped(given.get(name)) for name in wanted}
        if found != wanted or "mcp-session-id" in given:
            self._server.complain(f"headers {found} of {message['method']} should be {wanted}")

    def _check_media(self, request: web.Request) -> None:
        accept = request.headers.get("accept", "")
        if "application/json" not in accept or "text/event-stream" not in accept:
            self._server.complain(f"accepts {accept!r}")
        if request.content_type != "application/json":
            self._server.complain(f"sends {request.content_type!r}")

    def _session(self, request: web.Request) -> tuple[Line, asyncio.Queue[Message]]:
        identifier = request.headers.get("mcp-session-id", "")
        if identifier not in self._sessions:
            raise web.HTTPNotFound(text="no such session")
        version = request.headers.get("mcp-protocol-version")
        revision = self._server.wire.revision
        if version != revision and revision >= "2025-06-18":
            self._server.complain(f"the version header is {version!r}")
        return self._sessions[identifier]

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Serve the stream of a session."""
        if self._server.wire.is_modern:
            raise web.HTTPMethodNotAllowed("GET", ["POST"])
        _, unsent = self._session(request)
        stream = _Stream(request, {})
        await stream.open()
        while True:
            await stream.send(await unsent.get())

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """End a session."""
        line, _ = self._session(request)
        del self._sessions[request.headers["mcp-session-id"]]
        self._server.close(line)
        return web.Response(status=204)


def _unwrapped(value: str | None) -> str | None:
    wrapped = _WRAPPED.fullmatch(value or "")
    return value if wrapped is None else base64.b64decode(wrapped[1]).decode()


class _OldTransport:
    """HTTP+SSE."""

    def __init__(self, server: StrictServer) -> None:
        self._server = server
        self._lines: dict[str, tuple[Line, set[asyncio.Task[None]]]] = {}

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Serve the stream."""
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)

        async def send(message: Message) -> None:
            await response.write(b"event: message\ndata: %b\n\n" % json.dumps(message).encode())

        identifier = f"old{next(self._server.numbers)}"
        line = self._server.line(send)
        self._lines[identifier] = (line, set())
        await response.write(b"event: endpoint\ndata: /post?line=%b\n\n" % identifier.encode())
        try:
            await asyncio.Event().wait()
        finally:
            self._server.close(line)
            del self._lines[identifier]
        return response

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Take a message; its answer comes on the stream."""
        if request.query["line"] not in self._lines:
            raise web.HTTPNotFound(text="no such line")
        line, tasks = self._lines[request.query["line"]]
        task = asyncio.get_running_loop().create_task(line.take(json.loads(await request.read())))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        await asyncio.sleep(0)
        return web.Response(status=202, text="Accepted")


@asynccontextmanager
async def serving(server: StrictServer) -> AsyncIterator[str]:
    """Serve on a free port of loopback; give the origin."""
    app = web.Application()
    streamable, old = _Streamable(server), _OldTransport(server)
    app.router.add_post("/mcp", streamable.post)
    app.router.add_get("/mcp", streamable.get, allow_head=False)
    app.router.add_delete("/mcp", streamable.delete)
    app.router.add_get("/sse", old.get, allow_head=False)
    app.router.add_post("/post", old.post)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        await runner.cleanup()
