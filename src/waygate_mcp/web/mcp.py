"""The MCP door: both eras on one URL.

Knows HTTP: methods, statuses, which message came how. Refuses to know what methods mean; the gateway
does. A request's way: guard → body → ladder → exchange → front. Everything is decided on the raw path
and, once read, on the body (threat model rules 2 and 16).
Spec: 2026-07-28 basic/transports/streamable-http; 2025-11-25 basic/transports.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from waygate_mcp.auth.oauth import TokenPrincipal
from waygate_mcp.errors import ForbiddenError, LimitError, RateLimitedError, WaygateError
from waygate_mcp.gateway.endpoint import Endpoint
from waygate_mcp.gateway.exchange import Exchange
from waygate_mcp.gateway.intake import Arrival, Attached, begin_legacy, begin_modern, split_batch
from waygate_mcp.gateway.listening import (
    Subscriber,
    confirmed_filter,
    open_listener,
    subscribed,
)
from waygate_mcp.gateway.notices import take_quietly
from waygate_mcp.gateway.places import OwnedElsewhereError
from waygate_mcp.gateway.sessions import Session
from waygate_mcp.gateway.task_watch import check_may_listen, watch_tasks
from waygate_mcp.model.unverified import UnverifiedError
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.framing import encode_event
from waygate_mcp.protocol.handshake import read_initialize
from waygate_mcp.protocol.jsonrpc import Message, MessageShape
from waygate_mcp.protocol.ladder import (
    LegacyInbound,
    ModernInbound,
    Refusal,
    check_legacy,
    classify_post,
    entry_name,
)
from waygate_mcp.protocol.stateless import acknowledgement, listen_end_result, read_listen_filter
from waygate_mcp.protocol.versions import LATEST_LEGACY, MODERN, REVISIONS
from waygate_mcp.telemetry.logs import get_logger
from waygate_mcp.web.admitting import admit, admit_later, ask_for_scopes
from waygate_mcp.web.answers import (
    accepts,
    answer_refusal,
    busy,
    prefers_stream,
    refuse,
    say,
    tell,
    tell_when,
)
from waygate_mcp.web.batch import run_batch
from waygate_mcp.web.body import BODY_TIMEOUT_S, is_json, read_body
from waygate_mcp.web.dismissing import check_still_good, end_if_dismissed, ends_calls
from waygate_mcp.web.forward import find_session, forward
from waygate_mcp.web.fronts import LegacyFront, ModernFront
from waygate_mcp.web.problems import Refused
from waygate_mcp.web.streams import hold_open, serve_listener, serve_resumed, serve_session
from waygate_mcp.web.visit import JSON, Receive, Scope, Send, Visit
from waygate_mcp.web.watch import SlowWatch

if TYPE_CHECKING:  # the house builds the door
    from waygate_mcp.runtime.generation import Generation
    from waygate_mcp.runtime.house import House
    from waygate_mcp.web.guard import Guard

__all__ = ["McpDoor"]

_log = get_logger("web.mcp")

_SESSION_HEADER = b"mcp-session-id"
_OPEN_PERMISSION = "session:open"
_USUAL_ACCEPT = b"application/json, text/event-stream"
_ALLOW = (b"allow", b"GET, POST, DELETE, OPTIONS")
_NO_SESSION = (
    "Invalid request: no session. Send initialize first "
    f"(revisions up to {LATEST_LEGACY.text}), or the MCP-Protocol-Version header and "
    f"_meta of a stateless request ({MODERN.text})"
)


class McpDoor:
    """The ASGI application behind every MCP path."""

    def __init__(self, house: House[Guard]) -> None:
        self._house = house
        self._in_flight = 0
        self._slow: SlowWatch[ModernFront | LegacyFront] = SlowWatch(self._start_watch)
        house.on_dismiss.append(ends_calls(self._slow.under_way))

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        endpoint: str,
        admitted: Visit | None = None,
    ) -> None:
        """Serve one HTTP request to the endpoint of that name, whatever happens.

        `admitted` is the visit of a request another worker let in already.
        """
        visit = admitted or Visit(self._house, scope, receive, send)
        method = scope["method"]
        try:
            generation = self._house.current()
            admission = None
            if admitted is None:
                try:
                    admission = admit(visit, generation.guard, endpoint)
                except UnverifiedError as waits:
                    admission = await admit_later(visit, generation.guard, endpoint, waits)
            found = generation.gateway.endpoints.get(endpoint)
            if admission is not None and method == "OPTIONS":
                allowed = generation.guard.preflight(admission)
                await visit.answer(204 if allowed else 403, b"", allowed or ())
            elif found is None or not visit.principal.may_enter(endpoint):
                await say(visit, 404, jsonrpc.INVALID_REQUEST, "Unknown endpoint")
            else:
                visit.endpoint = endpoint
                if method == "POST":
                    calls = generation.calls
                    calls.hold()
                    try:
                        await self._post(visit, generation, found)
                    finally:
                        calls.leave()
                else:
                    await self._get_or_delete(visit, generation, method)
        except Refused as refused:
            await refuse(visit, refused)
        except Exception:  # noqa: BLE001 - the door: a bug of ours must not cost the client its answer
            _log.exception("request failed", request_id=visit.request_id)
            visit.outcome = "failed"
            data = jsonrpc.encode_json({"requestId": visit.request_id})
            body = jsonrpc.encode_error(None, jsonrpc.INTERNAL_ERROR, "Internal error", data)
            await visit.answer(500, body)
            await visit.end()
        finally:
            if not visit.is_ended:  # cancelled from outside
                visit.abandon()

    async def _get_or_delete(
        self, visit: Visit, generation: Generation[Guard], method: str
    ) -> None:
        """Serve the methods only sessions have, and refuse all others."""
        if method == "GET":
            await self._get(visit, generation)
        elif method == "DELETE":
            await self._delete(visit, generation)
        else:
            await visit.answer(405, b"", (_ALLOW,))

    # --- POST

    async def _post(self, visit: Visit, generation: Generation[Guard], endpoint: Endpoint) -> None:
        """Read the message and hand it to its era."""
        headers = visit.headers
        if not is_json(headers):
            text = "Content-Type must be application/json"
            await say(visit, 415, jsonrpc.INVALID_REQUEST, text)
            return
        accept = headers.get(b"accept")
        if accept != _USUAL_ACCEPT and not accepts(accept):
            text = "Accept must allow application/json and text/event-stream"
            await say(visit, 406, jsonrpc.INVALID_REQUEST, text)
            return
        allowed = generation.document.limits.calls_in_flight_max
        if self._in_flight >= allowed and self._at_work() >= allowed:
            await busy(visit, "Too many calls are under way; try again shortly.")
            return
        self._in_flight += 1
        try:
            limit = self._house.settings.max_request_size
            body = visit.whole_body(limit)
            if body is None:
                body = await read_body(visit.receive, limit, BODY_TIMEOUT_S, headers)
                check_still_good(visit, generation.guard, self._house.live)
            inbound = classify_post(body, headers)
            if isinstance(inbound, Refusal):
                await answer_refusal(visit, inbound)
            elif isinstance(visit.principal, TokenPrincipal) and await ask_for_scopes(
                visit, visit.principal, generation.guard, endpoint.name, inbound
            ):
                return
            elif isinstance(inbound, ModernInbound):
                await self._modern(visit, generation, endpoint, inbound, body)
            else:
                await self._legacy(visit, generation, endpoint, inbound, body)
        finally:
            self._in_flight -= 1

    def _at_work(self) -> int:
        """Count the requests that keep us busy: what is parked or listens waits for somebody else.

        Those have limits of their own, and must not keep the retries out that end them.
        """
        live = self._house.live
        return self._in_flight - len(live.parking) - live.listen_streams.total()

    async def _modern(
        self,
        visit: Visit,
        generation: Generation[Guard],
        endpoint: Endpoint,
        inbound: ModernInbound,
        body: bytes,
    ) -> None:
        """Serve a stateless request; notifications are accepted and mean nothing here."""
        message = inbound.message
        visit.rpc_method = message.method
        if inbound.method is None:
            await visit.answer(202, b"", ())
            return
        visit.name = entry_name(message, inbound.method)
        if message.method == "subscriptions/listen":
            await self._listen(visit, generation, endpoint, inbound)
            return
        front = ModernFront(visit)
        arrival = Arrival(visit.principal, visit.request_id, body, visit.headers)
        try:
            begun = begin_modern(generation.gateway, endpoint, inbound, front, arrival)
        except OwnedElsewhereError as owner:
            if not await forward(self._house, visit, (owner.slot,), body, message):
                await tell(visit, owner, MODERN, message)
            return
        except WaygateError as error:
            await tell(visit, error, MODERN, message)
            return
        if isinstance(begun, Attached):
            bucket = self._begin(front, begun.exchange, generation)
            try:
                await _attach(begun, front, message)
            finally:
                self._end(front, bucket)
            return
        exchange, handler = begun
        bucket = self._begin(front, exchange, generation)
        try:
            await exchange.run(handler, visit.task)
        finally:
            self._end(front, bucket)

    def _begin(
        self,
        front: ModernFront | LegacyFront,
        exchange: Exchange,
        generation: Generation[Guard],
    ) -> dict[ModernFront | LegacyFront, None]:
        """Note that a call is under way, to be looked after once it takes longer than a moment."""
        front.exchange = exchange
        front.generation = generation
        return self._slow.begin(front)

    @staticmethod
    def _end(
        front: ModernFront | LegacyFront, bucket: dict[ModernFront | LegacyFront, None]
    ) -> None:
        """Note that it is over."""
        bucket.pop(front, None)
        if front.watch is not None:
            front.watch.cancel()
            front.watch = (
                None  # it holds, by the error that ended it, the frame that holds the front
            )
        front.exchange = None  # the two knew each other: nothing is left to the collector

    def _start_watch(self, front: ModernFront | LegacyFront) -> None:
        """Begin to look after a call that did not answer at once."""
        exchange, generation = front.exchange, front.generation
        if exchange is None or generation is None:
            return
        exchange.arm_deadline()
        end_if_dismissed(exchange, self._house.live)
        watch = self._watch(front.visit, front, exchange, generation)
        with suppress(LimitError):  # too many tasks, or the server stops: the deadline must do
            front.watch = self._house.supervisor.start(watch, name="watch")

    async def _watch(
        self,
        visit: Visit,
        front: ModernFront | LegacyFront,
        exchange: Exchange,
        generation: Generation[Guard],
    ) -> None:
        """Look after a call that takes its time, until its response is over.

        A modern client that is gone has cancelled (2026-07-28 basic/patterns/cancellation); a legacy
        one has not, and may come back for the stream.
        """
        keep_alive_s = generation.document.limits.keep_alive_s
        while not front.is_done:
            try:
                async with asyncio.timeout(keep_alive_s):
                    await visit.until_disconnect()
            except TimeoutError:
                if not front.is_done:
                    await front.keep_alive()
                continue
            if visit.is_ended:
                return
            if isinstance(front, LegacyFront):
                front.detach()
            elif exchange.front is front:
                exchange.cancel("the client is gone")
            return

    async def _listen(
        self,
        visit: Visit,
        generation: Generation[Guard],
        endpoint: Endpoint,
        inbound: ModernInbound,
    ) -> None:
        """Open a listen stream: the acknowledgement first, then changes, then a graceful end."""
        message = inbound.message
        wanted = read_listen_filter(message.params)
        if isinstance(wanted, str):
            await answer_refusal(visit, Refusal(200, jsonrpc.INVALID_PARAMS, wanted, message.id))
            return
        try:
            viewer = check_may_listen(endpoint, message.params, wanted, visit.principal)
        except WaygateError as error:
            await tell(visit, error, MODERN, message)
            return
        house, gateway = self._house, generation.gateway
        limits = generation.document.limits
        readers = house.live.listen_streams
        who = visit.principal.id
        if house.is_draining or readers[who] >= limits.listen_streams_per_principal:
            await busy(visit, "Too many listen streams, or the server stops.")
            return
        confirmed = confirmed_filter(endpoint, wanted, visit.principal)
        listener = open_listener(gateway.live.hub, endpoint.name, visit.principal, confirmed)
        readers[who] += 1
        identifier = message.wire_id

        def ending() -> bytes:
            result = listen_end_result(identifier, gateway.server_info_meta)
            return jsonrpc.encode_result(identifier, result)

        assert inbound.envelope is not None, "only requests listen"
        subscriber = Subscriber(
            endpoint.name, visit.principal, inbound.envelope.capabilities, visit.request_id
        )
        held = subscribed(
            lambda: house.current().gateway, listener, confirmed, subscriber, house.supervisor
        )
        try:
            watched = watch_tasks(endpoint, viewer, wanted.tasks, listener)
            async with held as subscribed_to, watched as tasks:
                confirmed = msgspec.structs.replace(subscribed_to, tasks=tasks)
                await visit.begin_stream()
                await visit.write(encode_event(acknowledgement(identifier, confirmed)))
                pump = serve_listener(visit, listener, identifier, ending, limits.keep_alive_s)
                # A stream may stay open for days: it keeps no generation open.
                generation.calls.leave()
                try:
                    await hold_open(visit, pump, house.supervisor)
                finally:
                    generation.calls.hold()
        finally:
            gateway.live.hub.remove(listener)
            readers[who] -= 1
            if not readers[who]:
                del readers[who]

    # --- legacy

    async def _legacy(
        self,
        visit: Visit,
        generation: Generation[Guard],
        endpoint: Endpoint,
        inbound: LegacyInbound,
        body: bytes,
    ) -> None:
        """Serve a message, or a batch, that belongs to a session."""
        visit.rpc_method = inbound.messages[0].method or None
        if inbound.is_initialize and inbound.messages[0].shape == MessageShape.REQUEST:
            await self._initialize(visit, endpoint, inbound.messages[0])
            return
        session = await self._find_session(visit, inbound.messages[0], body)
        if session is None:
            return
        if inbound.is_batch:
            await self._batch(visit, generation, session, inbound, body)
            return
        message = inbound.messages[0]
        if message.shape == MessageShape.REQUEST:
            await self._request(visit, generation, session, message, body)
            return
        take_quietly(self._house.live.sessions, session, message, body)
        await visit.answer(202, b"", ())

    async def _initialize(self, visit: Visit, endpoint: Endpoint, message: Message) -> None:
        """Open a session and name it in the answer."""
        hello = read_initialize(message.params)
        if isinstance(hello, str):
            await answer_refusal(visit, Refusal(400, jsonrpc.INVALID_PARAMS, hello, message.id))
            return
        if not visit.principal.may(_OPEN_PERMISSION):
            error = ForbiddenError(permission=_OPEN_PERMISSION)
            await tell(visit, error, hello.revision, message)
            return
        if self._house.is_draining:
            await busy(visit, "The server stops.")
            return
        try:
            session = self._house.live.sessions.open(hello, endpoint.name, visit.principal)
        except RateLimitedError as limit:
            await tell_when(visit, limit, message)
            return
        assert session.token is not None
        header = (_SESSION_HEADER, session.token.encode())
        result = endpoint.initialize(hello)
        visit.outcome = "ok"
        await visit.answer(200, jsonrpc.encode_result(message.wire_id, result), (JSON, header))

    async def _find_session(
        self, visit: Visit, message: Message, body: bytes = b""
    ) -> Session | None:
        """Find the session a request names, or answer what the revision says or another worker does.

        A 404 tells the client to initialize again, so it is used for nothing else here.
        """
        identifier = message.id if message.shape == MessageShape.REQUEST else None
        token = visit.headers.get(_SESSION_HEADER)
        if token is None:
            await answer_refusal(
                visit, Refusal(400, jsonrpc.INVALID_REQUEST, _NO_SESSION, identifier)
            )
            return None
        try:
            named = token.decode("latin-1")
            if self._house.peers is None:
                session = self._house.live.sessions.find(named, visit.endpoint, visit.principal)
            else:
                session = await find_session(self._house, visit, named, message, body)
        except RateLimitedError as limit:
            await tell_when(visit, limit, message)
            return None
        if session is None and (visit.is_begun or visit.is_ended):
            return None
        if session is None:
            text = "Session not found; send initialize again"
            error = jsonrpc.encode_error(identifier, jsonrpc.INVALID_REQUEST, text)
            visit.outcome = "unknown_session"
            await visit.answer(404, error)
            return None
        stated = visit.headers.get(b"mcp-protocol-version")
        if stated is not None and stated != session.revision.text.encode():
            known = stated.decode("latin-1").strip() in REVISIONS
            text = "the session was opened in another revision" if known else "unknown revision"
            text = f"MCP-Protocol-Version: {text}"
            await answer_refusal(visit, Refusal(400, jsonrpc.INVALID_REQUEST, text, identifier))
            return None
        return session

    async def _request(
        self,
        visit: Visit,
        generation: Generation[Guard],
        session: Session,
        message: Message,
        body: bytes,
    ) -> None:
        """Serve one request of a session."""
        method = check_legacy(message, session.revision)
        if isinstance(method, Refusal):
            await answer_refusal(visit, method)
            return
        visit.name = entry_name(message, method)
        if message.id in session.calls:
            text = "Invalid request: id is in use by another request"
            await answer_refusal(visit, Refusal(400, jsonrpc.INVALID_REQUEST, text, message.id))
            return
        front = LegacyFront(
            visit,
            session,
            self._house.live.monotonic,
            prefers_stream=prefers_stream(visit.headers.get(b"accept")),
        )
        arrival = Arrival(visit.principal, visit.request_id, body)
        try:
            exchange, handler = begin_legacy(
                generation.gateway, session, message, method, front, arrival
            )
        except WaygateError as error:
            await tell(visit, error, session.revision, message)
            return
        session.calls[message.wire_id] = exchange
        bucket = self._begin(front, exchange, generation)
        try:
            await exchange.run(handler, visit.task)
        finally:
            self._end(front, bucket)
            session.calls.pop(message.wire_id, None)

    async def _batch(
        self,
        visit: Visit,
        generation: Generation[Guard],
        session: Session,
        inbound: LegacyInbound,
        body: bytes,
    ) -> None:
        """Serve a batch, which only 2025-03-26 has."""
        if not session.revision.has_batches:
            text = "Invalid request: no batches in this revision"
            await say(visit, 400, jsonrpc.INVALID_REQUEST, text)
            return
        bodies = split_batch(body)
        for message, own in zip(inbound.messages, bodies, strict=True):
            if message.shape in {MessageShape.NOTIFICATION, MessageShape.RESPONSE}:
                take_quietly(self._house.live.sessions, session, message, own)
        await run_batch(visit, generation.gateway, session, inbound.messages, bodies)

    # --- GET and DELETE

    async def _get(self, visit: Visit, generation: Generation[Guard]) -> None:
        """Open the session's own stream, or give back one that was lost."""
        if _SESSION_HEADER not in visit.headers:
            await visit.answer(405, b"", (_ALLOW,))
            return
        accept = visit.headers.get(b"accept", b"")
        if b"text/event-stream" not in accept and b"*/*" not in accept:
            await say(visit, 406, jsonrpc.INVALID_REQUEST, "Accept must allow text/event-stream")
            return
        session = await self._find_session(visit, Message(MessageShape.INVALID))
        if session is None:
            return
        house = self._house
        if house.is_draining:
            await busy(visit, "The server stops.")
            return
        keep_alive_s = generation.document.limits.keep_alive_s
        last = visit.headers.get(b"last-event-id", b"").decode("latin-1")
        found = session.find_stream(last)
        if found is not None and found[0] is not session.standing_stream:
            stream, after = found
            if stream.since(after) is not None:
                await visit.begin_stream()
                pump = serve_resumed(visit, stream, after, keep_alive_s)
                await hold_open(visit, pump, house.supervisor)
                return
        if session.is_of_call(last):
            await say(visit, 400, jsonrpc.INVALID_REQUEST, "Those events are gone")
            return
        await self._stand(visit, session, found[1] if found is not None else None, keep_alive_s)

    async def _stand(
        self, visit: Visit, session: Session, after: int | None, keep_alive_s: float
    ) -> None:
        """Serve the one stream of a session that belongs to no call; a newer one takes over."""
        house = self._house
        reader = session.take_over_reading()
        reader.on_replaced = lambda: house.supervisor.start(visit.end(), name="stream replaced")
        try:
            await visit.begin_stream()
            pump = serve_session(visit, session, after, keep_alive_s, house.live.monotonic)
            await hold_open(visit, pump, house.supervisor)
        finally:
            session.stop_reading(reader)

    async def _delete(self, visit: Visit, generation: Generation[Guard]) -> None:
        """End a session at its client's wish."""
        if _SESSION_HEADER not in visit.headers:
            await visit.answer(405, b"", (_ALLOW,))
            return
        session = await self._find_session(visit, Message(MessageShape.INVALID))
        if session is not None:
            generation.gateway.live.sessions.end(session)
            await visit.answer(204, b"", ())


async def _attach(begun: Attached, front: ModernFront, message: Message) -> None:
    """Attach a retry to its parked call and wait for its answer."""
    try:
        await begun.attach(front)
    except WaygateError as error:
        await tell(front.visit, error, MODERN, message)
    else:
        await front.until_done()
