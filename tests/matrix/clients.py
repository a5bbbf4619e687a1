"""A client of exactly one revision: what it is sent is checked against that revision's schema, on every front.

It knows how its revision asks, cancels, subscribes and answers questions, so that a feature of the matrix is written
once. Fronts carry messages: `HttpFront`, `SseFront` and `PipeFront`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from tests.support.strict_wire import MODERN_PREFIX, Wire

Message = dict[str, Any]
Take = Callable[[Message, Any], None]
Respond = Callable[[str, Message], Message]

WAIT_S = 20.0
FORM: Message = {"form": {}}


def capabilities_of(revision: str) -> Message:
    """Everything a client of the revision can declare."""
    declared: Message = {"sampling": {}, "roots": {"listChanged": True}}
    if revision == "2026-07-28":
        declared["roots"] = {}
    if revision == "2025-06-18":
        declared["elicitation"] = {}
    if revision >= "2025-11-25":
        declared["elicitation"] = {"form": {}, "url": {}}
        declared["sampling"] = {"tools": {}}
    return declared


class Front(Protocol):
    """Carries messages to the gateway; what comes is given to `take`, with the request whose stream it came on."""

    take: Take
    streams_apart: bool
    cancels_by_leaving: bool

    async def open(self, revision: str) -> None:
        """Be ready to send."""

    async def send(self, message: Message) -> None:
        """Send a message."""

    async def agreed(self) -> None:
        """Hear that the handshake is over."""

    def leave(self, identifier: Any) -> None:
        """Stop listening to the answer of a request."""

    async def close(self) -> None:
        """End everything."""


class RemoteError(Exception):
    """An error response."""

    def __init__(self, error: Message) -> None:
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data: Any = error.get("data")
        super().__init__(f"{self.code} {self.message} {self.data}")


class _Waiting:
    """A request under way."""

    def __init__(self, method: str, token: Any) -> None:
        self.method = method
        self.token = token
        self.future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()


class Client:
    """One client. `heard` are the notifications, `asked` the questions, `wrong` what broke its revision's rules."""

    def __init__(self, revision: str, front: Front) -> None:
        self.revision = revision
        self.wire = Wire(revision)
        self.front = front
        self.heard: list[Message] = []
        self.asked: list[tuple[str, Message]] = []
        self.wrong: list[str] = []
        self.respond: Respond = _refuse
        self.log_level: str | None = None
        self.hello: Message = {}
        self._numbers = itertools.count(1)
        self._waiting: dict[Any, _Waiting] = {}
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        front.take = self._take

    async def __aenter__(self) -> Client:
        """Open, with a handshake where the revision has one."""
        await self.front.open(self.revision)
        if self.wire.is_modern:
            self.hello = await self.request("server/discover")
            return self
        info = {"name": "strict client", "version": "1"}
        params = {
            "protocolVersion": self.revision,
            "capabilities": capabilities_of(self.revision),
            "clientInfo": info,
        }
        self.hello = await self.request("initialize", params)
        assert self.hello["protocolVersion"] == self.revision, self.hello
        await self.tell("notifications/initialized")
        await self.front.agreed()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        for task in self._tasks:
            task.cancel()
        await self.front.close()

    # --- saying

    async def request(
        self, method: str, params: Mapping[str, Any] | None = None, **more: Any
    ) -> Message:
        """Make a request, answer the questions it raises, give its result; `token` asks for progress.

        Raises:
            RemoteError: the answer is an error.
        """
        given: Message = dict(params or {})
        for _ in range(10):
            _, waiting = await self.begin(method, given, **more)
            result = await self.result_of(waiting)
            if result.get("resultType", "complete") == "complete":
                return result
            answers = {
                key: self._answer(asked["method"], asked.get("params", {}))
                for key, asked in result.get("inputRequests", {}).items()
            }
            given = {**(params or {}), "inputResponses": answers}
            if "requestState" in result:
                given["requestState"] = result["requestState"]
        raise AssertionError("ten rounds of questions")

    async def begin(
        self, method: str, params: Mapping[str, Any], *, token: Any = None
    ) -> tuple[Any, _Waiting]:
        """Send a request; give its id and what waits for its answer."""
        identifier: Any = next(self._numbers)
        if identifier % 2:
            identifier = f"c{identifier}"
        waiting = self._waiting[identifier] = _Waiting(method, token)
        meta: Message = dict(params.get("_meta", {}))
        if token is not None:
            meta["progressToken"] = token
        if self.wire.is_modern:
            meta[MODERN_PREFIX + "protocolVersion"] = self.revision
            meta[MODERN_PREFIX + "clientCapabilities"] = capabilities_of(self.revision)
            meta[MODERN_PREFIX + "clientInfo"] = {"name": "strict client", "version": "1"}
            if self.log_level is not None:
                meta[MODERN_PREFIX + "logLevel"] = self.log_level
        sent: Message = {**params, "_meta": meta} if meta else dict(params)
        message = {"jsonrpc": "2.0", "id": identifier, "method": method, "params": sent}
        assert not self.wire.problems_of_said(message), self.wire.problems_of_said(message)
        await self.front.send(message)
        return identifier, waiting

    async def result_of(self, waiting: _Waiting) -> Message:
        """Wait for the answer."""
        async with asyncio.timeout(WAIT_S):
            message = await waiting.future
        if "error" in message:
            raise RemoteError(message["error"])
        found: Message = message["result"]
        return found

    async def call(
        self, name: str, arguments: Mapping[str, Any] | None = None, **more: Any
    ) -> Message:
        """Call a tool."""
        return await self.request(
            "tools/call", {"name": name, "arguments": dict(arguments or {})}, **more
        )

    async def tell(self, method: str, params: Message | None = None) -> None:
        """Send a notification."""
        message: Message = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = params
        assert not self.wire.problems_of_said(message), self.wire.problems_of_said(message)
        await self.front.send(message)

    async def cancel(self, identifier: Any) -> None:
        """Cancel a request the way of revision and front."""
        if self.wire.is_modern and self.front.cancels_by_leaving:
            self.front.leave(identifier)
        else:
            await self.tell(
                "notifications/cancelled", {"requestId": identifier, "reason": "changed my mind"}
            )

    async def listen(self, **wanted: Any) -> None:
        """Open a listening stream, and wait for its acknowledgement (modern)."""
        await self.begin("subscriptions/listen", {"notifications": wanted})
        await self.hears("notifications/subscriptions/acknowledged")

    # --- hearing

    async def hears(self, method: str, count: int = 1) -> Message:
        """Wait until so many notifications of a method came; give the last, and forget them all."""
        async with asyncio.timeout(WAIT_S):
            while len(found := self.notes(method)) < count:
                self._news.clear()
                await self._news.wait()
        self.heard = [one for one in self.heard if one["method"] != method]
        return found[-1]

    def notes(self, method: str) -> list[Message]:
        """The parameters of the notifications of a method."""
        return [one.get("params", {}) for one in self.heard if one["method"] == method]

    def _take(self, message: Message, stream: Any) -> None:
        """Take a message that came on the stream of the request `stream`, None where it is nobody's."""
        if "method" not in message:
            self._take_response(message, stream)
            return
        self._note(self.wire.problems_of_said(message), message)
        if "id" in message:
            if self.wire.is_modern:
                self._note(["a server request in the modern era"], message)
            self._keep(self._answer_request(message))
            if self.front.streams_apart and stream is None:
                self._note(["a question on no request's stream"], message)
            return
        if self.front.streams_apart and (stream is None) == (
            message["method"] in ("notifications/progress", "notifications/message")
        ) and not self.wire.is_modern:  # fmt: skip
            self._note(["on the wrong stream"], message)
        self.heard.append(message)
        self._news.set()

    def _take_response(self, message: Message, stream: Any) -> None:
        waiting = self._waiting.pop(message.get("id"), None)
        if waiting is None:
            self._note(["answers nothing"], message)
            return
        if self.front.streams_apart and stream != message["id"]:
            self._note(["on the wrong stream"], message)
        self._note(self.wire.problems_of_response(message, waiting.method), message)
        waiting.future.set_result(message)

    def _note(self, problems: list[str], message: Message) -> None:
        if problems:
            self.wrong.append(f"{problems} in {str(message)[:600]}")

    def _answer(self, method: str, params: Message) -> Message:
        self.asked.append((method, params))
        return self.respond(method, params)

    async def _answer_request(self, message: Message) -> None:
        answer = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] == "ping":
            answer["result"] = {}
        else:
            answer["result"] = self._answer(message["method"], message.get("params", {}))
        assert not self.wire.problems_of_response(answer, message["method"])
        await self.front.send(answer)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _refuse(method: str, params: Message) -> Message:
    raise AssertionError(f"not expected: {method} {params}")
