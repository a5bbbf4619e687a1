"""Legacy sessions. The session id is a sealed token that says all a node needs to serve it.

Knows what a session is bound to (endpoint, revision, capabilities, principal) and its small state:
log level, subscriptions, calls and questions under way, streams. Refuses to know HTTP.
Spec: 2025-11-25 basic/transports, "Session Management"; protocol.md 8.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from waygate_mcp.errors import RateLimitedError, WaygateError
from waygate_mcp.gateway.hub import Hub, Listener
from waygate_mcp.gateway.places import ALONE, OwnedElsewhereError, Place
from waygate_mcp.gateway.stream_buffer import (
    Shelf,
    StreamBuffer,
    StreamLimits,
    parse_event_id,
)
from waygate_mcp.model.call import Answer
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.handshake import Hello
from waygate_mcp.protocol.jsonrpc import Message, encode_json, raw_error_data, raw_result
from waygate_mcp.protocol.seal import KeyRing, SealError
from waygate_mcp.protocol.versions import REVISIONS, Revision

if TYPE_CHECKING:  # the exchange knows its session, and the session its exchanges
    from waygate_mcp.gateway.exchange import Exchange

__all__ = ["Reader", "Session", "SessionLimits", "Sessions"]

_PURPOSE = "session"
_MAX_STREAMS = 64
_MAX_SUBSCRIPTIONS = 1_000
_STANDING, _CALL = "s", "c"  # how the ids of the two kinds of streams begin
_encode = msgspec.msgpack.Encoder().encode


class SessionLimits(msgspec.Struct, frozen=True):
    """How many sessions one process keeps in memory, and how long an idle one."""

    count: int = 10_000
    idle_s: float = 3_600.0
    life_s: float = 86_400.0


class _Claims(msgspec.Struct, frozen=True, array_like=True):
    """What the token says. `expires_at` is in seconds since 1970, `slot` the worker that gave it."""

    session: str
    endpoint: str
    revision: str
    bits: int
    extensions: tuple[str, ...]
    fingerprint: bytes
    expires_at: int
    client_name: str
    slot: int = 0


_decode = msgspec.msgpack.Decoder(_Claims).decode


class Reader:
    """Whoever reads a session's own stream. `on_replaced` is called when a newer one takes over."""

    def __init__(self) -> None:
        self.on_replaced: Callable[[], object] | None = None


class Session:
    """One legacy client between `initialize` and its end.

    `token` is its id on the wire, None on standard input. All of its state may be lost with the
    process except what the token says; the defaults then apply. `slot` is the worker that opened it, and
    `is_ours` says whether it is this one's to serve, or is merely looked after while that one is gone.
    """

    def __init__(
        self,
        claims: _Claims,
        token: str | None,
        principal: Principal,
        stream_limits: StreamLimits,
        shelf: Shelf,
    ) -> None:
        self.id = claims.session
        self.token = token
        self.endpoint = claims.endpoint
        self.revision: Revision = REVISIONS[claims.revision]
        self.capabilities = ClientCapabilities(claims.bits, claims.extensions)
        self.client_name = claims.client_name
        self.principal = principal
        self.fingerprint = claims.fingerprint
        self.expires_at = claims.expires_at
        self.slot = claims.slot
        self.place = ALONE
        self.is_ours = True
        self.is_over = False
        self.log_level: str = "info"
        self.used_s = 0.0
        self.listener = Listener(claims.endpoint, principal, frozenset(Kind), claims.session)
        self.calls: dict[str | int, Exchange] = {}
        self.questions: dict[str | int, asyncio.Future[Answer]] = {}
        self.standing_stream: StreamBuffer | None = None
        self._reader: Reader | None = None
        self._streams: dict[str, StreamBuffer] = {}
        self._stream_limits = stream_limits
        self._shelf = shelf

    @property
    def is_busy(self) -> bool:
        """Tell whether somebody reads from it or a call is under way."""
        return bool(self._reader or self.calls)

    def take_over_reading(self) -> Reader:
        """Become the one reader of what the session is due; whoever was before is told.

        Spec: each message goes on one stream only (2025-11-25 basic/transports).
        """
        before, self._reader = self._reader, Reader()
        if before is not None and before.on_replaced is not None:
            before.on_replaced()
        return self._reader

    def dismiss_reader(self) -> None:
        """Let whoever reads come back, to another worker perhaps."""
        if self._reader is not None and self._reader.on_replaced is not None:
            self._reader.on_replaced()

    def stop_reading(self, reader: Reader) -> None:
        """Read no more, unless a newer reader has taken over already."""
        if self._reader is reader:
            self._reader = None

    def stand(self, now_s: float) -> StreamBuffer:
        """Give the session's own stream, which lasts as long as the session."""
        if self.standing_stream is None:
            self.standing_stream = self.open_stream(now_s, _STANDING)
        return self.standing_stream

    def subscribe(self, uri: str) -> None:
        """Want to hear of changes of the resource with this public URI.

        Raises:
            RateLimitedError: more subscriptions than one session may have.
        """
        if len(self.listener.uris) >= _MAX_SUBSCRIPTIONS and uri not in self.listener.uris:
            raise RateLimitedError(
                60,
                "too many subscriptions",
                limit="subscriptions",
                safe_message=f"A session may subscribe to {_MAX_SUBSCRIPTIONS} resources.",
            )
        self.listener.uris.add(uri)

    def open_stream(self, now_s: float, kind: str = _CALL) -> StreamBuffer:
        """Start a resumable stream; the oldest finished ones make room.

        Those of calls under way stay, however many: their events are kept by the calls anyway.
        """
        for stream_id, stream in tuple(self._streams.items()):
            crowded = len(self._streams) >= _MAX_STREAMS and not stream.is_attached
            if stream.is_stale(now_s) or (crowded and stream.is_complete):
                del self._streams[stream_id]
        stream = StreamBuffer(kind + os.urandom(9).hex(), self._stream_limits, self._shelf)
        stream.touched_s = now_s
        self._streams[stream.stream_id] = stream
        return stream

    def find_stream(self, event_id: str) -> tuple[StreamBuffer, int] | None:
        """Find the stream an event id belongs to, and the event's number."""
        parsed = parse_event_id(event_id)
        stream = self._streams.get(parsed[0]) if parsed else None
        return (stream, parsed[1]) if parsed and stream else None

    @staticmethod
    def is_of_call(event_id: str) -> bool:
        """Tell whether an event id is one of a call's stream, known or forgotten."""
        return event_id.startswith(_CALL)

    def answer(self, message: Message, body: bytes) -> bool:
        """Hand a response of the client to whoever asked; False where nobody did.

        The result is cut from `body` as it was written, where the body is this message alone.
        """
        future = self.questions.pop(message.id, None) if message.id is not None else None
        if future is None or future.done():
            return False
        if message.error is not None:
            text = message.error.get("message")
            words = text if isinstance(text, str) else ""
            data = raw_error_data(body)
            if data is None and "data" in message.error:  # one of a batch
                data = encode_json(message.error["data"])
            answer = Answer(None, message.error["code"], words, data)
        else:
            answer = Answer(raw_result(body) or encode_json(message.result))
        future.set_result(answer)
        return True

    def cancel_call(self, request_id: object, reason: str) -> None:
        """Cancel the call the client sent under `request_id`, if it is under way."""
        if isinstance(request_id, str | int) and not isinstance(request_id, bool):
            exchange = self.calls.get(request_id)
            if exchange is not None:
                exchange.cancel(reason)

    def end_calls(self, reason: str, why: Callable[[], WaygateError]) -> None:
        """End all calls under way; their client is told `why`."""
        for exchange in tuple(self.calls.values()):
            exchange.cancel(reason, why())

    def close(self) -> None:
        """End it: calls are cancelled, streams end."""
        self.listener.close()
        for exchange in tuple(self.calls.values()):
            exchange.cancel("session closed")
        self._streams.clear()


def _nothing(_session: Session) -> None:
    """Hear of a session, and do nothing."""


class Sessions:
    """All legacy sessions this process serves, and the tokens of those it ended.

    `on_end` hears of each session that ended or was forgotten, so that what is held for it elsewhere can go;
    `is_over` says of it that its client ended it, here. `on_roots_changed` hears of each whose client says
    that its roots changed.
    """

    def __init__(
        self,
        ring: KeyRing,
        hub: Hub,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        place: Place = ALONE,
    ) -> None:
        self.limits = SessionLimits()
        self.stream_limits = StreamLimits()
        self.shelf = Shelf()
        self.on_end: Callable[[Session], None] = _nothing
        self.on_roots_changed: Callable[[Session], None] = _nothing
        self._ring = ring
        self._hub = hub
        self._now = now
        self._monotonic = monotonic
        self._place = place
        self._by_token: OrderedDict[str, Session] = OrderedDict()
        self._ended: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        """The number of sessions in memory."""
        return len(self._by_token)

    def open(
        self, hello: Hello, endpoint: str, principal: Principal, *, with_token: bool = True
    ) -> Session:
        """Open a session for a client that said `hello`.

        Raises:
            RateLimitedError: all places are taken by sessions in use.
        """
        claims = _Claims(
            os.urandom(12).hex(),
            endpoint,
            hello.revision.text,
            hello.capabilities.bits,
            hello.capabilities.extensions,
            principal.fingerprint,
            int(self._now() + self.limits.life_s),
            hello.client_name[:100],
            self._place.slot,
        )
        token = self._ring.seal(_encode(claims), _PURPOSE) if with_token else None
        return self._remember(Session(claims, token, principal, self.stream_limits, self.shelf))

    def find(
        self, token: str, endpoint: str, principal: Principal, *, here: bool = False
    ) -> Session | None:
        """Give the session of a token, None for an unknown, ended, expired or foreign one.

        Foreign equals unknown (threat model rule 11). `here` serves one of another worker as well.

        Raises:
            RateLimitedError: it has to be rebuilt from its token, and all places are in use.
            OwnedElsewhereError: it is another worker's.
        """
        session = self._by_token.get(token)
        if session is None:
            return self._revive(token, endpoint, principal, here=here)
        if (
            session.fingerprint != principal.fingerprint
            or session.endpoint != endpoint
            or session.expires_at < self._now()
        ):
            return None
        if not (session.is_ours or here):
            raise OwnedElsewhereError(self._place.owner_of(session.slot))
        session.used_s = self._monotonic()
        session.principal = principal  # the same one, perhaps with other permissions by now
        return session

    def end(self, session: Session) -> None:
        """Forget a session; its token is refused from now on."""
        session.is_over = session.token is not None
        self._let_go(session)
        if session.token is None:
            return
        self._by_token.pop(session.token, None)
        self._note_end(session.id, session.expires_at)

    def end_for(self, principal: Principal, why: Callable[[], WaygateError]) -> None:
        """End the sessions of a principal whose credential is good no more, calls and streams with them.

        Clients are told `why` in answer to their calls.
        """
        for session in tuple(self._by_token.values()):
            if session.fingerprint == principal.fingerprint:
                session.end_calls("the credential is good no more", why)
                session.dismiss_reader()
                self.end(session)

    def end_elsewhere(self, session_id: str, expires_at: int) -> None:
        """Take note that a session was ended at another worker, whoever served it meanwhile."""
        self._note_end(session_id, expires_at)
        for token, session in tuple(self._by_token.items()):
            if session.id == session_id:
                self._let_go(session)
                del self._by_token[token]

    def give_back(self, slot: int) -> None:
        """Let go of the sessions of a worker that is there again.

        Their streams end, so that their clients come back and are served by it. Calls under way stay
        to their end.
        """
        for token, session in tuple(self._by_token.items()):
            if not session.is_ours and self._place.owner_of(session.slot) == slot:
                session.dismiss_reader()
                if not session.calls:
                    self._let_go(session)
                    del self._by_token[token]

    def _note_end(self, session_id: str, expires_at: int) -> None:
        """Refuse a token from now on, for as long as it would be valid."""
        self._ended[session_id] = expires_at
        now = self._now()
        while self._ended and (
            len(self._ended) > self.limits.count or next(iter(self._ended.values())) < now
        ):
            self._ended.popitem(last=False)

    def close(self) -> None:
        """End all, at the end of the process; their tokens stay valid for the next one."""
        for session in tuple(self._by_token.values()):
            session.close()
            self._hub.remove(session.listener)
        self._by_token.clear()

    def _revive(
        self, token: str, endpoint: str, principal: Principal, *, here: bool
    ) -> Session | None:
        """Rebuild a session from its token alone, where it is ours to serve."""
        try:
            claims = _decode(self._ring.open(token, _PURPOSE))
        except (SealError, msgspec.DecodeError):
            return None
        if claims.session in self._ended or claims.fingerprint != principal.fingerprint:
            return None
        if claims.endpoint != endpoint or claims.expires_at < self._now():
            return None
        if claims.revision not in REVISIONS:
            return None
        owner = self._place.owner_of(claims.slot)
        if owner != self._place.slot and not here:
            raise OwnedElsewhereError(owner)
        return self._remember(Session(claims, token, principal, self.stream_limits, self.shelf))

    def _remember(self, session: Session) -> Session:
        """Keep a session in memory, making room where needed."""
        session.used_s = self._monotonic()
        session.place = self._place
        session.is_ours = self._place.owner_of(session.slot) == self._place.slot
        if session.token is not None:
            self._make_room()
            self._by_token[session.token] = session
        self._hub.add(session.listener)
        return session

    def _let_go(self, session: Session) -> None:
        """End what a session holds here, and tell who holds something for it."""
        session.close()
        self._hub.remove(session.listener)
        self.on_end(session)

    def _make_room(self) -> None:
        """Forget idle sessions; a forgotten one is rebuilt from its token when it comes back."""
        idle_before = self._monotonic() - self.limits.idle_s
        is_full = len(self._by_token) >= self.limits.count
        for token, session in tuple(islice(self._by_token.items(), 64 if is_full else 4)):
            if session.is_busy or (session.used_s > idle_before and not is_full):
                self._by_token.move_to_end(token)
                continue
            self._let_go(session)
            del self._by_token[token]
            is_full = len(self._by_token) >= self.limits.count
        if is_full:
            raise RateLimitedError(
                30,
                "all sessions are in use",
                limit="limits.sessions_max",
                safe_message="The server has no room for another session now.",
            )
