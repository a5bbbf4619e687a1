"""Turns messages that passed the ladder into exchanges, for every door alike.

Knows how a request of each era becomes a call, and how a retry finds the call it belongs to. Refuses
to know how the messages arrived; the door gives a `Front` for the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from waygate_mcp.errors import (
    InterruptedCallError,
    InvalidStateError,
    RpcError,
    UnknownMethodError,
    UnknownNameError,
)
from waygate_mcp.gateway.endpoint import Endpoint
from waygate_mcp.gateway.exchange import Front
from waygate_mcp.gateway.gateway import Gateway
from waygate_mcp.gateway.legacy_exchange import LegacyExchange
from waygate_mcp.gateway.modern_exchange import ModernExchange, Retry
from waygate_mcp.gateway.places import OwnedElsewhereError
from waygate_mcp.gateway.sessions import Session
from waygate_mcp.gateway.tickets import INVALID_STATE
from waygate_mcp.model.call import Call, Outcome, Reply
from waygate_mcp.model.ports import Handler
from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol.jsonrpc import INVALID_PARAMS, Message
from waygate_mcp.protocol.ladder import ModernInbound, entry_name
from waygate_mcp.protocol.log_levels import LOG_LEVELS
from waygate_mcp.protocol.methods import Method
from waygate_mcp.protocol.stateless import Envelope, read_progress_token
from waygate_mcp.protocol.versions import MODERN

__all__ = [
    "Arrival",
    "Attached",
    "begin_legacy",
    "begin_modern",
    "endpoint_of",
    "progress_token",
    "split_batch",
]


class _Retry(msgspec.Struct):
    """The members of a retry whose values are relayed as they were written."""

    inputResponses: dict[str, msgspec.Raw] = {}  # noqa: N815 - the name on the wire


class _RetryBody(msgspec.Struct):
    params: _Retry


_decode_retry = msgspec.json.Decoder(_RetryBody).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Arrival(msgspec.Struct, frozen=True):
    """What a door knows of a request besides the message: who, under which id, in which bytes.

    `headers` are given by HTTP doors of modern requests, for the `Mcp-Param-*` check.
    """

    principal: Principal
    request_id: str
    body: bytes
    headers: Mapping[bytes, bytes] | None = None


class Attached(msgspec.Struct, frozen=True):
    """A retry that belongs to a parked call: let a front attach to it."""

    exchange: ModernExchange
    retry: Retry

    async def attach(self, front: Front) -> None:
        """Attach and hand over the answers; the front is finished when the call says so.

        Raises:
            InvalidStateError: the ticket is of a round that is over.
        """
        if not await self.exchange.attach(front, self.retry):
            raise InvalidStateError(reason="round", safe_message=INVALID_STATE)


def split_batch(body: bytes) -> list[bytes]:
    """Cut a batch that passed the ladder into its messages, each as it was written."""
    return [bytes(item) for item in _decode_items(body)]


def progress_token(params: Mapping[str, Any]) -> str | int | None:
    """Give the progress token of a request, None where there is none of a legal type."""
    meta = params.get("_meta")
    return read_progress_token(meta) if type(meta) is dict else None


def begin_modern(
    gateway: Gateway, endpoint: Endpoint, inbound: ModernInbound, front: Front, arrival: Arrival
) -> tuple[ModernExchange, Handler] | Attached:
    """Make the exchange of a modern request, or find the parked one it is a retry of.

    Raises:
        WaygateError: unknown method here, or a requestState that is not valid.
        OwnedElsewhereError: the call is parked at another worker.
    """
    message, method, envelope = inbound.message, inbound.method, inbound.envelope
    assert method is not None, "only requests begin calls"
    assert envelope is not None, "only requests begin calls"
    params = message.params
    live = gateway.live
    token = envelope.progress_token
    exchange = ModernExchange(
        message.wire_id, front, gateway.parking_place, envelope.log_level, token
    )
    exchange.call_timeout_s = gateway.limits.call_timeout_s
    call = Call(
        request_id=arrival.request_id,
        endpoint=endpoint.name,
        method=method.name,
        name=entry_name(message, method) or "",
        params=params,
        body=arrival.body,
        principal=arrival.principal,
        revision=MODERN,
        capabilities=envelope.capabilities,
        caller=exchange,
        deadline_s=live.monotonic() + gateway.limits.call_timeout_s,
        progress_token=token,
        headers=arrival.headers,
        client_name=envelope.client_name,
    )
    if method.may_ask and ("requestState" in params or "inputResponses" in params):
        attached = _take_up(gateway, call, message, envelope)
        if attached is not None:
            return attached
    exchange.call = call  # not before: one that is never run would know its call for ever
    return exchange, endpoint.handler_for(method.name)


def _take_up(gateway: Gateway, call: Call, message: Message, envelope: Envelope) -> Attached | None:
    """Read a retry: attach it to its parked call, or hand its state and answers to a fresh one."""
    params = message.params
    answers: dict[str, bytes] = {}
    if type(params.get("inputResponses")) is dict:
        raw = _decode_retry(call.body).params.inputResponses
        given = params["inputResponses"]
        # What is no object answers nothing: the question is asked again (mrtr, "Error Handling").
        answers = {key: bytes(raw[key]) for key in given if type(given[key]) is dict}
    call.input_responses = answers
    if "requestState" not in params:
        return None
    live = gateway.live
    ticket = live.tickets.open(params["requestState"], call)
    if ticket.kind == "relay":
        call.request_state = ticket.state
        return None
    parked = live.parking.find(ticket.exchange) if ticket.node == live.node else None
    if parked is None:
        slot = live.place.other_slot(ticket.node)
        if slot is not None:
            raise OwnedElsewhereError(slot)
        raise InterruptedCallError(f"parked call {ticket.exchange} of node {ticket.node} is gone")
    retry = Retry(
        message.wire_id,
        ticket.round,
        answers,
        call.progress_token,
        envelope.log_level,
        envelope.capabilities,
    )
    return Attached(parked, retry)


def begin_legacy(
    gateway: Gateway,
    session: Session,
    message: Message,
    method: Method,
    front: Front,
    arrival: Arrival,
) -> tuple[LegacyExchange, Handler]:
    """Make the exchange of a request of a legacy session.

    Raises:
        WaygateError: unknown method here, or the endpoint is gone.
    """
    params = message.params
    token = progress_token(params)
    timeout_s = gateway.limits.parking.question_s
    exchange = LegacyExchange(message.wire_id, session, front, token, timeout_s)
    exchange.call_timeout_s = gateway.limits.call_timeout_s
    exchange.call = Call(
        request_id=arrival.request_id,
        endpoint=session.endpoint,
        method=method.name,
        name=entry_name(message, method) or "",
        params=params,
        body=arrival.body,
        principal=arrival.principal,
        revision=session.revision,
        capabilities=session.capabilities,
        caller=exchange,
        deadline_s=gateway.live.monotonic() + gateway.limits.call_timeout_s,
        progress_token=token,
        session_id=session.id,
        client_name=session.client_name,
    )
    endpoint = endpoint_of(gateway, session.endpoint)
    make = _SESSION_METHODS.get(method.name)
    if make is not None:
        return exchange, make(endpoint, session)
    return exchange, endpoint.handler_for(method.name)


def endpoint_of(gateway: Gateway, name: str) -> Endpoint:
    """Give the endpoint of that name.

    Raises:
        UnknownNameError: a reload took it away.
    """
    endpoint = gateway.endpoints.get(name)
    if endpoint is None:
        raise UnknownNameError("endpoint", name)
    return endpoint


def _ping(endpoint: Endpoint, _session: Session) -> Handler:
    """Answer `ping` ourselves."""

    async def handle(_call: Call) -> Outcome:
        return Reply(b"{}")

    return endpoint.guard(handle)


def _set_level(endpoint: Endpoint, session: Session) -> Handler:
    """Answer `logging/setLevel` ourselves: levels are filtered here."""
    if "logging" not in endpoint.capabilities:
        raise UnknownMethodError(
            "logging/setLevel", safe_message="Method not found: logging/setLevel"
        )

    async def handle(call: Call) -> Outcome:
        level = call.params.get("level")
        if type(level) is not str or level not in LOG_LEVELS:
            raise RpcError(INVALID_PARAMS, "level must be one of " + ", ".join(LOG_LEVELS))
        session.log_level = level
        return Reply(b"{}")

    return endpoint.guard(handle)


def _subscribe(endpoint: Endpoint, session: Session) -> Handler:
    """Let the provider agree, then note the subscription in the session."""
    inner = endpoint.handler_for("resources/subscribe")

    async def handle(call: Call) -> Outcome:
        reply = await inner(call)
        session.subscribe(call.name)
        return reply

    return handle


def _unsubscribe(endpoint: Endpoint, session: Session) -> Handler:
    """Forget the subscription first: what comes after this is not wanted."""
    inner = endpoint.handler_for("resources/unsubscribe")

    async def handle(call: Call) -> Outcome:
        session.listener.uris.discard(call.name)
        return await inner(call)

    return handle


_SESSION_METHODS: dict[str, Callable[[Endpoint, Session], Handler]] = {
    "ping": _ping,
    "logging/setLevel": _set_level,
    "resources/subscribe": _subscribe,
    "resources/unsubscribe": _unsubscribe,
}
