"""A request that another worker holds the other end of: sent there, and taken there.

Knows both sides of the socket between two workers. Going out: which headers go along, and that the first
worker stays with its client, so that a disconnect travels on and a slow reader is waited for. Coming in:
who called is read from a passport the first worker sealed, never from a header of a client; a request
that came this way goes no further. Refuses to know what a request asks.
Spec: protocol.md 8; threat model rules 4, 6 and 18.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from waygate_mcp.errors import (
    InterruptedCallError,
    LimitError,
    LocalProtocolError,
    TooLargeError,
    UpstreamError,
    UpstreamUnavailableError,
)
from waygate_mcp.gateway.places import OwnedElsewhereError
from waygate_mcp.gateway.sessions import Session
from waygate_mcp.model.permissions import Grant, Narrowing
from waygate_mcp.model.principal import Principal
from waygate_mcp.net.http import HttpExchange, HttpResponse, media_type, read_body
from waygate_mcp.protocol.failures import describe_failure
from waygate_mcp.protocol.framing import encode_event
from waygate_mcp.protocol.jsonrpc import Message, MessageShape
from waygate_mcp.protocol.seal import SealError
from waygate_mcp.protocol.versions import MODERN
from waygate_mcp.runtime.peers import NEWS_PATH
from waygate_mcp.telemetry.logs import get_logger
from waygate_mcp.web.answers import busy
from waygate_mcp.web.body import BODY_TIMEOUT_S
from waygate_mcp.web.body import read_body as read_request
from waygate_mcp.web.problems import Refused
from waygate_mcp.web.visit import Receive, Scope, Send, Visit

if TYPE_CHECKING:  # the house builds the door
    from waygate_mcp.runtime.house import House
    from waygate_mcp.web.guard import Guard
    from waygate_mcp.web.mcp import McpDoor
    from waygate_mcp.web.sse import SseDoor

__all__ = ["PASSPORT", "ForwardedVisit", "PeerDoor", "find_session", "forward"]

_log = get_logger("web.forward")

PASSPORT = b"x-waygate-passport"
_PURPOSE = "passport"
_SENT = frozenset({"accept", "content-type", "last-event-id", "traceparent", "tracestate"})
_TOLD = ("content-type", "mcp-session-id", "retry-after", "allow", "cache-control")
_MAX_ANSWER_BYTES = 256 * 1024 * 1024
_MAX_NEWS_BYTES = 128 * 1024
_LEAVE_S = 1.0
_LOST = "The worker that served this stopped; the outcome is unknown."


class _Bearer(msgspec.Struct, frozen=True, array_like=True):
    """A principal with all that restricts it: what is left out here would be permitted there."""

    id: str
    name: str
    permissions: tuple[str, ...]
    roles: tuple[str, ...]
    grants: tuple[Grant, ...] | None
    narrowing: Narrowing | None
    limits: tuple[str, ...]

    def principal(self) -> Principal:
        """Give the principal it was made of."""
        return Principal(
            self.id,
            self.name,
            frozenset(self.permissions),
            self.roles,
            self.grants,
            self.narrowing,
            self.limits,
        )


class _Passport(msgspec.Struct, frozen=True, array_like=True):
    """Who called, as the first worker found out, and under which request id."""

    request_id: str
    endpoint: str
    door: Literal["http", "sse"]
    principal: _Bearer
    client: str | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Passport).decode


# --- going out


async def find_session(
    house: House[Guard], visit: Visit, token: str, message: Message, body: bytes
) -> Session | None:
    """Find the session of a request that may belong to another worker; there, it is answered there.

    None with a visit that has begun: it was answered. None without: there is no such session. An answer
    of the client goes to the worker that asked, all else to the session's own; where that is gone, to the
    first one after it that is there.

    Raises:
        RateLimitedError: see `Sessions.find`.
    """
    sessions, place = house.live.sessions, house.live.place
    asked_by = place.slot_in(message.id) if message.shape == MessageShape.RESPONSE else None
    here = visit.is_forwarded or asked_by == place.slot
    asker = () if here or asked_by is None else (asked_by,)
    if await forward(house, visit, asker, body, message):
        return None
    try:
        return sessions.find(token, visit.endpoint, visit.principal, here=here)
    except OwnedElsewhereError as owner:
        if await forward(house, visit, place.heirs(owner.slot), body, message):
            return None
    return sessions.find(token, visit.endpoint, visit.principal, here=True)


async def forward(
    house: House[Guard],
    visit: Visit,
    slots: Sequence[int],
    body: bytes,
    message: Message | None = None,
) -> bool:
    """Have a request answered by the first worker of `slots` that is there; False where none is.

    Where it dies on the way, a request of the client gets an error, since nobody knows its outcome.
    """
    peers = house.peers
    if peers is None or visit.is_forwarded:
        return False
    for slot in slots:
        carrier = _Carrier(visit, message)
        carrying = carrier.carry(peers.way_to(slot), _headers_of(house, visit), body)
        try:
            await _while_connected(house, visit, carrying)
        except LimitError:  # too many tasks, or the server stops
            await busy(visit, "The server has no room for this now.")
            return True
        if not carrier.is_unavailable:
            visit.abandon()  # where the client was gone before it was answered
            return True
        if peers.is_there(slot):
            await busy(visit, "The worker that serves this has no room for it now.")
            return True
    return False


async def _while_connected(
    house: House[Guard], visit: Visit, work: Coroutine[Any, Any, None]
) -> None:
    """Let `work` write to the visit until it is done or the client is gone."""
    start = house.supervisor.start
    working = start(work, name="forward")
    tasks = [working]
    try:
        # What a GET opens is a stream, which ends with the token that opened it.
        is_stream = visit.scope["method"] == "GET"
        over = visit.until_over() if is_stream else visit.until_disconnect()
        tasks.append(start(over, name="forward-watch"))
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # A client that is gone leaves the other worker's door as well.
        for task in tasks:
            task.cancel()
    await asyncio.wait((working,), timeout=_LEAVE_S)


def _headers_of(house: House[Guard], visit: Visit) -> list[tuple[str, str]]:
    """Choose the headers that go along. Credentials stay here: they were looked at."""
    principal = visit.principal
    client = visit.scope.get("client")
    passport = _Passport(
        visit.request_id,
        visit.endpoint,
        "sse" if visit.door == "sse" else "http",
        _Bearer(
            principal.id,
            principal.name,
            tuple(sorted(principal.permissions)),
            principal.roles,
            principal.grants,
            principal.narrowing,
            principal.limits,
        ),
        client[0] if client else None,
    )
    headers = [(PASSPORT.decode(), house.live.ring.seal(_encode(passport), _PURPOSE))]
    for raw_name, raw_value in visit.headers.items():
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        is_sent = name in _SENT or name.startswith("mcp-")
        if is_sent and value.isascii() and value.isprintable():
            headers.append((name, value))
    return headers


class _Carrier:
    """Carries one request to another worker and its answer back."""

    def __init__(self, visit: Visit, message: Message | None) -> None:
        self.is_unavailable = False
        self._visit = visit
        self._message = message

    async def carry(self, way: HttpExchange, headers: list[tuple[str, str]], body: bytes) -> None:
        """Send, and answer the client with what comes back; errors become answers here."""
        visit = self._visit
        visit.outcome = "forwarded"
        path = visit.scope["path"] if visit.door == "sse" else "/mcp"
        try:
            async with way.request(visit.scope["method"], path, headers, body) as response:
                await self._relay(response)
        except UpstreamUnavailableError as exc:
            self.is_unavailable = True  # nothing was sent
            _log.debug("worker_unavailable", reason=str(exc))
        except (UpstreamError, LocalProtocolError, TooLargeError) as exc:
            _log.warning("forwarding_failed", reason=str(exc), request_id=visit.request_id)
            await self._apologise()

    async def _relay(self, response: HttpResponse) -> None:
        """Pass on a stream as it comes, and any other answer once it is whole."""
        visit = self._visit
        if media_type(response) == "text/event-stream":
            await visit.begin_stream()
            async for chunk in response.chunks():
                await visit.write(chunk)
            await visit.end()
            return
        body = await read_body(response, _MAX_ANSWER_BYTES)
        told = tuple(
            (name.encode(), value.encode("latin-1"))
            for name in _TOLD
            if (value := response.headers.get(name)) is not None
        )
        await visit.answer(response.status, body, told)

    async def _apologise(self) -> None:
        """Say that the other worker is lost, in the form the answer has by now."""
        visit, message = self._visit, self._message
        if message is None or message.shape != MessageShape.REQUEST:
            if visit.is_begun:
                await visit.end()
            else:
                await busy(visit, _LOST)
            return
        error = InterruptedCallError(safe_message=_LOST)
        visit.outcome = error.code
        words = describe_failure(error, MODERN).encode(message.id)
        if visit.is_begun:
            await visit.write(encode_event(words))
            await visit.end()
        else:
            await visit.answer(200, words)


# --- coming in


class ForwardedVisit(Visit):
    """A request another worker took: that one counts it, this one only logs what became of it."""

    __slots__ = ()
    is_forwarded: ClassVar[bool] = True


class PeerDoor:
    """The ASGI application behind the socket other workers know."""

    def __init__(self, house: House[Guard], mcp: McpDoor, sse: SseDoor) -> None:
        self._house = house
        self._mcp = mcp
        self._sse = sse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what a worker sends; anybody else has no passport and gets 403."""
        headers = dict(scope["headers"])
        sealed = headers.pop(PASSPORT, None)
        if scope["path"] == NEWS_PATH:
            await self._take_news(headers, receive, send)
            return
        passport = None if sealed is None else self._read(sealed)
        if passport is None:
            await _say(send, 403)
            return
        scope["client"] = None if passport.client is None else (passport.client, 0)
        visit = ForwardedVisit(self._house, scope, receive, send)
        visit.door = "worker"
        visit.headers = headers
        visit.request_id = passport.request_id
        visit.endpoint = passport.endpoint
        visit.principal = passport.principal.principal()
        if passport.door == "sse":
            await self._sse(scope, receive, send, visit)
        else:
            await self._mcp(scope, receive, send, passport.endpoint, visit)

    def _read(self, sealed: bytes) -> _Passport | None:
        try:
            return _decode(self._house.live.ring.open(sealed.decode("latin-1"), _PURPOSE))
        except (SealError, msgspec.DecodeError):
            return None

    async def _take_news(self, headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        try:
            body = await read_request(receive, _MAX_NEWS_BYTES, BODY_TIMEOUT_S, headers)
        except Refused as refused:
            await _say(send, refused.status)
            return
        peers = self._house.peers
        await _say(send, 202 if peers is not None and peers.take(body) else 403)


async def _say(send: Send, status: int) -> None:
    """Answer without a word."""
    head = {"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]}
    await send(head)
    await send({"type": "http.response.body", "body": b""})
