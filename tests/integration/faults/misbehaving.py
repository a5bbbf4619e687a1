"""A server of MCP that misbehaves as its tools are named: every transport, both eras, no library.

    python misbehaving.py stdio|http|sse legacy|modern PORT JOURNAL [OPTION=VALUE…]

Tests start it as a process of its own. What it was asked to do, and what it did, stands in JOURNAL,
one JSON list a line, which outlives it. Options: `start` seconds before it serves; `lists=hang` never
answers a list; `sessions=none` knows no session it gave; `redirect=URL` sends every call there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

MODERN = "2026-07-28"
HUGE_BYTES = 100 * 1024 * 1024
CHUNK = b"x" * (1024 * 1024)
INVENTED = "invented-1"
FORM = {"type": "object", "properties": {"name": {"type": "string"}}}
TOOLS = (
    "ask", "before", "cut", "deaf", "echo", "empty", "endless", "error", "event_flood", "forget", "garbage", "half",
    "hang", "headers", "huge", "huge_event", "kill", "last_words", "noise", "swapped", "told", "twice", "unasked",
    "wrong_id",
)  # fmt: skip
Message = dict[str, Any]


class Talk(Protocol):
    """Where what is said about one request goes."""

    async def send(self, message: Message) -> None:
        """Send a message as it should be."""

    async def frame(self, pieces: int, head: bytes, tail: bytes) -> None:
        """Send one message of many megabytes."""

    async def garbage(self) -> None:
        """Send what is no message, as a message."""

    async def half(self) -> None:
        """Send half a message."""

    async def cut(self) -> None:
        """Let go of the connection."""


def response(identifier: Any, words: str, era: str) -> Message:
    """A tool's answer."""
    result: Message = {"content": [{"type": "text", "text": words}]}
    if era == "modern":
        result["resultType"] = "complete"
    return {"jsonrpc": "2.0", "id": identifier, "result": result}


class Server:
    """What the server knows, whatever carries it."""

    def __init__(self, era: str, journal: str, options: dict[str, str]) -> None:
        self.era = era
        self.options = options
        self.deaf_until = 0.0
        self.sessions: set[str] = set()
        self.live: dict[Any, tuple[asyncio.Task[None], str]] = {}
        self.waiting: dict[str, asyncio.Future[Message]] = {}
        self.calls: list[tuple[Any, Talk]] = []
        self.number = 0
        self.said_in: dict[str, str] = {}
        self._journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, *facts: Any) -> None:
        """Write into the journal."""
        os.write(self._journal, json.dumps(facts).encode() + b"\n")

    async def take(self, message: Message, talk: Talk) -> None:
        """Answer one message."""
        identifier, method = message.get("id"), message.get("method")
        params = message.get("params") or {}
        if method is None:
            self._take_answer(message)
        elif method == "tools/call":
            await self._run(identifier, params, talk)
        elif method == "notifications/cancelled":
            self.cancel(params.get("requestId"), "cancelled")
        elif identifier is not None:
            await self._answer(identifier, method, params, talk)

    def cancel(self, identifier: Any, word: str) -> None:
        """Stop a call."""
        task, tag = self.live.pop(identifier, (None, ""))
        if task is not None:
            self.note(word, tag)
            task.cancel()

    def gone(self, identifier: Any) -> None:
        """Take note that nobody reads an answer; in the modern era that is a cancellation."""
        if self.era == "modern":
            self.cancel(identifier, "cancelled")
        elif identifier in self.live:
            self.note("gone", self.live[identifier][1])

    async def _answer(self, identifier: Any, method: str, params: Message, talk: Talk) -> None:
        is_modern = self.era == "modern"
        error, result = None, None
        if method == "initialize" and not is_modern:
            self.note("initialize")
            result = {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "misbehaving", "version": "1"},
            }
        elif method == "server/discover" and is_modern:
            result = {"supportedVersions": [MODERN], "capabilities": {"tools": {}}, "ttlMs": 60000}
        elif method == "tools/list":
            if self.options.get("lists") == "hang":
                await asyncio.sleep(3600)
            tools = [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]
            result = {"tools": tools, "ttlMs": 60000, "cacheScope": "public"}
        elif method == "ping" and not is_modern:
            result = {}
        else:
            error = {"code": -32601, "message": "Method not found"}
        if error is not None:
            await talk.send({"jsonrpc": "2.0", "id": identifier, "error": error})
        else:
            more = {"resultType": "complete"} if is_modern else {}
            await talk.send(
                {"jsonrpc": "2.0", "id": identifier, "result": {**(result or {}), **more}}
            )

    async def _run(self, identifier: Any, params: Message, talk: Talk) -> None:
        given = params.get("arguments") or {}
        tag = str(given.get("tag", ""))
        task = asyncio.current_task()
        assert task is not None
        self.live[identifier] = (task, tag)
        self.note("run", params["name"], tag)
        try:
            tool: Callable[..., Awaitable[None]] = getattr(self, f"tool_{params['name']}")
            await tool(identifier, {**given, "params": params}, talk)
            self.note("done", tag)
        finally:
            self.live.pop(identifier, None)

    def _take_answer(self, message: Message) -> None:
        ready = self.waiting.pop(str(message.get("id")), None)
        if ready is not None and not ready.done():
            ready.set_result(message)

    async def _say(self, identifier: Any, words: str, talk: Talk) -> None:
        await talk.send(response(identifier, words, self.era))

    # --- tools that do as they should

    async def tool_echo(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Give the text back, after a while."""
        await asyncio.sleep(given.get("seconds", 0))
        await self._say(identifier, given.get("text", ""), talk)

    async def tool_ask(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Ask who is there; the question says for whom it is, and so does the answer."""
        await asyncio.sleep(given.get("seconds", 0))
        tag = given["tag"]
        if self.era == "modern":
            answers = given["params"].get("inputResponses")
            if not answers:
                form = {"message": f"for {tag}", "requestedSchema": FORM, "mode": "form"}
                asked = {"who": {"method": "elicitation/create", "params": form}}
                result = {
                    "resultType": "input_required",
                    "inputRequests": asked,
                    "requestState": tag,
                }
                await talk.send({"jsonrpc": "2.0", "id": identifier, "result": result})
                return
            state, answer = given["params"].get("requestState"), answers["who"]
        else:
            self.number += 1
            key = f"q-{self.number}"
            ready = self.waiting[key] = asyncio.get_running_loop().create_future()
            form = {"message": f"for {tag}", "requestedSchema": FORM}
            question = {"id": key, "method": "elicitation/create", "params": form}
            await talk.send({"jsonrpc": "2.0", **question})
            heard = await ready
            self.note("answered", tag, heard.get("result") or heard.get("error"))
            state, answer = tag, heard.get("result") or heard.get("error")
        await asyncio.sleep(given.get("after", 0))
        await self._say(
            identifier, json.dumps({"tag": tag, "state": state, "answer": answer}), talk
        )

    async def tool_before(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Say what this session said the time before, and keep what it says now."""
        session = talk.asked_in if isinstance(talk, HttpTalk) else ""
        said = self.said_in.get(session, "")
        self.said_in[session] = given["text"]
        await asyncio.sleep(given.get("seconds", 0))
        await self._say(identifier, f"{given['text']} after {said}", talk)

    async def tool_told(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Tell of progress and write to the log, both with the text, before the answer with it."""
        text = given["text"]
        token = (given["params"].get("_meta") or {}).get("progressToken")
        for number in (1, 2):
            if token is not None:
                told = {"progressToken": token, "progress": number, "message": text}
                await talk.send(
                    {"jsonrpc": "2.0", "method": "notifications/progress", "params": told}
                )
            log = {"level": "info", "data": text}
            await talk.send({"jsonrpc": "2.0", "method": "notifications/message", "params": log})
            await asyncio.sleep(given.get("seconds", 0))
        await self._say(identifier, text, talk)

    async def tool_error(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Answer with an error."""
        error = {"code": -32000, "message": "no"}
        await talk.send({"jsonrpc": "2.0", "id": identifier, "error": error})

    # --- tools that do not

    async def tool_kill(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Be killed."""
        os.kill(os.getpid(), signal.SIGKILL)

    async def tool_last_words(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Answer, and be killed after that."""
        self.note("dies", os.getpid())
        await self._say(identifier, "farewell", talk)
        await asyncio.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)

    async def tool_hang(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Never answer."""
        await asyncio.sleep(3600)

    async def tool_garbage(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Send nonsense for a message, then the answer where that is still possible."""
        await talk.garbage()
        await self._say(identifier, "after garbage", talk)

    async def tool_noise(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Say what is not even the transport's language."""
        await talk.frame(0, b"\x00\xff\xfe garbage\r\n\r\n\xc3(", b"")

    async def tool_huge(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Answer with 100 MB."""
        whole = json.dumps(response(identifier, "@", self.era)).encode()
        head, tail = whole.split(b"@")
        await talk.frame(HUGE_BYTES // len(CHUNK), head, tail)

    async def tool_huge_event(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Send a notification of 100 MB, then the answer."""
        if type(talk) is HttpTalk:
            await talk.begin_events()
        log = {"method": "notifications/message", "params": {"level": "info", "data": "@"}}
        head, tail = json.dumps({"jsonrpc": "2.0", **log}).encode().split(b"@")
        await talk.frame(HUGE_BYTES // len(CHUNK), head, tail)
        await self._say(identifier, "after it", talk)

    async def tool_endless(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Answer with a text that has no end."""
        head = json.dumps(response(identifier, "@", self.era)).encode().split(b"@")[0]
        await talk.frame(1_000_000, head, b"")

    async def tool_event_flood(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Send notifications without end, and never an answer."""
        params = {"level": "info", "data": "y" * given.get("size", 200)}
        log = {"jsonrpc": "2.0", "method": "notifications/message", "params": params}
        while True:
            await talk.send(log)
            await asyncio.sleep(0)

    async def tool_cut(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Close before an answer."""
        await talk.cut()

    async def tool_headers(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Send the headers of an answer, and close."""
        if type(talk) is HttpTalk:
            await talk.begin_events()
        await talk.cut()

    async def tool_empty(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Send a stream of events, whole and without an answer."""
        if type(talk) is HttpTalk:
            await talk.begin_events()
            await talk.end()
            return
        await talk.cut()

    async def tool_half(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Send half an answer and close."""
        await talk.half()

    async def tool_twice(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Answer twice."""
        if type(talk) is HttpTalk:
            await talk.twice(response(identifier, "one", self.era))
            return
        await self._say(identifier, "one", talk)
        await self._say(identifier, "two", talk)

    async def tool_wrong_id(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Answer somebody who never was."""
        await self._say("nobody", "for nobody", talk)
        if type(talk) is HttpTalk:
            return
        await asyncio.sleep(3600)

    async def tool_swapped(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Wait for a second caller, then answer each on the stream of the other, under its id."""
        self.calls.append((identifier, talk))
        if len(self.calls) < 2:
            await asyncio.sleep(3600)
        (first, first_talk), (second, second_talk) = self.calls
        await first_talk.send(response(second, "swapped", self.era))
        await second_talk.send(response(first, "swapped", self.era))
        for task, _ in [self.live[first]]:
            task.cancel()
        self.calls.clear()

    async def tool_unasked(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Send requests nobody expects, invented answers, and then the answer."""
        await talk.send({"jsonrpc": "2.0", "id": 1, "method": "files/delete", "params": {}})
        await talk.send({"jsonrpc": "2.0", "id": 2, "method": "ping"})
        await talk.send({"jsonrpc": "2.0", "id": INVENTED, "result": {}})
        await self._say(identifier, "after all", talk)

    async def tool_forget(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Answer, and lose every session."""
        await self._say(identifier, "forgotten", talk)
        self.sessions.clear()

    async def tool_deaf(self, identifier: Any, given: Message, talk: Talk) -> None:
        """Answer, and read nothing for a while."""
        self.deaf_until = asyncio.get_running_loop().time() + given.get("seconds", 1)
        await self._say(identifier, "what?", talk)

    async def listen(self) -> None:
        """Wait until it reads again."""
        while asyncio.get_running_loop().time() < self.deaf_until:  # noqa: ASYNC110 - time passes by itself
            await asyncio.sleep(0.05)


# --- standard input and output


class LineTalk:
    """All on one line."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._lock = asyncio.Lock()

    async def send(self, message: Message) -> None:
        await self.frame(0, json.dumps(message).encode(), b"")

    async def frame(self, pieces: int, head: bytes, tail: bytes) -> None:
        async with self._lock:
            self._writer.write(head)
            for _ in range(pieces):
                self._writer.write(CHUNK)
                await self._writer.drain()
            self._writer.write(tail + b"\n")
            await self._writer.drain()

    async def garbage(self) -> None:
        await self.frame(0, b'Listening on port 80\n\x1b[31mred\n{"jsonrpc":\n[1,2]\n\xff\xfe', b"")

    async def half(self) -> None:
        self._writer.write(b'{"jsonrpc":"2.0","id":"')
        await self._writer.drain()
        await self.cut()

    async def cut(self) -> None:
        os._exit(0)


async def serve_stdio(server: Server) -> None:
    """Serve standard input."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(64 * 1024)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, sys.stdout
    )
    talk = LineTalk(asyncio.StreamWriter(transport, protocol, None, loop))
    rest = b""
    tasks = set()
    while True:
        await server.listen()
        chunk = await reader.read(65_536)
        if not chunk:
            os._exit(0)
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            message = json.loads(line)
            task = asyncio.get_running_loop().create_task(server.take(message, talk))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(0)


# --- HTTP


class HttpTalk:
    """The answer to one POST: one JSON text, or events once something comes before it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.is_begun = self.is_over = False
        self.session = self.asked_in = ""

    def _head(self, status: str, kind: str, more: str = "") -> bytes:
        session = f"mcp-session-id: {self.session}\r\n" if self.session else ""
        return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{session}{more}\r\n".encode()

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    async def begin_events(self) -> None:
        self.is_begun = True
        await self._write(
            self._head("200 OK", "text/event-stream", "transfer-encoding: chunked\r\n")
        )

    async def _piece(self, data: bytes) -> None:
        await self._write(b"%x\r\n%b\r\n" % (len(data), data))

    async def send(self, message: Message) -> None:
        if self.is_over:
            return
        data = json.dumps(message).encode()
        is_last = "method" not in message and message.get("id") != INVENTED
        if is_last and not self.is_begun:
            await self.whole("200 OK", data)
            return
        if not self.is_begun:
            await self.begin_events()
        await self._piece(b"event: message\ndata: %b\n\n" % data)
        if is_last:
            await self.end()

    async def whole(self, status: str, data: bytes) -> None:
        """Answer with one JSON text."""
        self.is_over = True
        length = f"content-length: {len(data)}\r\n"
        await self._write(self._head(status, "application/json", length) + data)

    async def redirect(self, there: str) -> None:
        """Send the client elsewhere, the method kept."""
        more = f"content-length: 0\r\nlocation: {there}\r\n"
        await self._write(self._head("307 Temporary Redirect", "text/plain", more))

    async def end(self) -> None:
        """End the stream of events."""
        if self.is_begun and not self.is_over:
            self.is_over = True
            await self._write(b"0\r\n\r\n")

    async def frame(self, pieces: int, head: bytes, tail: bytes) -> None:
        if not pieces:
            await self._write(head)
            await self.cut()
            return
        if self.is_begun:
            head, tail = b"event: message\ndata: " + head, tail + b"\n\n"
        else:
            more = "transfer-encoding: chunked\r\n"
            await self._write(self._head("200 OK", "application/json", more))
        await self._piece(head)
        for _ in range(pieces):
            if self._writer.is_closing():
                return
            await self._piece(CHUNK)
        if tail:
            await self._piece(tail)

    async def garbage(self) -> None:
        await self.whole("200 OK", b"<html>It works!</html>")

    async def half(self) -> None:
        self.is_over = True
        await self._write(
            self._head("200 OK", "application/json", "content-length: 100\r\n") + b'{"json'
        )
        await self.cut()

    async def twice(self, message: Message) -> None:
        """Send two whole responses to one request."""
        await self.send(message)
        self.is_over = False
        await self.send({**message, "result": {**message["result"], "content": []}})

    async def cut(self) -> None:
        self.is_over = True
        self._writer.close()


class Events(HttpTalk):
    """The stream of the old transport."""

    async def send(self, message: Message) -> None:
        await self._piece(b"event: message\ndata: %b\n\n" % json.dumps(message).encode())

    async def frame(self, pieces: int, head: bytes, tail: bytes) -> None:
        if not pieces:
            await self._write(head)
            return
        await super().frame(pieces, head, tail)

    async def garbage(self) -> None:
        await self._piece(b"event: message\ndata: <html>It works!</html>\n\n")

    async def half(self) -> None:
        await self._piece(b'event: message\ndata: {"jsonrpc"')
        await self.cut()


class Http:
    """Both HTTP transports, by hand."""

    def __init__(self, server: Server, *, is_old: bool) -> None:
        self._server = server
        self._is_old = is_old
        self._streams: dict[str, Events] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while not writer.is_closing():
                await self._server.listen()
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = head[0].split(" ")
                pairs = [line.partition(":") for line in head[1:] if line]
                headers = {name.lower(): value.strip() for name, _, value in pairs}
                length = int(headers.get("content-length", "0"))
                await self._server.listen()
                body = await reader.readexactly(length)
                await self._request(method, path, headers, body, reader, writer)
        writer.close()

    async def _request(
        self, method: str, path: str, headers: dict[str, str], body: bytes, reader: Any, writer: Any
    ) -> None:
        talk = HttpTalk(writer)
        if self._is_old:
            await self._old(method, path, body, talk, reader, writer)
        elif method == "POST":
            await self._post(headers, json.loads(body), talk, reader)
        elif method == "DELETE":
            self._server.sessions.discard(headers.get("mcp-session-id", ""))
            await talk.whole("200 OK", b"{}")
        else:
            await talk.whole("405 Method Not Allowed", b"{}")

    def _is_refused(self, method: str | None) -> bool:
        return self._server.options.get("sessions") == "none" and method == "tools/call"

    async def _post(
        self, headers: dict[str, str], message: Message, talk: HttpTalk, reader: Any
    ) -> None:
        server = self._server
        given = talk.asked_in = headers.get("mcp-session-id", "")
        if server.era == "legacy" and message.get("method") == "initialize":
            server.number += 1
            talk.session = f"s-{os.getpid()}-{server.number}"
            server.sessions.add(talk.session)
        elif server.era == "legacy" and (
            given not in server.sessions or self._is_refused(message.get("method"))
        ):
            server.note("refused", str(message.get("method")))
            data = json.dumps(
                {"jsonrpc": "2.0", "id": None, "error": {"code": -32001, "message": "?"}}
            )
            await talk.whole("404 Not Found" if given else "400 Bad Request", data.encode())
            return
        if "redirect" in server.options and message.get("method") == "tools/call":
            await talk.redirect(server.options["redirect"])
            return
        if message.get("id") is None or message.get("method") is None:
            await server.take(message, talk)
            await talk.whole("202 Accepted", b"")
            return
        await self._until_gone(server.take(message, talk), message["id"], talk, reader)

    async def _until_gone(
        self, work: Any, identifier: Any, talk: HttpTalk, reader: asyncio.StreamReader
    ) -> None:
        """Do the work, and see meanwhile whether the client goes away."""
        working = asyncio.get_running_loop().create_task(work)
        watching = asyncio.get_running_loop().create_task(reader.read(1))
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done() and not working.done():
            self._server.gone(identifier)
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await working
            await talk.cut()
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await watching
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await working

    async def _old(
        self, method: str, path: str, body: bytes, talk: HttpTalk, reader: Any, writer: Any
    ) -> None:
        server = self._server
        if method == "GET":
            server.number += 1
            name = f"s-{server.number}"
            events = self._streams[name] = Events(writer)
            server.sessions.add(name)
            await events.begin_events()
            await events._piece(b"event: endpoint\ndata: /messages?session=%b\n\n" % name.encode())
            await reader.read(1)
            writer.close()
            return
        name = path.partition("session=")[2]
        if method != "POST" or name not in self._streams:
            await talk.whole("405 Method Not Allowed", b"{}")
            return
        message = json.loads(body)
        if name not in server.sessions or self._is_refused(message.get("method")):
            server.note("refused", str(message.get("method")))
            await talk.whole("404 Not Found", b"{}")
            return
        await talk.whole("202 Accepted", b"")
        task = asyncio.get_running_loop().create_task(server.take(message, self._streams[name]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def main(transport: str, era: str, port: int, journal: str, options: dict[str, str]) -> None:
    """Serve until killed."""
    server = Server(era, journal, options)
    server.note("started", os.getpid())
    await asyncio.sleep(float(options.get("start", "0")))
    if transport == "stdio":
        await serve_stdio(server)
        return
    http = Http(server, is_old=transport == "sse")
    listener = await asyncio.start_server(http.serve, "127.0.0.1", port, limit=64 * 1024)
    async with listener:
        await listener.serve_forever()


if __name__ == "__main__":
    given = dict(option.split("=", 1) for option in sys.argv[5:])
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], given))
