"""A server of exactly one revision, which takes nothing it does not have: the other end of the compatibility matrix.

    python -m tests.peers.strict_server REVISION JOURNAL      on standard input and output

Every message it receives is checked against its revision's schema and against what only other revisions know, and
every message it sends against the schema. What is wrong is a complaint in the journal, one JSON text per line, beside
what it received and which calls were cancelled. `strict_http` serves the same over HTTP.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from tests.peers import strict_tools
from tests.peers.strict_tools import RpcError
from tests.support.strict_wire import MODERN_PREFIX, REVISIONS, Wire

Message = dict[str, Any]
Send = Callable[[Message], Awaitable[None]]
Note = Callable[[str, Any], None]

PAGE = 5
LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
_LISTS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}
_CACHED = frozenset({*_LISTS, "resources/read", "server/discover"})
_CHANGES = {
    "notifications/tools/list_changed": "toolsListChanged",
    "notifications/resources/updated": "resourceSubscriptions",
}


class InputNeededError(Exception):
    """The modern way to ask: the call ends with a question and comes back with the answer."""

    def __init__(self, result: Message) -> None:
        self.result = result
        super().__init__("input required")


class Line:
    """One client on one channel or session. `send` carries what belongs to no request."""

    def __init__(self, peer: StrictServer, send: Send) -> None:
        self.peer = peer
        self.send = send
        self.is_open = False
        self.is_greeted = False
        self.level = "info"
        self.subscribed: set[str] = set()
        self.capabilities: Message = {}
        self.calls: dict[Any, asyncio.Task[None]] = {}
        self.asked: dict[Any, tuple[str, asyncio.Future[Message]]] = {}
        self.listeners: dict[Any, tuple[Message, Send]] = {}

    async def take(self, message: Message, send: Send | None = None) -> None:
        """Take one message; what belongs to it goes to `send`. Returns when a request was answered."""
        own = send or self.send
        if "method" not in message:
            self._take_response(message)
        elif "id" in message:
            await self._take_request(message, own)
        else:
            self._take_notification(message)

    def cancel(self, identifier: Any) -> None:
        """Stop a call."""
        if identifier in self.calls:
            self.calls[identifier].cancel()

    # --- what comes

    def _take_response(self, message: Message) -> None:
        asked = self.asked.pop(message.get("id"), None)
        if asked is None:
            self.peer.complain(f"answers nothing: {message}")
            return
        method, future = asked
        self.peer.check(message, self.peer.wire.problems_of_response(message, method))
        future.set_result(message)

    def _take_notification(self, message: Message) -> None:
        self.peer.check(message, self.peer.wire.problems_of_said(message))
        self.peer.note("received", message)
        if message["method"] == "notifications/initialized":
            self.is_greeted = True
        elif message["method"] == "notifications/cancelled":
            if message["params"]["requestId"] in self.listeners:
                del self.listeners[message["params"]["requestId"]]
            self.cancel(message["params"]["requestId"])

    async def _take_request(self, message: Message, send: Send) -> None:
        identifier = message["id"]
        if message["method"] == ("initialize" if self.peer.wire.is_modern else "server/discover"):
            # How the other era is looked for; whoever has only one says no.
            self.peer.note("probed", message["method"])
            await send(failure(identifier, RpcError(-32601, "Method not found")))
            return
        self.peer.note("received", message)
        self.peer.check(message, self.peer.wire.problems_of_said(message))
        if identifier in self.calls:
            self.peer.complain(f"the id {identifier!r} is in use")
        task = asyncio.current_task()
        assert task is not None
        self.calls[identifier] = task
        try:
            result = await self._answer(message, send)
        except RpcError as exc:
            answer = failure(identifier, exc)
        except InputNeededError as exc:
            answer = success(identifier, exc.result)
        except asyncio.CancelledError:
            self.peer.note("cancelled", message["params"].get("name"))
            raise
        else:
            answer = success(identifier, self.peer.framed(message["method"], result))
        finally:
            del self.calls[identifier]
        own = self.peer.wire.problems_of_response(answer, message["method"])
        if own:
            self.peer.complain(f"the stub itself is wrong: {own} in {answer}")
        await send(answer)

    # --- what is answered

    async def _answer(self, message: Message, send: Send) -> Message:
        method, params = message["method"], message.get("params", {})
        wire = self.peer.wire
        if not wire.has(method) or method.startswith("notifications/"):
            raise RpcError(-32601, f"Method not found: {method}")
        if wire.is_modern:
            self._check_envelope(params)
        elif method == "initialize":
            self.is_open = True
            self.capabilities = params["capabilities"]
            return self.peer.hello()
        elif not (self.is_open and self.is_greeted) and method != "ping":
            self.peer.complain(f"{method} before the handshake is over")
        if method in ("tools/call", "prompts/get", "resources/read"):
            return await strict_tools.answer(Ask(self, message, send))
        return await self._answer_plain(method, params, message, send)

    async def _answer_plain(
        self, method: str, params: Message, message: Message, send: Send
    ) -> Message:
        if method == "server/discover":
            return self.peer.discovered()
        if method in _LISTS:
            return self.peer.page(_LISTS[method], params.get("cursor"))
        if method == "logging/setLevel":
            self.level = params["level"]
        elif method == "resources/subscribe":
            self.subscribed.add(params["uri"])
        elif method == "resources/unsubscribe":
            self.subscribed.discard(params["uri"])
        elif method == "completion/complete":
            return strict_tools.complete(params)
        elif method == "subscriptions/listen":
            return await self._listen(message, send)
        return {}

    def _check_envelope(self, params: Message) -> None:
        meta = params["_meta"]
        if meta.get(MODERN_PREFIX + "protocolVersion") != self.peer.wire.revision:
            raise RpcError(-32022, "Unsupported version", {"supported": [self.peer.wire.revision]})
        self.capabilities = meta[MODERN_PREFIX + "clientCapabilities"]

    async def _listen(self, message: Message, send: Send) -> Message:
        wanted = message["params"]["notifications"]
        meta = {MODERN_PREFIX + "subscriptionId": message["id"]}
        self.listeners[message["id"]] = (wanted, send)
        await self.say(
            send,
            "notifications/subscriptions/acknowledged",
            {"_meta": meta, "notifications": wanted},
        )
        try:
            await asyncio.Event().wait()
        finally:
            self.listeners.pop(message["id"], None)
        raise AssertionError("unreachable")

    # --- what is said

    async def say(self, send: Send, method: str, params: Message) -> None:
        """Send a notification."""
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        own = self.peer.wire.problems_of_said(message)
        if own:
            self.peer.complain(f"the stub itself is wrong: {own} in {message}")
        await send(message)

    async def tell_change(self, method: str, uri: str | None = None) -> None:
        """Tell whoever listens on this line of a change."""
        params: Message = {} if uri is None else {"uri": uri}
        if not self.peer.wire.is_modern:
            if uri is None or uri in self.subscribed:
                await self.say(self.send, method, params)
            return
        for identifier, (wanted, send) in list(self.listeners.items()):
            asked = wanted.get(_CHANGES[method])
            if asked is True or (isinstance(asked, list) and uri in asked):
                meta = {MODERN_PREFIX + "subscriptionId": identifier}
                await self.say(send, method, {"_meta": meta, **params})


class Ask:
    """One call as its tool sees it."""

    def __init__(self, line: Line, message: Message, send: Send) -> None:
        self.line = line
        self.method: str = message["method"]
        self.params: Message = message["params"]
        self.revision = line.peer.wire.revision
        self._send = send
        self._round = itertools.count(1)
        state = self.params.get("requestState")
        self._known: Message = {} if state is None else json.loads(base64.b64decode(state))
        self._known |= self.params.get("inputResponses", {})
        self._meta: Message = self.params.get("_meta", {})

    @property
    def arguments(self) -> Message:
        """The arguments of the call."""
        found: Message = self.params.get("arguments", {})
        return found

    async def progress(self, progress: float, total: float) -> None:
        """Tell how far the call is."""
        token = self._meta.get("progressToken")
        if token is not None:
            params = {"progressToken": token, "progress": progress, "total": total}
            await self.line.say(self._send, "notifications/progress", params)

    async def log(self, level: str, data: Any) -> None:
        """Send a log message, if it is wanted."""
        wanted = self.line.level
        if self.line.peer.wire.is_modern:
            wanted = self._meta.get(MODERN_PREFIX + "logLevel", "")
            if not wanted:
                return
        if LEVELS.index(level) >= LEVELS.index(wanted):
            params = {"level": level, "logger": "stub", "data": data}
            await self.line.say(self._send, "notifications/message", params)

    async def ask(self, key: str, method: str, params: Message) -> Message:
        """Ask the client; give the result."""
        peer = self.line.peer
        if peer.wire.is_modern:
            return self._asked_before(key, method, params)
        identifier = f"ask-{next(peer.numbers)}"
        message = {"jsonrpc": "2.0", "id": identifier, "method": method, "params": params}
        own = peer.wire.problems_of_said(message)
        if own:
            peer.complain(f"the stub itself is wrong: {own} in {message}")
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self.line.asked[identifier] = (method, future)
        await self._send(message)
        answer = await future
        if "error" in answer:
            raise RpcError(-32603, f"not answered: {answer['error']['message']}")
        found: Message = answer["result"]
        return found

    def _asked_before(self, key: str, method: str, params: Message) -> Message:
        if key in self._known:
            answer: Message = self._known[key]
            self.line.peer.check(answer, self.line.peer.wire.problems_of_result(answer, method))
            return answer
        state = base64.b64encode(json.dumps(self._known).encode()).decode()
        request = {"method": method, "params": params}
        raise InputNeededError(
            {"resultType": "input_required", "inputRequests": {key: request}, "requestState": state}
        )


class StrictServer:
    """What all lines of one server share. `note` writes into its journal."""

    def __init__(self, revision: str, note: Note) -> None:
        assert revision in REVISIONS, revision
        self.wire = Wire(revision)
        self.note = note
        self.numbers = itertools.count(1)
        self.lines: list[Line] = []
        self.has_grown = False
        self.visited: set[str] = set()

    def complain(self, text: str) -> None:
        """Note what a peer of this revision must not do."""
        self.note("complaint", f"{self.wire.revision}: {text}")

    def check(self, message: Mapping[str, Any], found: list[str]) -> None:
        """Complain of what is wrong with a message."""
        if found:
            self.complain(f"{found} in {json.dumps(message)[:600]}")

    def line(self, send: Send) -> Line:
        """Open a line."""
        line = Line(self, send)
        self.lines.append(line)
        return line

    def close(self, line: Line) -> None:
        """Close a line and stop what runs on it."""
        if line in self.lines:
            self.lines.remove(line)
        for task in tuple(line.calls.values()):
            task.cancel()

    async def tell_change(self, method: str, uri: str | None = None) -> None:
        """Tell every line of a change."""
        for line in tuple(self.lines):
            await line.tell_change(method, uri)

    def _capabilities(self) -> Message:
        declared: Message = {
            "tools": {"listChanged": True},
            "prompts": {"listChanged": True},
            "resources": {"listChanged": True, "subscribe": True},
            "logging": {},
        }
        if self.wire.revision >= "2025-03-26":
            declared["completions"] = {}
        return declared

    def hello(self) -> Message:
        """The result of `initialize`: it has one revision, whatever was asked for."""
        return {
            "protocolVersion": self.wire.revision,
            "capabilities": self._capabilities(),
            "serverInfo": {"name": "strict", "version": "1"},
            "instructions": "Ask nicely.",
        }

    def discovered(self) -> Message:
        """The result of `server/discover`."""
        return {"supportedVersions": [self.wire.revision], "capabilities": self._capabilities()}

    def page(self, member: str, cursor: str | None) -> Message:
        """One page of a list."""
        entries = strict_tools.entries(member, self.wire.revision, has_grown=self.has_grown)
        start = 0 if cursor is None else int(cursor.removeprefix("after-"))
        result: Message = {member: entries[start : start + PAGE]}
        if start + PAGE < len(entries):
            result["nextCursor"] = f"after-{start + PAGE}"
        return result

    def framed(self, method: str, result: Message) -> Message:
        """Add what each result of the revision has."""
        if not self.wire.is_modern:
            return result
        framed = {"resultType": "complete", **result}
        info = {MODERN_PREFIX + "serverInfo": {"name": "strict", "version": "1"}}
        framed["_meta"] = {**result.get("_meta", {}), **info}
        if method in _CACHED:
            framed |= {"ttlMs": 60_000, "cacheScope": "public"}
        return framed


def success(identifier: Any, result: Message) -> Message:
    """A result response."""
    return {"jsonrpc": "2.0", "id": identifier, "result": result}


def failure(identifier: Any, error: RpcError) -> Message:
    """An error response."""
    return {"jsonrpc": "2.0", "id": identifier, "error": error.body}


async def serve_lines(server: StrictServer) -> None:
    """Serve standard input and output."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def send(message: Message) -> None:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()

    line = server.line(send)
    async with asyncio.TaskGroup() as group:
        while raw := await reader.readline():
            message = json.loads(raw)
            if "id" in message and "method" in message:
                group.create_task(line.take(message))
                await asyncio.sleep(0)
            else:
                await line.take(message)
        server.close(line)


def journal_in(path: Path) -> Note:
    """Write a journal into a file, whole lines at once, so that processes may share it."""

    def note(event: str, what: Any) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([event, what]) + "\n")

    return note


if __name__ == "__main__":
    asyncio.run(serve_lines(StrictServer(sys.argv[1], journal_in(Path(sys.argv[2])))))
