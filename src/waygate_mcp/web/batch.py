"""A batch of messages in one POST, which only revision 2025-03-26 has.

Knows how the answers of several calls share one response: a JSON array, or one event stream if any of
them sends an event first.
Spec: 2025-03-26 basic/transports, "Sending Messages to the Server"; basic/index, "Batching".
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from waygate_mcp.errors import WaygateError
from waygate_mcp.gateway.gateway import Gateway
from waygate_mcp.gateway.intake import Arrival, begin_legacy
from waygate_mcp.gateway.sessions import Session
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.failures import describe_failure
from waygate_mcp.protocol.framing import encode_event
from waygate_mcp.protocol.jsonrpc import Message, MessageShape
from waygate_mcp.protocol.ladder import Refusal, check_legacy
from waygate_mcp.web.visit import Visit

__all__ = ["run_batch"]


class _BatchFront:
    """Carries the messages of one call of a batch on the response all of them share."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self.final: bytes | None = None

    async def send(self, message: bytes) -> None:
        """Write an event, turning the shared response into a stream if it is none yet."""
        await self._visit.begin_stream()
        await self._visit.write(encode_event(message))

    async def finish(self, message: bytes | None, status: int = 200) -> None:
        """Keep the final message for the array, or write it where there is a stream."""
        self.final = message
        if message is not None and self._visit.is_begun:
            await self._visit.write(encode_event(message))
            self.final = None

    async def close_stream(self) -> None:
        """Do nothing: the stream is not the call's alone."""


async def run_batch(
    visit: Visit,
    gateway: Gateway,
    session: Session,
    messages: Sequence[Message],
    bodies: Sequence[bytes],
) -> None:
    """Run the requests of a batch at once and answer when all are over.

    `bodies` are the messages as they were written. 202 where nothing is to be answered.
    """
    fronts = [
        (message, body, _BatchFront(visit))
        for message, body in zip(messages, bodies, strict=True)
        if message.shape in {MessageShape.REQUEST, MessageShape.INVALID}
    ]
    if not fronts:
        await visit.answer(202, b"", ())
        return
    async with asyncio.TaskGroup() as group:  # owned here: the group ends with this request
        for message, body, front in fronts:
            arrival = Arrival(visit.principal, visit.request_id, body)
            group.create_task(_run_one(gateway, session, message, front, arrival))
    finals = [front.final for _, _, front in fronts if front.final is not None]
    if visit.is_begun:
        for final in finals:  # over before another call turned the response into a stream
            await visit.write(encode_event(final))
        await visit.end()
    elif finals:
        await visit.answer(200, b"[%b]" % b",".join(finals))
    else:  # all were cancelled
        await visit.answer(202, b"", ())


async def _run_one(
    gateway: Gateway, session: Session, message: Message, front: _BatchFront, arrival: Arrival
) -> None:
    """Run one message of a batch that must be answered."""
    if message.shape == MessageShape.INVALID:
        text = f"Invalid request: {message.problem}"
        await front.finish(jsonrpc.encode_error(message.id, jsonrpc.INVALID_REQUEST, text))
        return
    method = check_legacy(message, session.revision)
    if isinstance(method, Refusal):
        await front.finish(method.encode())
        return
    if message.id in session.calls:
        text = "Invalid request: id is in use by another request"
        await front.finish(jsonrpc.encode_error(message.id, jsonrpc.INVALID_REQUEST, text))
        return
    try:
        exchange, handler = begin_legacy(gateway, session, message, method, front, arrival)
    except WaygateError as error:
        await front.finish(describe_failure(error, session.revision).encode(message.id))
        return
    session.calls[message.wire_id] = exchange
    exchange.arm_deadline()
    try:
        await exchange.run(handler)
    finally:
        session.calls.pop(message.wire_id, None)
