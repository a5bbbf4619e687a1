"""The upstream behind the gateways under comparison: one tool, `echo`, as lean as Python allows.

Speaks one era, over HTTP or on standard input and output. Over HTTP it is httptools on a bare asyncio
protocol without any framework, or, with `--on uvicorn`, one ASGI callable on uvicorn, which is what the
servers of both SDKs stand on. Counts the tool calls it answers: `GET /count` gives the number, so that a
gateway that answers by itself, or asks twice, is found out. What is compared is what stands in front of it.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Literal, cast

import httptools
import msgspec
import uvicorn
import uvloop

MODERN, LEGACY = "2026-07-28", "2025-11-25"
TOOL = {
    "name": "echo",
    "description": "Answer the text unchanged.",
    "inputSchema": {
        "type": "object",
        "properties": {"text": {"type": "string"}},
        "required": ["text"],
    },
}
SERVER = {"name": "bench-echo", "version": "1"}


NOTHING = msgspec.Raw(b"")
Header = tuple[bytes, bytes]
JSON: Header = (b"content-type", b"application/json")
SESSION: Header = (b"mcp-session-id", b"bench-session")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Request(msgspec.Struct):
    """What is read of a message; a notification has no id."""

    method: str = ""
    id: msgspec.Raw = NOTHING
    params: msgspec.Raw = msgspec.Raw(b"{}")


class Arguments(msgspec.Struct):
    """The arguments of `echo`."""

    text: str


class Call(msgspec.Struct):
    """The parameters of a call."""

    arguments: Arguments


read_request = msgspec.json.Decoder(Request).decode
read_call = msgspec.json.Decoder(Call).decode
encode = msgspec.json.Encoder().encode


class Echo:
    """The server of one era: messages in, messages out."""

    def __init__(self, era: Literal["modern", "legacy"]) -> None:
        self.calls = 0
        self.is_modern = era == "modern"
        complete: dict[str, Any] = {"resultType": "complete"} if self.is_modern else {}
        hints: dict[str, Any] = {"ttlMs": 60_000, "cacheScope": "public"} if self.is_modern else {}
        tools = encode({"tools": [TOOL], **complete, **hints})
        self._fixed = {"tools/list": tools, "ping": b"{}"}
        if self.is_modern:
            hello = {"supportedVersions": [MODERN], "capabilities": {"tools": {}}}
            meta = {"_meta": {"io.modelcontextprotocol/serverInfo": SERVER}}
            self._fixed["server/discover"] = encode({**hello, **complete, **hints, **meta})
            del self._fixed["ping"]
        else:
            hello = {"protocolVersion": LEGACY, "capabilities": {"tools": {}}, "serverInfo": SERVER}
            self._fixed["initialize"] = encode(hello)
        self._tail = b'"}],"resultType":"complete"}}' if self.is_modern else b'"}]}}'

    def answer(self, body: bytes) -> tuple[bytes, str]:
        """Give the response to a message, empty for a notification, and the method."""
        request = read_request(body)
        if not bytes(request.id):
            return b"", request.method
        head = b'{"jsonrpc":"2.0","id":%b,' % bytes(request.id)
        if request.method == "tools/call":
            self.calls += 1
            text = encode(read_call(request.params).arguments.text)[1:-1]
            head += b'"result":{"content":[{"type":"text","text":"'
            return head + text + self._tail, request.method
        fixed = self._fixed.get(request.method)
        if fixed is None:
            error = {"code": -32601, "message": f"Method not found: {request.method}"}
            return head + b'"error":%b}' % encode(error), request.method
        return head + b'"result":%b}' % fixed, request.method

    def respond(self, method: bytes, url: bytes, body: bytes) -> tuple[int, list[Header], bytes]:
        """Give status, headers and body of the response to an HTTP request."""
        if url == b"/count":
            return 200, [JSON], b"%d" % self.calls
        if method != b"POST":
            return 200 if method == b"DELETE" else 405, [JSON], b""
        answer, called = self.answer(body)
        if not answer:
            return 202, [JSON], b""
        if called == "initialize":
            return 200, [JSON, SESSION], answer
        return 404 if b'"error"' in answer and self.is_modern else 200, [JSON], answer


class Protocol(asyncio.Protocol):
    """One connection: requests in, answers out, in order."""

    transport: asyncio.Transport

    def __init__(self, echo: Echo) -> None:
        self._echo = echo
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its type

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """Keep the path."""
        self._url = url

    def on_body(self, body: bytes) -> None:
        """Gather the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Answer one request."""
        body, self._body = self._body, b""
        status, headers, answer = self._echo.respond(self._parser.get_method(), self._url, body)
        lines = [b"HTTP/1.1 %d X\r\n" % status, *(b"%b: %b\r\n" % header for header in headers)]
        lines += (b"content-length: %d\r\n\r\n" % len(answer), answer)
        self.transport.write(b"".join(lines))


class Asgi:
    """The same server as an ASGI application."""

    def __init__(self, echo: Echo) -> None:
        self._echo = echo

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        message = await receive()
        body = message["body"]
        while message.get("more_body"):
            message = await receive()
            body += message["body"]
        method, url = scope["method"].encode(), scope["raw_path"]
        status, headers, answer = self._echo.respond(method, url, body)
        headers = [*headers, (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


async def serve(echo: Echo, port: int) -> None:
    """Serve HTTP until told to stop."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Protocol(echo), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def speak(echo: Echo) -> None:
    """Serve standard input and output until it closes; a line is answered as soon as it is there."""
    out = sys.stdout.buffer
    for line in sys.stdin.buffer:
        answer, _ = echo.answer(line)
        if answer:
            out.write(answer + b"\n")
            out.flush()


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--era", choices=("modern", "legacy"), default="modern")
    parser.add_argument(
        "--port", type=int, help="over HTTP; without it on standard input and output"
    )
    parser.add_argument("--on", choices=("bare", "uvicorn"), default="bare")
    options = parser.parse_args()
    echo = Echo(options.era)
    if options.port is None:
        speak(echo)
    elif options.on == "uvicorn":
        uvicorn.run(
            Asgi(echo), host="127.0.0.1", port=options.port, loop="uvloop", http="httptools",
            lifespan="off", access_log=False, log_level="error", backlog=1024,
        )  # fmt: skip
    else:
        uvloop.run(serve(echo, options.port))


if __name__ == "__main__":
    main()
