"""Many requests on one line: answers found by their id, the rest by whom it concerns.

Knows JSON-RPC messages in both directions of a line, and how much of what is unread is kept. Refuses
to know what the line is made of (a process, an event stream) and who may be asked: the session says
that, by the function given to `attribute`.
Spec: 2026-07-28 basic/transports/stdio; protocol.md 6.4.
"""

from __future__ import annotations

import logging
from asyncio import Future, get_running_loop, timeout
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec

from waygate_mcp.errors import (
    UpstreamProtocolError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
    WaygateError,
)
from waygate_mcp.net.http import Header
from waygate_mcp.net.outbox import Outbox
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.upstreams.channel import Begun, Claim, Incoming, read_incoming, read_plain
from waygate_mcp.upstreams.outside_text import clipped

__all__ = ["Line", "Multiplex"]

_log = logging.getLogger(__name__)
_MAX_UNREAD = 1_024
_MAX_UNREAD_BYTES = 32 * 1024 * 1024
_MAX_NONSENSE = 10_000
_TELL_S = 0.1
_SUBSCRIPTION_KEY = "io.modelcontextprotocol/subscriptionId"


class _Meta(msgspec.Struct, frozen=True, rename={"token": "progressToken"}):
    token: str | int | None = None


class _Params(msgspec.Struct, frozen=True, rename={"meta": "_meta"}):
    meta: _Meta = _Meta()


class _Sent(msgspec.Struct):
    """What is read of a request of ours."""

    id: str
    method: str
    params: _Params = _Params()


class _HeardMeta(msgspec.Struct, frozen=True, rename={"subscription": _SUBSCRIPTION_KEY}):
    subscription: str | int | None = None


class _Heard(msgspec.Struct, rename={"token": "progressToken", "meta": "_meta"}):
    """What is read of a notification to find whom it concerns."""

    token: str | int | None = None
    meta: _HeardMeta = _HeardMeta()


_decode_sent = msgspec.json.Decoder(_Sent).decode
_decode_heard = msgspec.json.Decoder(_Heard).decode


def _token_of(message: bytes) -> str | int | None:
    """Read the progress token of a request of ours, if it has one."""
    return _decode_sent(message).params.meta.token if b'"progressToken"' in message else None


class Line(Protocol):
    """Whatever carries whole messages to an upstream and back."""

    @property
    def is_closed(self) -> bool:
        """Tell whether nothing can be sent any more."""

    def send(self, message: bytes) -> Awaitable[None] | None:
        """Send one message. What it gives is awaited; None where nothing is to be waited for.

        Raises, or the awaiting does:
            UpstreamUnavailableError: it was not sent.
        """

    async def close(self) -> None:
        """End it; returns when nothing of it is left."""


class LineConversation:
    """The messages that answer one request, or that belong to none, as they come."""

    status = 200
    session_id: str | None = None
    last_event_id: str | None = None
    retry_ms: int | None = None

    def __init__(self, token: str | int | None = None, *, is_stream: bool = False) -> None:
        self.token = token
        self.is_stream = is_stream
        self.is_answered = False
        self._unread: deque[tuple[Incoming, int]] = deque()
        self._unread_bytes = 0
        self._failure: WaygateError | None = None
        self._is_over = False
        self._waiter: Future[None] | None = None

    def put(self, incoming: Incoming, size: int) -> bool:
        """Add a message; False where too much is unread already. A response always fits."""
        if not incoming.is_response and (
            len(self._unread) >= _MAX_UNREAD or self._unread_bytes + size > _MAX_UNREAD_BYTES
        ):
            return False
        self._unread.append((incoming, size))
        self._unread_bytes += size
        self._wake()
        return True

    def end(self, failure: WaygateError | None) -> None:
        """Let no more come: what is unread is still given, then the failure is raised."""
        self._is_over = True
        self._failure = failure
        self._wake()

    async def first(self) -> Incoming | None:
        """Wait for the first message, and give it where it is the response; None, it stays to be read."""
        while not self._unread:
            if self._is_over:
                if self._failure is not None:
                    raise self._failure
                return None
            self._waiter = get_running_loop().create_future()
            await self._waiter
        incoming, size = self._unread[0]
        if not incoming.is_response:
            return None
        self._unread.popleft()
        self._unread_bytes -= size
        return incoming

    async def messages(self) -> AsyncIterator[Incoming]:
        """See Conversation."""
        while True:
            while self._unread:
                incoming, size = self._unread.popleft()
                self._unread_bytes -= size
                yield incoming
            if self._is_over:
                if self._failure is not None:
                    raise self._failure
                return
            self._waiter = get_running_loop().create_future()
            await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _nothing() -> None:
    """Hear nothing."""


class Multiplex:
    """One line as a Channel.

    Whoever reads the line gives `take` each message, and `fail` the reason when it ends; `on_break`
    hears of an end nobody asked for, `has_succeeded` says whether any request got a result. With
    `cancels`, a request nobody waits for any more is cancelled at the upstream, as the modern era
    wants it; legacy connectors do so themselves.
    """

    is_single = True

    def __init__(
        self, upstream: str, open_line: Callable[[Multiplex], Awaitable[Line]], *, cancels: bool
    ) -> None:
        self.upstream = upstream
        self.cancels = cancels
        self.has_succeeded = False
        self.on_break: Callable[[], None] = _nothing
        self._open_line = open_line
        self._line: Line | None = None
        self._pending: dict[str, LineConversation] = {}
        self._outbox = Outbox.here()
        self._own = LineConversation()
        self._claim: Claim | None = None
        self._failure: WaygateError | None = None
        self._nonsense = 0
        self._dropped = 0

    async def open(self) -> None:
        """Open the line.

        Raises:
            UpstreamUnavailableError: it cannot be opened.
        """
        self._line = await self._open_line(self)

    @property
    def is_closed(self) -> bool:
        """See Channel."""
        return self._failure is not None or self._line is None or self._line.is_closed

    @property
    def in_flight(self) -> int:
        """The number of requests that wait for their response."""
        return len(self._pending)

    def attribute(self, claim: Claim) -> None:
        """See Channel."""
        self._claim = claim

    async def send(
        self, message: bytes, headers: Sequence[Header] = (), *, identifier: str
    ) -> Begun:
        """See Channel."""
        conversation = LineConversation(_token_of(message))
        self._pending[identifier] = conversation
        is_sent = True
        try:
            try:
                waits = self._begin_sending(message)
                if waits is not None:
                    await waits
            except WaygateError:
                is_sent = False
                raise
            response = await conversation.first()
        except BaseException:
            await self._leave(identifier, conversation, is_sent=is_sent)
            raise
        if response is not None:
            del self._pending[identifier]
            return response
        return self._go_on(identifier, conversation)

    @asynccontextmanager
    async def _go_on(
        self, identifier: str, conversation: LineConversation
    ) -> AsyncIterator[LineConversation]:
        """Read on what answers a request that was sent."""
        try:
            yield conversation
        finally:
            await self._leave(identifier, conversation, is_sent=True)

    async def _leave(
        self, identifier: str, conversation: LineConversation, *, is_sent: bool
    ) -> None:
        """Wait for a request no longer."""
        # Left while it was being sent, it is on its way all the same.
        self._pending.pop(identifier, None)
        if self.cancels and is_sent and not (conversation.is_answered or self.is_closed):
            await self._cancel(identifier)

    @asynccontextmanager
    async def request(
        self, message: bytes, headers: Sequence[Header] = ()
    ) -> AsyncIterator[LineConversation]:
        """See Channel."""
        sent = _decode_sent(message)
        is_stream = sent.method == "subscriptions/listen"
        conversation = LineConversation(sent.params.meta.token, is_stream=is_stream)
        self._pending[sent.id] = conversation
        is_sent = True
        try:
            try:
                await self._send(message)
            except WaygateError:
                is_sent = False
                raise
            yield conversation
        finally:
            await self._leave(sent.id, conversation, is_sent=is_sent)

    @asynccontextmanager
    async def listen(
        self, headers: Sequence[Header] = (), last_event_id: str | None = None
    ) -> AsyncIterator[LineConversation]:
        """See Channel: all that belongs to no request."""
        yield self._own

    async def post(self, message: bytes, headers: Sequence[Header] = ()) -> int:
        """See Channel."""
        await self._send(message)
        return 202

    async def end_session(self, headers: Sequence[Header]) -> None:
        """See Channel: the session is the line."""
        await self.close()

    async def close(self) -> None:
        """Close the line; requests in flight fail."""
        self.on_break = _nothing
        self.fail(UpstreamTimeoutError(self.upstream, "was closed with a request in flight"))
        line, self._line = self._line, None  # it knows this channel
        if line is not None:
            await line.close()

    async def _send(self, message: bytes) -> None:
        waits = self._begin_sending(message)
        if waits is not None:
            await waits

    def _begin_sending(self, message: bytes) -> Awaitable[None] | None:
        if self._line is None or self._failure is not None:
            raise UpstreamUnavailableError(self.upstream, "its line is closed")
        return self._line.send(message)

    async def _cancel(self, identifier: str) -> None:
        """Tell the upstream that nobody waits any more.

        One that does not read is not waited for: whoever was cancelled has no time left.
        """
        params = jsonrpc.encode_json({"requestId": identifier, "reason": "nobody waits"})
        try:
            async with timeout(_TELL_S):
                await self._send(jsonrpc.encode_notification("notifications/cancelled", params))
        except (WaygateError, TimeoutError) as exc:
            _log.debug("%s: not told of a cancellation: %s", self.upstream, exc)

    # --- what comes in

    def take(self, data: bytes) -> None:
        """Take one message, or a batch of them.

        What is no JSON-RPC is left out with a line in the log: programs print by mistake.

        Raises:
            UpstreamProtocolError: too much of it.
        """
        plain = read_plain(data)
        if plain is not None:
            self._route(plain, len(data))
            return
        try:
            messages = read_incoming(data)
        except ValueError:
            self._nonsense += 1
            if self._nonsense == 1:
                _log.warning("%s: sent what is no message: %s", self.upstream, clipped(data))
            if self._nonsense > _MAX_NONSENSE:
                raise UpstreamProtocolError(self.upstream, "sends no JSON-RPC") from None
            return
        for incoming in messages:
            self._route(incoming, len(data))

    def fail(self, failure: WaygateError) -> None:
        """End the line: requests in flight fail with `failure`, whose outcome nobody knows."""
        if self._failure is not None:
            return
        self._failure = failure
        self._claim = None  # the session it belongs to knows this channel
        for conversation in self._pending.values():
            conversation.end(failure)
        self._own.end(None)
        self.on_break()

    def _route(self, incoming: Incoming, size: int) -> None:
        """Give a message to the request it belongs to, else to whoever listens."""
        if incoming.is_response:
            owner = self._pending.get(incoming.id) if isinstance(incoming.id, str) else None
            if owner is not None and not owner.is_answered:
                owner.is_answered = True
                self.has_succeeded = self.has_succeeded or incoming.error is None
                owner.put(incoming, size)
                self._outbox.expect()
            return  # an answer to nothing: late, double or invented
        if incoming.method is None:
            return
        conversation = self._owner_of(incoming)
        if conversation is None:
            if self.cancels:
                return  # nobody listens on a modern line but by requests of their own
            conversation = self._own
        if not conversation.put(incoming, size):
            self._dropped += 1
            if self._dropped == 1:
                _log.warning("%s: sends more than is read; messages are dropped", self.upstream)

    def _owner_of(self, incoming: Incoming) -> LineConversation | None:
        """Find the request a message belongs to, None where that is unsure."""
        if self._claim is not None:
            identifier = self._claim(incoming, len(self._pending))
            return None if identifier is None else self._pending.get(identifier)
        if incoming.is_request:
            return None
        try:
            heard = _decode_heard(bytes(incoming.params) or b"{}")
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        if isinstance(heard.meta.subscription, str):
            return self._pending.get(heard.meta.subscription)
        if heard.token is not None:
            return next((o for o in self._pending.values() if o.token == heard.token), None)
        if incoming.method != "notifications/message":
            return None
        candidates = [one for one in self._pending.values() if not one.is_stream]
        return candidates[0] if len(candidates) == 1 else None
