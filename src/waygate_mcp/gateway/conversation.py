"""A client on one two-way channel: standard input and output, or HTTP+SSE.

Knows that everything travels on one channel, that notifications cancel, and that both eras may be
interleaved on it. Refuses to know what the channel is made of: it is given `write`.
Spec: 2026-07-28 basic/transports/stdio; 2024-11-05 basic/transports, "HTTP with SSE".
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol, TypeVar

import msgspec

from waygate_mcp.errors import ForbiddenError, LimitError, WaygateError
from waygate_mcp.gateway.endpoint import Endpoint
from waygate_mcp.gateway.exchange import Exchange
from waygate_mcp.gateway.gateway import Gateway
from waygate_mcp.gateway.hub import Listener
from waygate_mcp.gateway.intake import (
    Arrival,
    Attached,
    begin_legacy,
    begin_modern,
    endpoint_of,
    split_batch,
)
from waygate_mcp.gateway.listening import (
    Subscriber,
    announce_changes,
    confirmed_filter,
    open_listener,
    subscribed,
    word_change,
)
from waygate_mcp.gateway.notices import take_quietly
from waygate_mcp.gateway.sessions import Session
from waygate_mcp.gateway.task_watch import check_may_listen, tag_change, watch_tasks
from waygate_mcp.model.ports import Handler, Supervisor
from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.failures import describe_failure
from waygate_mcp.protocol.handshake import read_initialize
from waygate_mcp.protocol.jsonrpc import Message, MessageShape
from waygate_mcp.protocol.ladder import (
    LegacyInbound,
    ModernInbound,
    Refusal,
    check_legacy,
    classify_line,
)
from waygate_mcp.protocol.stateless import (
    ListenFilter,
    acknowledgement,
    listen_end_result,
    read_listen_filter,
)
from waygate_mcp.protocol.versions import LATEST_LEGACY, MODERN, Revision

__all__ = ["Conversation", "InForce"]

T = TypeVar("T")

Write = Callable[[bytes], Awaitable[None]]
_MAX_IN_FLIGHT = 1_024
_MAX_LISTENERS = 64
_OPEN_PERMISSION = "session:open"


class InForce(Protocol):
    """The generation in force, as far as a conversation needs it."""

    @property
    def gateway(self) -> Gateway:
        """What answers calls."""

    def in_use(self) -> AbstractContextManager[Any]:
        """Keep it from being closed while a call uses it."""


class _ChannelFront:
    """Carries one call's messages on the shared channel."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self.done = asyncio.Event()

    async def send(self, message: bytes) -> None:
        """Write an event."""
        await self._write(message)

    async def finish(self, message: bytes | None, status: int = 200) -> None:
        """Write the final message; a cancelled call has none."""
        if message is not None:
            await self._write(message)
        self.done.set()

    async def close_stream(self) -> None:
        """Do nothing: the channel is not the call's alone."""


class Conversation:
    """Everything one client says on one channel, until it is closed.

    `current` gives the generation in force for each new request; `endpoint` is its endpoint's name.
    `accepts_modern` is False on HTTP+SSE, which only exists in the legacy era.
    """

    def __init__(
        self,
        current: Callable[[], InForce],
        endpoint: str,
        principal: Principal,
        write: Write,
        supervisor: Supervisor,
        *,
        accepts_modern: bool = True,
    ) -> None:
        self._current = current
        self._live = current().gateway.live
        self._endpoint = endpoint
        self._principal = principal
        self._write = write
        self._supervisor = supervisor
        self._accepts_modern = accepts_modern
        self._session: Session | None = None
        self._modern_calls: dict[str | int, Exchange] = {}
        self._listeners: dict[str | int, Listener] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._calls: set[asyncio.Task[Any]] = set()

    async def take(self, line: bytes) -> None:
        """Take one message of the client; answers are written when they are ready."""
        inbound = classify_line(line)
        if isinstance(inbound, Refusal):
            await self._write(inbound.encode())
        elif isinstance(inbound, LegacyInbound):
            await self._take_legacy(inbound, line)
        elif not self._accepts_modern:
            text = "This transport serves revisions up to 2025-11-25 only"
            refusal = Refusal(400, jsonrpc.INVALID_REQUEST, text, inbound.message.id)
            if inbound.message.shape == MessageShape.REQUEST:
                await self._write(refusal.encode())
        elif inbound.message.shape == MessageShape.NOTIFICATION:
            self._take_notification(inbound.message)
        else:
            await self._or_fail(self._take_modern(inbound, line), inbound.message, MODERN)

    async def close(self) -> None:
        """End everything: the channel is closed."""
        if self._session is not None:
            self._live.sessions.end(self._session)
        for listener in self._listeners.values():
            listener.close()
            self._live.hub.remove(listener)
        for exchange in tuple(self._modern_calls.values()):
            exchange.cancel("channel closed")
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def dismiss(self, why: Callable[[], WaygateError]) -> None:
        """End all calls under way, whose client is told `why`: its credential is good no more."""
        for exchange in tuple(self._modern_calls.values()):
            exchange.cancel("the credential is good no more", why())
        if self._session is not None:
            self._session.end_calls("the credential is good no more", why)

    async def settle(self) -> None:
        """Wait until no call is under way; listeners and streams may be."""
        while self._calls:
            await asyncio.wait(self._calls)

    # --- legacy

    async def _take_legacy(self, inbound: LegacyInbound, line: bytes) -> None:
        session = self._session
        if inbound.is_batch and (session is None or not session.revision.has_batches):
            text = "Invalid request: no batches in this revision"
            await self._write(Refusal(400, jsonrpc.INVALID_REQUEST, text).encode())
            return
        bodies = split_batch(line) if inbound.is_batch else [line]
        for message, body in zip(inbound.messages, bodies, strict=True):
            await self._take_legacy_message(message, body)

    async def _take_legacy_message(self, message: Message, line: bytes) -> None:
        if message.shape == MessageShape.INVALID:
            text = f"Invalid request: {message.problem}"
            await self._refuse(message, jsonrpc.INVALID_REQUEST, text)
        elif message.shape in {MessageShape.NOTIFICATION, MessageShape.RESPONSE}:
            if self._session is not None:
                take_quietly(self._live.sessions, self._session, message, line)
            if message.shape == MessageShape.NOTIFICATION:
                self._take_notification(message)
        elif message.method == "initialize":
            await self._or_fail(self._initialize(message), message, LATEST_LEGACY)
        elif self._session is None:
            # Legal before the handshake, and how some clients probe.
            if message.method == "ping":
                await self._write(jsonrpc.encode_result(message.wire_id, b"{}"))
            else:
                text = (
                    "Invalid request: send initialize first (revisions up to "
                    f"{LATEST_LEGACY.text}), or _meta with the version of each request "
                    f"({MODERN.text})"
                )
                await self._refuse(message, jsonrpc.INVALID_REQUEST, text)
        else:
            begun = self._begin_legacy(self._session, message, line)
            await self._or_fail(begun, message, self._session.revision)

    async def _refuse(self, message: Message, code: int, text: str) -> None:
        await self._write(jsonrpc.encode_error(message.id, code, text))

    async def _initialize(self, message: Message) -> None:
        """Open the session of this channel; a second handshake replaces it."""
        hello = read_initialize(message.params)
        if isinstance(hello, str):
            await self._refuse(message, jsonrpc.INVALID_PARAMS, hello)
            return
        self._check_may_open()
        result = endpoint_of(self._current().gateway, self._endpoint).initialize(hello)
        sessions = self._live.sessions
        if self._session is not None:
            sessions.end(self._session)
        session = sessions.open(hello, self._endpoint, self._principal, with_token=False)
        self._session = session
        self._start(self._tell_changes(session), "session changes")
        await self._write(jsonrpc.encode_result(message.wire_id, result))

    def _check_may_open(self) -> None:
        """Check what `authorize` checks of calls.

        Raises:
            ForbiddenError: the principal may not converse at all.
        """
        if not self._principal.may(_OPEN_PERMISSION):
            raise ForbiddenError(permission=_OPEN_PERMISSION)

    async def _tell_changes(self, session: Session) -> None:
        """Write the changes a legacy session wants to hear of."""
        session.take_over_reading()
        async for change in announce_changes(session.listener):
            await self._write(word_change(change))

    async def _begin_legacy(self, session: Session, message: Message, line: bytes) -> None:
        method = check_legacy(message, session.revision)
        if isinstance(method, Refusal):
            await self._write(method.encode())
            return
        if message.id in session.calls:
            await self._refuse(message, jsonrpc.INVALID_REQUEST, "id is in use by another request")
            return
        front = _ChannelFront(self._write)
        generation = self._current()
        exchange, handler = begin_legacy(
            generation.gateway, session, message, method, front, self._arrival(line)
        )
        self._run(exchange, handler, session.calls, generation)

    # --- modern

    async def _take_modern(self, inbound: ModernInbound, line: bytes) -> None:
        message = inbound.message
        if self._is_in_use(message.wire_id):
            await self._refuse(message, jsonrpc.INVALID_REQUEST, "id is in use by another request")
            return
        generation = self._current()
        endpoint = endpoint_of(generation.gateway, self._endpoint)
        if message.method == "subscriptions/listen":
            await self._listen(inbound, endpoint)
            return
        front = _ChannelFront(self._write)
        begun = begin_modern(generation.gateway, endpoint, inbound, front, self._arrival(line))
        if isinstance(begun, Attached):
            self._modern_calls[message.wire_id] = begun.exchange
            self._start(self._attach(begun, front, message), "retry")
            return
        exchange, handler = begun
        self._run(exchange, handler, self._modern_calls, generation)

    def _is_in_use(self, identifier: str | int) -> bool:
        """Tell whether a request of this id waits for its answer; one that is parked got it."""
        exchange = self._modern_calls.get(identifier)
        waits = exchange is not None and exchange.front is not None
        return waits or identifier in self._listeners

    async def _attach(self, begun: Attached, front: _ChannelFront, message: Message) -> None:
        """Attach a retry and wait for its answer."""
        try:
            await begun.attach(front)
            await front.done.wait()
        except WaygateError as error:
            await self._fail(message, error, MODERN)
        finally:
            _forget(self._modern_calls, message.wire_id, begun.exchange)

    async def _listen(self, inbound: ModernInbound, endpoint: Endpoint) -> None:
        """Open a listen subscription on this channel."""
        message = inbound.message
        wanted = read_listen_filter(message.params)
        if isinstance(wanted, str):
            await self._refuse(message, jsonrpc.INVALID_PARAMS, wanted)
            return
        viewer = check_may_listen(endpoint, message.params, wanted, self._principal)
        if len(self._listeners) >= _MAX_LISTENERS:
            raise LimitError("listeners", safe_message="Too many subscriptions are open.")
        confirmed = confirmed_filter(endpoint, wanted, self._principal)
        listener = open_listener(self._live.hub, self._endpoint, self._principal, confirmed)
        identifier = message.wire_id
        self._listeners[identifier] = listener
        assert inbound.envelope is not None, "only requests listen"
        subscriber = Subscriber(
            self._endpoint, self._principal, inbound.envelope.capabilities, os.urandom(8).hex()
        )
        held = subscribed(
            lambda: self._current().gateway, listener, confirmed, subscriber, self._supervisor
        )
        watched = watch_tasks(endpoint, viewer, wanted.tasks, listener)
        self._start(self._tell_listener(identifier, listener, held, watched), "listen")

    async def _tell_listener(
        self,
        identifier: str | int,
        listener: Listener,
        held: AbstractAsyncContextManager[ListenFilter],
        watched: AbstractAsyncContextManager[tuple[str, ...]],
    ) -> None:
        """Write the acknowledgement, a listener's changes, and the graceful end if it is ours."""
        try:
            async with held as subscribed_to, watched as tasks:
                confirmed = msgspec.structs.replace(subscribed_to, tasks=tasks)
                await self._tell_subscribed(identifier, listener, confirmed)
        finally:
            _forget(self._listeners, identifier, listener)
            self._live.hub.remove(listener)

    async def _tell_subscribed(
        self, identifier: str | int, listener: Listener, confirmed: ListenFilter
    ) -> None:
        if self._listeners.get(identifier) is listener:
            await self._write(acknowledgement(identifier, confirmed))
            async for change in announce_changes(listener):
                if self._listeners.get(identifier) is not listener:
                    return  # the client cancelled it: nothing more is sent
                await self._write(tag_change(change, identifier))
            if self._listeners.get(identifier) is listener:
                params = jsonrpc.encode_json({"requestId": identifier})
                await self._write(jsonrpc.encode_notification("notifications/cancelled", params))
                server_info = self._current().gateway.server_info_meta
                result = listen_end_result(identifier, server_info)
                await self._write(jsonrpc.encode_result(identifier, result))

    # --- shared

    def _take_notification(self, message: Message) -> None:
        """Take a notification; only cancellation does anything here."""
        if message.method != "notifications/cancelled":
            return
        identifier = message.params.get("requestId")
        if not isinstance(identifier, str | int) or not jsonrpc.is_valid_id(identifier):
            return
        if self._session is not None:
            self._session.cancel_call(identifier, "cancelled by the client")
        exchange = self._modern_calls.get(identifier)
        if exchange is not None:
            exchange.cancel("cancelled by the client")
        listener = self._listeners.pop(identifier, None)
        if listener is not None:
            listener.close()

    def _arrival(self, line: bytes) -> Arrival:
        return Arrival(self._principal, os.urandom(8).hex(), line)

    async def _or_fail(self, work: Awaitable[None], message: Message, revision: Revision) -> None:
        """Do the work of taking a request; an error raised on purpose is its answer."""
        try:
            await work
        except WaygateError as error:
            await self._fail(message, error, revision)

    async def _fail(self, message: Message, error: WaygateError, revision: Revision) -> None:
        await self._write(describe_failure(error, revision).encode(message.id))

    def _run(
        self,
        exchange: Exchange,
        handler: Handler,
        calls: dict[str | int, Exchange],
        generation: InForce,
    ) -> None:
        """Run an exchange in a task of its own, findable by its id until it is over.

        Raises:
            LimitError: too many are under way.
        """
        if len(self._calls) >= _MAX_IN_FLIGHT:
            raise LimitError("calls on one channel", safe_message="Too many calls are under way.")
        identifier = exchange.identifier
        hold = generation.in_use()

        async def run() -> None:
            exchange.arm_deadline()
            try:
                await exchange.run(handler)
            finally:
                _forget(calls, identifier, exchange)

        task = self._start(run(), "call")
        calls[identifier] = exchange
        hold.__enter__()  # from now on, not from the task's first step
        task.add_done_callback(lambda _: hold.__exit__(None, None, None))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    def _start(self, coroutine: Any, name: str) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = self._supervisor.start(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _forget(known: dict[str | int, T], identifier: str | int, what: T) -> None:
    """Take something off its id, unless the id is another's by now."""
    if known.get(identifier) is what:
        del known[identifier]
