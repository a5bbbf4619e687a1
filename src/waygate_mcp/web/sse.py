"""The HTTP+SSE door of 2024-11-05: one event stream down, POSTs up. Off unless switched on.

Knows that the stream is the session: when it closes, the session is over. A channel is found by a
random id and only by the principal that opened it. Deprecated by the specification since 2025-03-26.
Spec: 2024-11-05 basic/transports, "HTTP with SSE".
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from waygate_mcp.config.document import DEFAULT_ENDPOINT
from waygate_mcp.gateway.conversation import Conversation
from waygate_mcp.gateway.hub import Listener
from waygate_mcp.gateway.live import credential_ended
from waygate_mcp.model.principal import Principal
from waygate_mcp.model.unverified import UnverifiedError
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.framing import encode_event
from waygate_mcp.telemetry.logs import get_logger
from waygate_mcp.web.body import BODY_TIMEOUT_S, is_json, read_body
from waygate_mcp.web.forward import forward
from waygate_mcp.web.problems import Refused
from waygate_mcp.web.streams import hold_open, serve_channel
from waygate_mcp.web.visit import JSON, Receive, Scope, Send, Visit

if TYPE_CHECKING:  # the house builds the door
    from waygate_mcp.runtime.house import House
    from waygate_mcp.web.guard import Guard

__all__ = ["SseDoor"]

_log = get_logger("web.sse")

MESSAGES_PATH = "/messages/"
_MAX_CHANNELS = 1_000
_MAX_CHANNELS_OF_ONE = 64


class _Channel:
    """The conversation on one open stream."""

    def __init__(self, conversation: Conversation, owner: bytes) -> None:
        self.conversation = conversation
        self.owner = owner


class SseDoor:
    """The ASGI application behind `/sse` and `/messages/…`."""

    def __init__(self, house: House[Guard]) -> None:
        self._house = house
        self._channels: dict[str, _Channel] = {}
        house.on_dismiss.append(self._dismiss)

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send, admitted: Visit | None = None
    ) -> None:
        """Serve one HTTP request of the old transport, whatever happens.

        `admitted` is the visit of a POST another worker let in already.
        """
        visit = admitted or Visit(self._house, scope, receive, send)
        if admitted is None:
            visit.door = "sse"
        try:
            await (self._post(visit) if admitted else self._serve(visit))
        except Exception:  # noqa: BLE001 - the door: a bug of ours must not cost the client its answer
            _log.exception("request failed", request_id=visit.request_id)
            visit.outcome = "failed"
            data = jsonrpc.encode_json({"requestId": visit.request_id})
            body = jsonrpc.encode_error(None, jsonrpc.INTERNAL_ERROR, "Internal error", data)
            await visit.answer(500, body)
            await visit.end()

    def _dismiss(self, principal: Principal) -> None:
        """End the calls of a principal whose credential is good no more; its streams end by themselves."""
        for channel in self._channels.values():
            if channel.owner == principal.fingerprint:
                channel.conversation.dismiss(credential_ended)

    async def _serve(self, visit: Visit) -> None:
        """Admit a request and hand it to its method."""
        generation = self._house.current()
        guard, scope = generation.guard, visit.scope
        visit.extra_headers = guard.cors_headers(dict(scope["headers"]).get(b"origin"))
        try:
            try:
                admit = guard.admit_open if scope["method"] == "OPTIONS" else guard.admit
                admission = admit(scope)
            except UnverifiedError as waits:
                admission = await guard.admit_later(scope, waits)
        except Refused as refused:
            visit.request_id = refused.request_id
            await self._refuse(visit, refused)
            return
        visit.headers = admission.headers
        visit.request_id = admission.request_id
        visit.principal = admission.principal
        visit.endpoint = DEFAULT_ENDPOINT
        if scope["method"] == "OPTIONS":
            allowed = guard.preflight(admission)
            visit.extra_headers = ()
            await visit.answer(204 if allowed else 403, b"", allowed or ())
        elif not generation.document.server.http_sse:
            text = "The HTTP+SSE transport is off; see server.http_sse"
            await self._say(visit, 404, text)
        elif not visit.principal.may_enter(DEFAULT_ENDPOINT):
            await self._say(visit, 404, "Unknown endpoint")
        elif scope["path"] == "/sse" and scope["method"] == "GET":
            await self._open(visit)
        elif scope["path"].startswith(MESSAGES_PATH) and scope["method"] == "POST":
            await self._post(visit)
        else:
            await visit.answer(405, b"", ())

    async def _refuse(self, visit: Visit, refused: Refused) -> None:
        visit.outcome = refused.code
        body = jsonrpc.encode_error(None, jsonrpc.INVALID_REQUEST, refused.message)
        await visit.answer(refused.status, body, (JSON, *refused.headers))

    async def _say(self, visit: Visit, status: int, text: str) -> None:
        visit.outcome = "refused"
        await visit.answer(status, jsonrpc.encode_error(None, jsonrpc.INVALID_REQUEST, text))

    async def _open(self, visit: Visit) -> None:
        """Open a stream: the `endpoint` event first, then every message of the conversation."""
        principal = visit.principal
        house = self._house
        own = sum(c.owner == principal.fingerprint for c in self._channels.values())
        if house.is_draining or len(self._channels) >= _MAX_CHANNELS or own >= _MAX_CHANNELS_OF_ONE:
            await self._say(visit, 503, "Too many streams are open, or the server stops.")
            return

        async def write(message: bytes) -> None:
            await visit.write(encode_event(message, event="message"))

        conversation = Conversation(
            house.current,
            DEFAULT_ENDPOINT,
            principal,
            write,
            house.supervisor,
            accepts_modern=False,
        )
        channel_id = house.live.place.mark(os.urandom(24).hex())
        self._channels[channel_id] = _Channel(conversation, principal.fingerprint)
        # Wants no change; it is closed with all others when the server stops.
        end = Listener(DEFAULT_ENDPOINT, principal, frozenset())
        house.live.hub.add(end)
        keep_alive_s = house.current().document.limits.keep_alive_s
        try:
            await visit.begin_stream()
            address = f"{MESSAGES_PATH}{channel_id}".encode()
            await visit.write(encode_event(address, event="endpoint"))
            pump = serve_channel(visit, end, conversation.settle, keep_alive_s)
            await hold_open(visit, pump, house.supervisor)
        finally:
            del self._channels[channel_id]
            house.live.hub.remove(end)
            await conversation.close()

    async def _post(self, visit: Visit) -> None:
        """Take a message for an open stream; its answer goes there."""
        channel_id = visit.scope["path"].removeprefix(MESSAGES_PATH)
        channel = self._channels.get(channel_id)
        slot = self._house.live.place.other_slot(channel_id) if channel is None else None
        if slot is None and (channel is None or channel.owner != visit.principal.fingerprint):
            await self._say(visit, 404, "Session not found")
            return
        if not is_json(visit.headers):
            await self._say(visit, 415, "Content-Type must be application/json")
            return
        try:
            limit = self._house.settings.max_request_size
            body = await read_body(visit.receive, limit, BODY_TIMEOUT_S, visit.headers)
        except Refused as refused:
            await self._refuse(visit, refused)
            return
        if channel is None:
            slots = () if slot is None else (slot,)
            if not await forward(self._house, visit, slots, body):
                await self._say(visit, 404, "Session not found")
            return
        await visit.answer(202, b"Accepted", ((b"content-type", b"text/plain"),))
        await channel.conversation.take(body)
