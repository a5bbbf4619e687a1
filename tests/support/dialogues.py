"""Dialogues with the doors, in memory: bytes in, events out, no socket.

A `Desk` is what a door needs of a house, over real gateways: plans, limits, live state, request log,
metrics. A `Visitor` says things to a door over ASGI and reads what comes back; the server between
them is as strict as a real one, and fails the test where a response is begun or ended twice.

    desk = Desk(box)
    async with desk:
        alice = Visitor(desk.door)
        answer = await alice.modern("tools/call", name="greet")
        assert answer.result["content"]

Use it in virtual time (`tests.support.virtual_time`): clocks are the running loop's.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Self

from tests.support.virtual_time import now, settle
from waygate_mcp.config.document import Document
from waygate_mcp.errors import UnauthenticatedError
from waygate_mcp.gateway.gateway import CallLimits, EndpointPlan, Gateway
from waygate_mcp.gateway.live import LiveState
from waygate_mcp.gateway.places import ALONE, Place
from waygate_mcp.gateway.steps.authorize import authorize
from waygate_mcp.gateway.steps.observe import Observe
from waygate_mcp.model.event import Event
from waygate_mcp.model.ports import Provider
from waygate_mcp.model.principal import ANONYMOUS, Principal
from waygate_mcp.protocol.framing import SseDecoder
from waygate_mcp.protocol.seal import KeyRing
from waygate_mcp.runtime.generation import CallsInFlight
from waygate_mcp.runtime.tasks import TaskSupervisor
from waygate_mcp.telemetry.logs import RequestRecord
from waygate_mcp.telemetry.metrics import Metrics
from waygate_mcp.web.forward import PeerDoor
from waygate_mcp.web.guard import Guard
from waygate_mcp.web.mcp import McpDoor
from waygate_mcp.web.sse import SseDoor

SERVER_INFO = {"name": "waygate-mcp", "version": "0"}
EPOCH = 1_800_000_000.0
ALL = frozenset({"*"})
FORM: dict[str, Any] = {"elicitation": {"form": {}}}
EVERYTHING: dict[str, Any] = {
    "elicitation": {"form": {}, "url": {}},
    "sampling": {"tools": {}},
    "roots": {},
}
VERSION = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
LOG_LEVEL = "io.modelcontextprotocol/logLevel"
_JSON = b"application/json"
_ACCEPT = b"application/json, text/event-stream"
_WAIT_S = 3_000.0  # of virtual time


def ring() -> KeyRing:
    """A key ring every process of a test shares."""
    return KeyRing.from_master(b"m" * 32)


def person(name: str, *permissions: str) -> Principal:
    """Somebody with permissions, all of them where none is named."""
    return Principal(f"key:{name}", name.title(), frozenset(permissions) or ALL)


class _Doorman:
    """`Authorization: Bearer alice` is Alice; nobody is anonymous; `stranger` is refused."""

    def __init__(self) -> None:
        self.known: dict[str, Principal] = {}

    def authenticate(self, headers: Mapping[bytes, bytes]) -> Principal:
        given = headers.get(b"authorization")
        if given is None:
            return ANONYMOUS
        name = given.decode().removeprefix("Bearer ")
        if name == "stranger":
            raise UnauthenticatedError
        return self.known.get(name) or person(name)


class Desk:
    """A house in memory: everything a door asks for. `async with` ends its tasks.

    Without `plans` all providers are bound to the endpoint `default`.
    """

    def __init__(
        self,
        *providers: Provider,
        plans: Sequence[EndpointPlan] = (),
        limits: CallLimits | None = None,
        document: Mapping[str, Any] | None = None,
        max_request_size: int = 1024 * 1024,
        place: Place = ALONE,
    ) -> None:
        self.metrics = Metrics()
        self.supervisor = TaskSupervisor(close_s=1.0)
        self.records: list[RequestRecord] = []
        self.request_log = SimpleNamespace(write=self.records.append)
        self.settings = SimpleNamespace(max_request_size=max_request_size)
        self.peers: Any = None
        self.on_dismiss: list[Any] = []
        self.is_draining = False
        self.place = place
        self.live = live_state(place)
        self.calls = CallsInFlight()
        self.doorman = _Doorman()
        self.refusals: Counter[str] = Counter()
        self.document = Document.model_validate({"version": 1, **(document or {})})
        self.put_in_force(plans or [EndpointPlan("default", providers)], limits or CallLimits())
        self.door = McpDoor(self)  # type: ignore[arg-type]
        self.sse_door = SseDoor(self)  # type: ignore[arg-type]
        self.peer_door = PeerDoor(self, self.door, self.sse_door)  # type: ignore[arg-type]

    def put_in_force(self, plans: Sequence[EndpointPlan], limits: CallLimits) -> None:
        """Build a generation and let it serve from now on."""
        self.gateway = Gateway(
            plans, self.live, (Observe(self.metrics), authorize), limits, SERVER_INFO
        )
        self.live.hub.route_by(self.gateway.binds, self.gateway.public_uri)
        guard = Guard(self.document.server, self.doorman, self._note_refusal)
        self.generation = SimpleNamespace(
            guard=guard,
            gateway=self.gateway,
            document=self.document,
            calls=self.calls,
            in_use=lambda: self.calls,
        )

    def _note_refusal(self, reason: str) -> None:
        self.refusals[reason] += 1

    def current(self) -> Any:
        """The generation in force."""
        return self.generation

    def announce(self, event: Event) -> None:
        """Let a provider tell of a change."""
        self.gateway.announce(event)

    def restart(self) -> None:
        """Lose everything a process holds in memory; the keys stay."""
        plans = [
            EndpointPlan(name, tuple(b.provider for b in endpoint.catalog.bindings))
            for name, endpoint in self.gateway.endpoints.items()
        ]
        self.live = live_state(self.place)
        self.put_in_force(plans, self.gateway.limits)

    def measured(self, name: str) -> dict[str, float]:
        """The samples of one metric, by their label text."""
        found: dict[str, float] = {}
        for line in self.metrics.render()[0].decode().splitlines():
            if line.startswith(name + "{"):
                labels, _, value = line[len(name) :].rpartition(" ")
                found[labels] = float(value)
        return found

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.live.close()
        await settle()
        await self.supervisor.close()


def live_state(place: Place = ALONE) -> LiveState:
    """Live state on the running loop's clock."""
    return LiveState(ring(), lambda: EPOCH + now(), now, place=place)


class Response:
    """One response, as it comes. `events` are the messages of its stream so far."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.events: list[Any] = []
        self.ids: list[str | None] = []
        self.primed: list[str | None] = []
        self.comments = 0
        self.address = ""
        self.is_over = False
        self._decoder = SseDecoder(64 * 1024 * 1024)
        self._news = asyncio.Event()
        self._read = 0

    def take(self, message: Mapping[str, Any]) -> None:
        """Take what the application sends."""
        assert not self.is_over, f"sent after the end: {message}"
        if message["type"] == "http.response.start":
            assert self.status is None, "a response begun twice"
            self.status = message["status"]
            self.headers = dict(message["headers"])
        else:
            assert self.status is not None, "a body before its head"
            self._take_body(message.get("body", b""))
            self.is_over = not message.get("more_body", False)
        self._news.set()

    def _take_body(self, chunk: bytes) -> None:
        self.body += chunk
        if not self.is_stream:
            return
        self.comments += chunk.startswith(b":")
        for event in self._decoder.feed(chunk):
            if event.event == "endpoint":  # of the old transport: an address, no message
                self.address = (event.data or b"").decode()
            elif event.data:
                self.events.append(json.loads(event.data))
                self.ids.append(event.id)
            else:
                self.primed.append(event.id)

    @property
    def is_stream(self) -> bool:
        """Whether it is an event stream."""
        return self.headers.get(b"content-type", b"").startswith(b"text/event-stream")

    @property
    def final(self) -> Any:
        """The last message: of the stream, or the body."""
        return self.events[-1] if self.is_stream else json.loads(self.body)

    @property
    def result(self) -> Any:
        """The result of the final message."""
        assert "result" in self.final, self.final
        return self.final["result"]

    @property
    def error(self) -> Any:
        """The error of the final message."""
        assert "error" in self.final, self.final
        return self.final["error"]

    @property
    def words(self) -> str:
        """The first text block of a tool's result."""
        return str(self.result["content"][0]["text"])

    async def when(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(_WAIT_S):
            while not is_so():
                self._news.clear()
                await self._news.wait()

    async def over(self) -> Self:
        """Wait for its end."""
        await self.when(lambda: self.is_over)
        return self

    async def next_event(self) -> Any:
        """Wait for the next message of the stream that was not read yet."""
        self._read += 1
        await self.when(lambda: len(self.events) >= self._read)
        return self.events[self._read - 1]


class Request:
    """One request under way: its response, and a client that may leave."""

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        scope: dict[str, Any],
        parts: Sequence[bytes],
        *,
        stalls: bool = False,
    ) -> None:
        self.response = Response()
        self.is_gone = False
        self.may_send = asyncio.Event()
        self.may_send.set()
        self.slowness = 0
        """How many steps of the loop each message takes on its way."""
        self._stalls = stalls
        self._parts = list(parts)
        self._wake = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(
            self._run(app, scope), name=f"{scope['method']} {scope['path']}"
        )

    async def _run(self, app: Callable[..., Awaitable[None]], scope: dict[str, Any]) -> None:
        await app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if self._parts:
            part = self._parts.pop(0)
            more = bool(self._parts) or self._stalls
            return {"type": "http.request", "body": part, "more_body": more}
        while not self.is_gone and not self.response.is_over:
            self._wake.clear()
            await self._wake.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Mapping[str, Any]) -> None:
        await self.may_send.wait()
        await settle(self.slowness)
        if self.is_gone:
            return
        self.response.take(message)
        if self.response.is_over:
            self._wake.set()

    def leave(self) -> None:
        """Close the connection: nothing more is read."""
        self.is_gone = True
        self._wake.set()

    async def over(self) -> Response:
        """Wait for the end of the response, and see a failure of the application."""
        over = asyncio.get_running_loop().create_task(self.response.over())
        try:
            async with asyncio.timeout(_WAIT_S):
                await asyncio.wait({over, self.task}, return_when=asyncio.FIRST_COMPLETED)
            if self.task.done():
                self.task.result()
            assert self.response.is_over, "the application returned without a whole response"
        finally:
            over.cancel()
        return self.response

    async def done(self) -> Response:
        """Wait until the application has returned."""
        async with asyncio.timeout(_WAIT_S):
            await self.task
        return self.response


class Visitor:
    """A client of one door. `name` is who it says it is, `endpoint` where it goes."""

    def __init__(
        self,
        door: McpDoor,
        name: str | None = None,
        *,
        endpoint: str = "default",
        **capabilities: Any,
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self.capabilities = capabilities or EVERYTHING
        self.revision = ""
        self.session: str | None = None
        self._door = door
        self._ids = itertools.count(1)

    # --- plain HTTP

    def send(
        self,
        body: Any = b"",
        headers: Iterable[tuple[bytes, bytes]] = (),
        *,
        method: str = "POST",
        without: Sequence[bytes] = (),
        parts: Sequence[bytes] = (),
        stalls: bool = False,
    ) -> Request:
        """Begin a request; `headers` replace the usual ones, `without` takes some away."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        usual = {b"host": b"localhost", b"content-type": _JSON, b"accept": _ACCEPT}
        if self.name is not None:
            usual[b"authorization"] = f"Bearer {self.name}".encode()
        usual.update(headers)
        scope = {
            "type": "http",
            "method": method,
            "path": "/mcp",
            "headers": [pair for pair in usual.items() if pair[0] not in without],
            "client": ("127.0.0.1", 1),
        }
        door, endpoint = self._door, self.endpoint

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await door(scope, receive, send, endpoint)

        return Request(app, scope, parts or [raw], stalls=stalls)

    async def post(self, body: Any, headers: Iterable[tuple[bytes, bytes]] = ()) -> Response:
        """Post a body and read the whole answer."""
        return await self.send(body, headers).over()

    # --- modern

    def begin(
        self,
        method: str,
        *,
        id: str | int | None = None,
        token: str | int | None = None,
        level: str | None = None,
        headers: Iterable[tuple[bytes, bytes]] = (),
        capabilities: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> Request:
        """Begin a modern request."""
        meta: dict[str, Any] = {
            VERSION: "2026-07-28",
            CAPABILITIES: self.capabilities if capabilities is None else capabilities,
        }
        if token is not None:
            meta["progressToken"] = token
        if level is not None:
            meta[LOG_LEVEL] = level
        own = [(b"mcp-protocol-version", b"2026-07-28"), (b"mcp-method", method.encode())]
        name = params.get("uri") if method.startswith("resources/") else params.get("name")
        if name is not None:
            own.append((b"mcp-name", str(name).encode()))
        message = {
            "jsonrpc": "2.0",
            "id": next(self._ids) if id is None else id,
            "method": method,
            "params": {**params, "_meta": {**meta, **params.get("_meta", {})}},
        }
        return self.send(message, (*own, *headers))

    async def modern(self, method: str, **given: Any) -> Response:
        """Make a modern request and read the whole answer."""
        return await self.begin(method, **given).over()

    def retry(self, asked: Response, answers: Mapping[str, Any] | None, **given: Any) -> Request:
        """Begin the retry of a `tools/call` that was answered `input_required`."""
        result = asked.result
        if "requestState" in result:
            given.setdefault("requestState", result["requestState"])
        if answers is not None:
            given["inputResponses"] = answers
        return self.begin("tools/call", **given)

    # --- legacy

    async def open(self, revision: str = "2025-11-25") -> Response:
        """Open a session and say that it is."""
        params = {
            "protocolVersion": revision,
            "capabilities": self.capabilities,
            "clientInfo": {"name": "visitor", "version": "1"},
        }
        response = await self.post(
            {"jsonrpc": "2.0", "id": "init", "method": "initialize", "params": params}
        )
        if b"mcp-session-id" in response.headers:
            self.session = response.headers[b"mcp-session-id"].decode()
            self.revision = revision
            await self.tell("notifications/initialized")
        return response

    @property
    def session_headers(self) -> list[tuple[bytes, bytes]]:
        """What names the session."""
        assert self.session is not None
        return [
            (b"mcp-session-id", self.session.encode()),
            (b"mcp-protocol-version", self.revision.encode()),
        ]

    def say(
        self,
        method: str,
        *,
        id: str | int | None = None,
        token: str | int | None = None,
        **params: Any,
    ) -> Request:
        """Begin a request of the session."""
        if token is not None:
            params["_meta"] = {"progressToken": token}
        message = {
            "jsonrpc": "2.0",
            "id": next(self._ids) if id is None else id,
            "method": method,
            "params": params,
        }
        return self.send(message, self.session_headers)

    async def legacy(self, method: str, **given: Any) -> Response:
        """Make a request of the session and read the whole answer."""
        return await self.say(method, **given).over()

    async def tell(self, method: str, **params: Any) -> Response:
        """Send a notification of the session."""
        return await self.post(
            {"jsonrpc": "2.0", "method": method, "params": params}, self.session_headers
        )

    async def answer(
        self, question: Mapping[str, Any], result: Any = None, **more: Any
    ) -> Response:
        """Answer a request of the server."""
        body = {"jsonrpc": "2.0", "id": question["id"], **({"result": result} if result else more)}
        return await self.post(body, self.session_headers)

    def listen(self, last: str | None = None) -> Request:
        """Open the session's own stream, or come back to one."""
        more = [(b"last-event-id", last.encode())] if last is not None else []
        return self.send(b"", [*self.session_headers, *more], method="GET")

    async def end(self) -> Response:
        """End the session."""
        return await self.send(b"", self.session_headers, method="DELETE").over()


def accepted(**content: Any) -> dict[str, Any]:
    """The answer of a person who filled in a form."""
    return {"action": "accept", "content": content}
