"""Exchanges without a door: calls whose handler a test writes, and fronts that remember.

scene = Scene()
running = scene.begin(handler, token="t")
final = await running.front.over()
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tests.support.dialogues import EVERYTHING, SERVER_INFO, live_state, person
from tests.support.virtual_time import now
from waygate_mcp.gateway.exchange import Exchange
from waygate_mcp.gateway.legacy_exchange import LegacyExchange
from waygate_mcp.gateway.modern_exchange import ModernExchange, ParkingPlace, Retry
from waygate_mcp.gateway.parking import ParkingLimits
from waygate_mcp.gateway.sessions import Session
from waygate_mcp.model.call import Call, Outcome
from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.handshake import Hello
from waygate_mcp.protocol.jsonrpc import Message, MessageShape
from waygate_mcp.protocol.stateless import server_info_meta
from waygate_mcp.protocol.versions import LATEST_LEGACY, MODERN, REVISIONS

ALICE = person("alice")
BOB = person("bob")
Handler = Callable[[Call], Awaitable[Outcome]]


def capabilities(declared: Mapping[str, Any], revision: str = MODERN.text) -> ClientCapabilities:
    """Capabilities as a client of a revision declares them."""
    return ClientCapabilities.parse(declared, REVISIONS[revision])


class Front:
    """Remembers what it was given to carry. Fails where anything follows the end."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.finals: list[tuple[Any, int]] = []
        self.closed = 0
        self._news = asyncio.Event()

    async def send(self, message: bytes) -> None:
        assert not self.finals, f"an event after the final message: {message!r}"
        self.events.append(json.loads(message))
        self._news.set()

    async def finish(self, message: bytes | None, status: int = 200) -> None:
        assert not self.finals, "finished twice"
        self.finals.append((None if message is None else json.loads(message), status))
        self._news.set()

    async def close_stream(self) -> None:
        self.closed += 1

    async def over(self) -> Any:
        """Wait for the final message."""
        while not self.finals:
            self._news.clear()
            await self._news.wait()
        return self.finals[0][0]

    async def event(self, number: int) -> Any:
        """Wait for the event of that number, from 1."""
        while len(self.events) < number:
            self._news.clear()
            await self._news.wait()
        return self.events[number - 1]

    @property
    def status(self) -> int:
        """The status the final message came with."""
        return self.finals[0][1]


class Running:
    """An exchange under way in a task of its own."""

    def __init__(self, exchange: Any, front: Front, handler: Handler) -> None:
        self.exchange = exchange
        self.front = front
        self.task = asyncio.get_running_loop().create_task(exchange.run(handler))

    async def retry(
        self,
        answers: Mapping[str, Any] | None = None,
        *,
        of_round: int | None = None,
        identifier: str | int = "retry",
        token: str | int | None = None,
        level: str | None = None,
        declared: Mapping[str, Any] = EVERYTHING,
    ) -> Front | None:
        """Attach a retry of the present round; None where it was not taken."""
        front = Front()
        retry = Retry(
            identifier,
            self.exchange.round if of_round is None else of_round,
            {key: json.dumps(answer).encode() for key, answer in (answers or {}).items()},
            token,
            level,
            capabilities(declared),
        )
        return front if await self.exchange.attach(front, retry) else None


class Scene:
    """A parking place and live state, where exchanges of both eras can be begun."""

    def __init__(self, limits: ParkingLimits | None = None) -> None:
        self.live = live_state()
        self.place = ParkingPlace(
            self.live.parking,
            self.live.tickets,
            limits or ParkingLimits(),
            server_info_meta(SERVER_INFO),
        )

    def begin(
        self,
        handler: Handler,
        *,
        identifier: str | int = 1,
        token: str | int | None = None,
        level: str | None = None,
        declared: Mapping[str, Any] = EVERYTHING,
        principal: Principal = ALICE,
        method: str = "tools/call",
        **params: Any,
    ) -> Running:
        """Begin a modern call."""
        front = Front()
        exchange = ModernExchange(identifier, front, self.place, level, token)
        call = call_of(exchange, method, principal, params)
        call.capabilities = capabilities(declared)
        return Running(exchange, front, handler)

    def session(
        self,
        revision: str = LATEST_LEGACY.text,
        *,
        declared: Mapping[str, Any] = EVERYTHING,
        principal: Principal = ALICE,
    ) -> Session:
        """Open a legacy session."""
        hello = Hello(REVISIONS[revision], capabilities(declared, revision), "test")
        return self.live.sessions.open(hello, "default", principal)

    def begin_legacy(
        self,
        handler: Handler,
        session: Session | None = None,
        *,
        identifier: str | int = 1,
        token: str | int | None = None,
        method: str = "tools/call",
        question_s: float = 600.0,
        **params: Any,
    ) -> Running:
        """Begin a call of a session."""
        session = session or self.session()
        front = Front()
        exchange = LegacyExchange(identifier, session, front, token, question_s)
        call = call_of(exchange, method, session.principal, params)
        call.revision, call.capabilities = session.revision, session.capabilities
        session.calls[identifier] = exchange
        return Running(exchange, front, handler)


def call_of(
    exchange: Exchange, method: str, principal: Principal, params: Mapping[str, Any]
) -> Call:
    """Give an exchange its call."""
    exchange.call = Call(
        request_id="r-1",
        endpoint="default",
        method=method,
        name=str(params.get("name", "tool")),
        params=dict(params),
        body=b"",
        principal=principal,
        revision=MODERN,
        capabilities=capabilities({}),
        caller=exchange,
        deadline_s=now() + 300,
    )
    return exchange.call


def respond(
    session: Session, question: Mapping[str, Any], result: Any = None, **error: Any
) -> bool:
    """Answer a request of ours as the session's client."""
    message = Message(MessageShape.RESPONSE, question["id"], result=result, error=error or None)
    body = json.dumps({"jsonrpc": "2.0", "id": question["id"], "result": result}).encode()
    return session.answer(message, b"" if error else body)
