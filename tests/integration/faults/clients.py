"""Clients of both eras over loopback sockets, a connection for each request, no library between.

Knows what the gateway's doors ask of a request and how both eras ask questions back. Refuses to know
upstreams.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

Era = Literal["modern", "legacy"]
ERAS: tuple[Era, ...] = ("modern", "legacy")
WAIT_S = 20.0
"""Seconds within which everything has an answer; no limit of a test is longer."""
CAPABILITIES: Mapping[str, Any] = {"elicitation": {"form": {}}}
_META = "io.modelcontextprotocol/"
_REVISIONS = {"modern": "2026-07-28", "legacy": "2025-11-25"}
Message = dict[str, Any]
Answer = Callable[[Message], Message]


class Response:
    """One response whose messages are read as they come."""

    def __init__(
        self, reader: asyncio.StreamReader, status: int, headers: Mapping[str, str]
    ) -> None:
        self.status = status
        self.headers = headers
        self._reader = reader

    async def messages(self) -> AsyncIterator[Message]:
        """Give each message of the body, the last one too."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            rest = b""
            async for chunk in self._chunks():
                *events, rest = (rest + chunk).split(b"\n\n")
                for event in events:
                    data = [line[6:] for line in event.split(b"\n") if line.startswith(b"data: ")]
                    if data and data[0]:
                        yield json.loads(data[0])
        else:
            body = b"".join([chunk async for chunk in self._chunks()])
            if body:
                yield json.loads(body)

    async def _chunks(self) -> AsyncIterator[bytes]:
        if self.headers.get("transfer-encoding") != "chunked":
            yield await self._reader.readexactly(int(self.headers.get("content-length", "0")))
            return
        while size := int(await self._reader.readline(), 16):
            yield (await self._reader.readexactly(size + 2))[:-2]


class Client:
    """One client; `who` is the principal it is taken for. `questions` holds what it was asked."""

    def __init__(
        self, port: int, who: str, era: Era, *, path: str = "/mcp", first_id: int = 1
    ) -> None:
        self.port = port
        self.who = who
        self.era: Era = era
        self.path = path
        self.session: dict[str, str] = {}
        self.questions: list[Message] = []
        self.last = b""
        """The last body that was sent."""
        self._ids = itertools.count(first_id)

    async def open(self) -> None:
        """Shake hands, where the era does."""
        if self.era == "modern":
            return
        params = {
            "protocolVersion": _REVISIONS["legacy"],
            "capabilities": CAPABILITIES,
            "clientInfo": {"name": "client", "version": "1"},
        }
        async with self.request("initialize", params) as response:
            (agreed,) = [message async for message in response.messages()]
            assert "result" in agreed, agreed
            self.session = {
                "mcp-session-id": response.headers["mcp-session-id"],
                "mcp-protocol-version": _REVISIONS["legacy"],
            }
        async with self.post({"jsonrpc": "2.0", "method": "notifications/initialized"}) as response:
            assert response.status == 202

    async def close(self) -> None:
        """End the session."""
        if self.session:
            async with self._exchange("DELETE", self.session, b""):
                self.session = {}

    @asynccontextmanager
    async def _exchange(
        self, method: str, headers: Mapping[str, str], body: bytes
    ) -> AsyncIterator[Response]:
        self.last = body
        async with asyncio.timeout(WAIT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            usual = {
                "host": "localhost",
                "authorization": f"Bearer {self.who}",
                "content-type": "application/json",
                "accept": "application/json, text/event-stream",
                "content-length": str(len(body)),
                **headers,
            }
            lines = [f"{name}: {value}" for name, value in usual.items()]
            head = "\r\n".join([f"{method} {self.path} HTTP/1.1", *lines, "", ""])
            try:
                writer.write(head.encode() + body)
                if not (line := await reader.readline()):
                    raise EOFError("closed without an answer")
                status = int(line.split()[1])
                got: dict[str, str] = {}
                while line := (await reader.readline()).strip():
                    name, _, value = line.decode().partition(":")
                    got[name.lower()] = value.strip()
                yield Response(reader, status, got)
            finally:
                writer.transport.abort()

    def post(self, message: Message, headers: Mapping[str, str] | None = None) -> Any:
        """Post one message, as a context that gives the response."""
        return self._exchange("POST", headers or self.session, json.dumps(message).encode())

    def request(self, method: str, params: Message) -> Any:
        """Make a request, as a context that gives the response."""
        message = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        if self.era == "legacy":
            return self.post(message)
        params["_meta"] = {
            f"{_META}protocolVersion": _REVISIONS["modern"],
            f"{_META}clientCapabilities": CAPABILITIES,
            **params.get("_meta", {}),
        }
        headers = {"mcp-protocol-version": _REVISIONS["modern"], "mcp-method": method}
        if "name" in params:
            headers["mcp-name"] = params["name"]
        return self.post(message, headers)

    async def once(self, tool: str, arguments: Message | None = None, **params: Any) -> Message:
        """Make one `tools/call` and give its final message; questions of a legacy stream are noted."""
        given = {"name": tool, "arguments": arguments or {}, **params}
        last: Message = {}
        async with self.request("tools/call", given) as response:
            async for last in response.messages():
                if last.get("method") == "elicitation/create":
                    self.questions.append(last)
        return last

    async def call(self, tool: str, /, answer: Answer | None = None, **arguments: Any) -> Message:
        """Make a `tools/call`, answering what is asked by `answer`, and give its final message."""
        if self.era == "legacy":
            return await self._call_legacy(tool, arguments, answer)
        more: Message = {}
        for _ in range(10):
            final = await self.once(tool, arguments, **more)
            result = final.get("result", {})
            if answer is None or result.get("resultType") != "input_required":
                return final
            answers = {}
            for key, question in result["inputRequests"].items():
                self.questions.append(question)
                answers[key] = answer(question)
            more = {"inputResponses": answers, "requestState": result["requestState"]}
        raise AssertionError("asked again and again")

    async def _call_legacy(self, tool: str, arguments: Message, answer: Answer | None) -> Message:
        last: Message = {}
        given = {"name": tool, "arguments": arguments}
        async with self.request("tools/call", given) as response:
            async for last in response.messages():
                if last.get("method") != "elicitation/create":
                    continue
                self.questions.append(last)
                if answer is not None:
                    reply = {"jsonrpc": "2.0", "id": last["id"], "result": answer(last)}
                    async with self.post(reply) as posted:
                        assert posted.status == 202
        return last


def words(message: Message) -> str:
    """The text of a tool's result."""
    assert "result" in message, message
    return str(message["result"]["content"][0]["text"])


def accept(name: str) -> Answer:
    """Somebody who always gives this name."""
    return lambda _: {"action": "accept", "content": {"name": name}}
