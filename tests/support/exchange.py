"""A stand-in for the network: an `HttpExchange` whose answers a test writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream"}


class Request:
    """What was asked. `message` is the parsed body, an empty mapping where there is none."""

    def __init__(
        self, method: str, path: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> None:
        self.method = method
        self.path = path
        self.headers = {name.lower(): value for name, value in headers}
        self.body = body
        self.message: dict[str, Any] = json.loads(body) if body else {}

    @property
    def rpc(self) -> str:
        """The JSON-RPC method, `response` for a response, else the HTTP method."""
        if not self.body:
            return self.method
        return str(self.message.get("method", "response"))

    @property
    def params(self) -> dict[str, Any]:
        """Its parameters."""
        found: dict[str, Any] = self.message.get("params", {})
        return found


class Response:
    """An answer: a head, and chunks that a test gives at once or one by one."""

    def __init__(
        self,
        status: int = 200,
        headers: dict[str, str] | None = None,
        chunks: Sequence[bytes] | AsyncGenerator[bytes, None] = (),
    ) -> None:
        self.status = status
        self.headers = headers or {}
        self.is_left = asyncio.Event()
        self._chunks = chunks

    def chunks(self) -> AsyncGenerator[bytes, None]:
        return _each(self._chunks) if isinstance(self._chunks, Sequence) else self._chunks


async def _each(chunks: Sequence[bytes]) -> AsyncGenerator[bytes, None]:
    for chunk in chunks:
        yield chunk


Handler = Callable[[Request], Awaitable[Response] | Response]


class FakeExchange:
    """Answers requests by `handlers`, looked up by `Request.rpc`; keeps what was asked."""

    def __init__(self, **handlers: Handler) -> None:
        self.requests: list[Request] = []
        self.handlers: dict[str, Handler] = {
            name.replace("__", "/"): handler for name, handler in handlers.items()
        }

    def asked(self, rpc: str) -> list[Request]:
        """Give the requests of one JSON-RPC method."""
        return [one for one in self.requests if one.rpc == rpc]

    @asynccontextmanager
    async def request(
        self, method: str, path: str, headers: Sequence[tuple[str, str]], body: bytes = b""
    ) -> AsyncIterator[Response]:
        request = Request(method, path, headers, body)
        self.requests.append(request)
        handler = self.handlers.get(request.rpc)
        made = Response(404) if handler is None else handler(request)
        response = made if isinstance(made, Response) else await made
        try:
            yield response
        finally:
            response.is_left.set()


def result(request: Request, value: dict[str, Any], **headers: str) -> Response:
    """Answer with a result as JSON."""
    body = {"jsonrpc": "2.0", "id": request.message["id"], "result": value}
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Response(200, {**JSON, **named}, [json.dumps(body).encode()])


def error(
    request: Request, code: int, message: str, data: Any = None, status: int = 200
) -> Response:
    """Answer with a JSON-RPC error."""
    body: dict[str, Any] = {
        "jsonrpc": "2.0",
        "id": request.message["id"],
        "error": {"code": code, "message": message},
    }
    if data is not None:
        body["error"]["data"] = data
    return Response(status, JSON, [json.dumps(body).encode()])


def event(message: dict[str, Any], **fields: Any) -> bytes:
    """Write a message as one event."""
    head = "".join(f"{name}: {value}\n" for name, value in fields.items())
    return f"{head}data: {json.dumps({'jsonrpc': '2.0', **message})}\n\n".encode()


def events(*chunks: bytes) -> Response:
    """Answer with events."""
    return Response(200, EVENTS, chunks)


def modern_result(request: Request, value: dict[str, Any]) -> Response:
    """Answer with a complete modern result."""
    return result(request, {"resultType": "complete", **value})
