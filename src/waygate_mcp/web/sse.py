"""The HTTP+SSE door of 2024-11-05: one event stream down, POSTs up. Off unless switched on.

Knows that the stream is the session: when it closes, the session is over. A channel is found by a
random id and only by the principal that opened it. Deprecated by the specification since 2025-03-26.
Spec: 2024-11-05 basic/transports, "HTTP with SSE".
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from waygate_mcp.gateway.conversation import Conversation
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.framing import KEEP_ALIVE, encode_event
from waygate_mcp.web.body import BODY_TIMEOUT_S, read_body
from waygate_mcp.web.problems import Refused
from waygate_mcp.web.streams import hold_open
from waygate_mcp.web.visit import JSON, Receive, Scope, Send, Visit

if TYPE_CHECKING:  # the house builds the door
    from waygate_mcp.gateway.gateway import Gateway
    from waygate_mcp.runtime.house import House
    from waygate_mcp.web.guard import Guard

__all__ = ["SseDoor"]

MESSAGES_PATH = "/messages/"
_MAX_CHANNELS = 1_000
_MAX_CHANNELS_OF_ONE = 64
_DEFAULT = "default"


class _Channel:
    """One open stream and the conversation on it."""

    def __init__(self, visit: Visit, conversation: Conversation, owner: bytes) -> None:
        self.visit = visit
        self.conversation = conversation
        self.owner = owner


class SseDoor:
    """The ASGI application behind `/sse` and `/messages/…`."""

    def __init__(self, house: House[Guard]) -> None:
        self._house = house
        self._channels: dict[str, _Channel] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request of the old transport."""
        visit = Visit(self._house, scope, receive, send)
        visit.door = "sse"
        generation = self._house.current()
        try:
            admission = generation.guard.admit(scope)
        except Refused as refused:
            visit.request_id = refused.request_id or ""
            await self._refuse(visit, refused)
            return
        visit.headers = admission.headers
        visit.request_id = admission.request_id
        visit.principal = admission.principal
        visit.endpoint = _DEFAULT
        origin = admission.headers.get(b"origin")
        if origin is not None:
            visit.extra_headers = generation.guard.cors_headers(origin)
        if not generation.document.server.http_sse:
            text = "The HTTP+SSE transport is off; see server.http_sse"
            await self._say(visit, 404, text)
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

        def gateway() -> Gateway:
            return house.current().gateway

        conversation = Conversation(
            gateway, _DEFAULT, principal, write, house.supervisor, accepts_modern=False
        )
        channel_id = os.urandom(24).hex()
        self._channels[channel_id] = _Channel(visit, conversation, principal.fingerprint)
        keep_alive_s = house.current().document.limits.keep_alive_s
        try:
            await visit.begin_stream()
            address = f"{MESSAGES_PATH}{channel_id}".encode()
            await visit.write(encode_event(address, event="endpoint"))
            await hold_open(visit, self._keep_alive(visit, keep_alive_s), house.supervisor)
        finally:
            del self._channels[channel_id]
            await conversation.close()

    async def _keep_alive(self, visit: Visit, keep_alive_s: float) -> None:
        """Break silences until the server stops."""
        while not self._house.is_draining:
            await asyncio.sleep(keep_alive_s)
            await visit.write(KEEP_ALIVE)

    async def _post(self, visit: Visit) -> None:
        """Take a message for an open stream; its answer goes there."""
        channel = self._channels.get(visit.scope["path"].removeprefix(MESSAGES_PATH))
        if channel is None or channel.owner != visit.principal.fingerprint:
            await self._say(visit, 404, "Session not found")
            return
        try:
            limit = self._house.settings.max_request_size
            body = await read_body(visit.receive, limit, BODY_TIMEOUT_S, visit.headers)
        except Refused as refused:
            await self._refuse(visit, refused)
            return
        await visit.answer(202, b"Accepted", ((b"content-type", b"text/plain"),))
        await channel.conversation.take(body)
