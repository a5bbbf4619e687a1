"""The three ways in, as clients use them: HTTP requests in memory, an event stream in memory, two pipes."""

from __future__ import annotations

import asyncio
import json
import os
from functools import partial
from typing import Any

from tests.matrix.clients import Message, Take
from tests.support.dialogues import Request, Response
from tests.support.house import scope_of
from waygate_mcp.stdio import serve_stdio

HOST = (b"host", b"localhost")
_JSON = (b"content-type", b"application/json")


def _nobody(message: Message, stream: Any) -> None:
    raise AssertionError("nobody listens")


def _has_more(response: Response, read: int) -> bool:
    return response.is_over or len(response.events) > read


class _Requests:
    """Requests of an ASGI application under way."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.open: dict[Any, Request] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def begin(
        self, method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes = b""
    ) -> Request:
        """Begin a request."""
        return Request(self._app, scope_of(path, method, [HOST, *headers]), [body])

    def keep(self, task: asyncio.Task[None]) -> None:
        """Keep a task until it is over."""
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def close(self) -> None:
        """Leave everything that is open."""
        for request in tuple(self.open.values()):
            request.leave()
        for task in tuple(self.tasks):
            task.cancel()
        await asyncio.gather(*(one.task for one in self.open.values()), return_exceptions=True)


class HttpFront:
    """Streamable HTTP: each message a POST; in a session, its own stream besides."""

    streams_apart = True
    cancels_by_leaving = True

    def __init__(self, app: Any) -> None:
        self.take: Take = _nobody
        self._requests = _Requests(app)
        self._headers: list[tuple[bytes, bytes]] = []
        self._revision = ""

    async def open(self, revision: str) -> None:
        """See Front."""
        self._revision = revision

    async def send(self, message: Message) -> None:
        """See Front; a request's answer is read in the background."""
        accept = (b"accept", b"application/json, text/event-stream")
        headers = [_JSON, accept, *self._headers, *self._own_headers(message)]
        request = self._requests.begin("POST", "/mcp", headers, json.dumps(message).encode())
        if "id" in message and "method" in message:
            self._requests.open[message["id"]] = request
            self._requests.keep(
                asyncio.get_running_loop().create_task(self._read(request, message["id"]))
            )
            return
        response = await request.over()
        assert response.status == 202, (response.status, response.body)

    def _own_headers(self, message: Message) -> list[tuple[bytes, bytes]]:
        if self._revision != "2026-07-28":
            return []
        params = message.get("params", {})
        found = [
            (b"mcp-protocol-version", self._revision.encode()),
            (b"mcp-method", message["method"].encode()),
        ]
        if message["method"] in ("tools/call", "prompts/get"):
            found.append((b"mcp-name", params["name"].encode()))
        if message["method"] == "resources/read":
            found.append((b"mcp-name", params["uri"].encode()))
        return found

    async def _read(self, request: Request, identifier: Any) -> None:
        """Give the messages of an answer as they come."""
        response = request.response
        await response.when(lambda: response.status is not None)
        self._note_session(response.headers)
        if not response.is_stream:
            await response.over()
            self.take(json.loads(response.body), identifier)
        else:
            await self._read_events(request, identifier)
        self._requests.open.pop(identifier, None)

    async def _read_events(self, request: Request, identifier: Any) -> None:
        response, read = request.response, 0
        while not (response.is_over and read == len(response.events)):
            await response.when(partial(_has_more, response, read))
            for event in response.events[read:]:
                read += 1
                self.take(event, identifier)

    def _note_session(self, headers: dict[bytes, bytes]) -> None:
        if b"mcp-session-id" in headers and not self._headers:
            self._headers.append((b"mcp-session-id", headers[b"mcp-session-id"]))
            if self._revision >= "2025-06-18":
                self._headers.append((b"mcp-protocol-version", self._revision.encode()))

    async def agreed(self) -> None:
        """See Front: open the session's own stream."""
        headers = [(b"accept", b"text/event-stream"), *self._headers]
        request = self._requests.open["GET"] = self._requests.begin("GET", "/mcp", headers)
        await request.response.when(lambda: request.response.status is not None)
        assert request.response.status == 200, request.response.status
        self._requests.keep(
            asyncio.get_running_loop().create_task(self._read_events(request, None))
        )

    def leave(self, identifier: Any) -> None:
        """See Front."""
        self._requests.open[identifier].leave()

    async def close(self) -> None:
        """See Front."""
        if self._headers:
            await self._requests.begin("DELETE", "/mcp", self._headers).over()
        await self._requests.close()


class SseFront:
    """HTTP+SSE: one stream down, POSTs up."""

    streams_apart = False
    cancels_by_leaving = False

    def __init__(self, app: Any) -> None:
        self.take: Take = _nobody
        self._requests = _Requests(app)
        self._address = ""

    async def open(self, revision: str) -> None:
        """See Front."""
        request = self._requests.begin("GET", "/sse", [(b"accept", b"text/event-stream")])
        self._requests.open["GET"] = request
        await request.response.when(lambda: bool(request.response.address))
        self._address = request.response.address
        self._requests.keep(asyncio.get_running_loop().create_task(self._read(request)))

    async def _read(self, request: Request) -> None:
        response, read = request.response, 0
        while not response.is_over:
            await response.when(partial(_has_more, response, read))
            for event in response.events[read:]:
                read += 1
                self.take(event, None)

    async def send(self, message: Message) -> None:
        """See Front."""
        request = self._requests.begin("POST", self._address, [_JSON], json.dumps(message).encode())
        response = await request.over()
        assert response.status == 202, (response.status, response.body)

    async def agreed(self) -> None:
        """See Front."""

    def leave(self, identifier: Any) -> None:
        """See Front."""

    async def close(self) -> None:
        """See Front."""
        await self._requests.close()


class PipeFront:
    """Standard input and output: the door of `waygate stdio` behind two pipes."""

    streams_apart = False
    cancels_by_leaving = False

    def __init__(self, house: Any) -> None:
        self.take: Take = _nobody
        self._house = house
        self._to, self._from = os.pipe(), os.pipe()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, revision: str) -> None:
        """See Front."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=2**24)
        self._pipe, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader),
            os.fdopen(self._from[0], "rb", buffering=0),
        )
        serving = serve_stdio(
            self._house.current, "default", self._house.supervisor, self._from[1], 2**24,
            input_fd=self._to[0],
        )  # fmt: skip
        self._tasks = [loop.create_task(serving), loop.create_task(self._read(reader))]

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            self.take(json.loads(line), None)

    async def send(self, message: Message) -> None:
        """See Front."""
        os.write(self._to[1], json.dumps(message).encode() + b"\n")

    async def agreed(self) -> None:
        """See Front."""

    def leave(self, identifier: Any) -> None:
        """See Front."""

    async def close(self) -> None:
        """See Front: close the input and await the end."""
        os.close(self._to[1])
        await asyncio.wait({self._tasks[0]}, timeout=10)
        self._tasks[1].cancel()
        self._pipe.close()
        for descriptor in (self._to[0], self._from[1]):
            os.close(descriptor)


FRONTS = ("Streamable HTTP", "HTTP+SSE", "stdio")
