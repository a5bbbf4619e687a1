"""What listeners of both eras share: opening one, subscribing for it, and waiting for what it is due.

Knows that who provides a resource must be told that somebody wants to hear of it, and when nobody does any
more. Refuses to know how that is said upstream: a provider is called as for a legacy client that subscribes.
Spec: 2026-07-28 basic/patterns/subscriptions; protocol.md 4, `resources/subscribe`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress

import msgspec

from waygate_mcp.errors import (
    InterruptedCallError,
    LimitError,
    WaygateError,
)
from waygate_mcp.gateway.endpoint import Endpoint
from waygate_mcp.gateway.gateway import Gateway
from waygate_mcp.gateway.hub import Change, Hub, Listener
from waygate_mcp.gateway.sessions import Session
from waygate_mcp.model.call import Call
from waygate_mcp.model.catalog import Kind, Viewer
from waygate_mcp.model.nobody import NOBODY
from waygate_mcp.model.ports import Supervisor
from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.stateless import ListenFilter
from waygate_mcp.protocol.versions import MODERN

__all__ = [
    "Subscriber",
    "announce_changes",
    "confirmed_filter",
    "open_listener",
    "subscribed",
    "unsubscribe",
    "word_change",
]

_log = logging.getLogger(__name__)
_SUBSCRIBED_WITHIN_S = 3.0
"""Seconds an acknowledgement waits for those who provide the resources (protocol.md 4, listen ack)."""
_AT_ONCE = 32


class Subscriber(msgspec.Struct, frozen=True):
    """Who listens: the endpoint, what its client said of itself, and the session it has, if any."""

    endpoint: str
    principal: Principal
    capabilities: ClientCapabilities
    request_id: str
    session_id: str | None = None

    @classmethod
    def of_session(cls, session: Session) -> Subscriber:
        """Give the subscriber a legacy session is."""
        return cls(
            session.endpoint,
            session.principal,
            session.capabilities,
            f"end-of-session-{session.id}",
            session.id,
        )

    def call(self, method: str, uri: str, deadline_s: float) -> Call:
        """Write the call by which a provider hears of a subscription, or of its end."""
        return Call(
            request_id=self.request_id,
            endpoint=self.endpoint,
            method=method,
            name=uri,
            params={"uri": uri},
            body=b"",
            principal=self.principal,
            revision=MODERN,
            capabilities=self.capabilities,
            caller=NOBODY,
            deadline_s=deadline_s,
            session_id=self.session_id,
        )


@asynccontextmanager
async def subscribed(
    current: Callable[[], Gateway],
    listener: Listener,
    confirmed: ListenFilter,
    subscriber: Subscriber,
    supervisor: Supervisor,
) -> AsyncIterator[ListenFilter]:
    """Keep what a listener's resources need subscribed while inside; gives what is confirmed of its filter.

    A resource is confirmed once its provider agreed, which is waited for; nothing is missed from then on.
    `current` gives the gateway in force: a listener may outlive the one it began with.
    """
    agreed: dict[str, None] = {}
    try:
        if confirmed.uris:
            await _subscribe(current(), confirmed.uris, subscriber, agreed)
        uris = tuple(uri for uri in confirmed.uris if uri in agreed)
        listener.uris.intersection_update(uris)
        yield msgspec.structs.replace(confirmed, uris=uris)
    finally:
        if agreed:
            ending = _end_subscriptions(current, subscriber, tuple(agreed))
            with suppress(LimitError):  # the house closes, and with it every connection
                supervisor.start(ending, name="unsubscribe")


async def _subscribe(
    gateway: Gateway, uris: Sequence[str], subscriber: Subscriber, agreed: dict[str, None]
) -> None:
    """Tell whoever provides these resources, and note who agreed; what takes too long did not."""
    handler = gateway.endpoints[subscriber.endpoint].handler_for("resources/subscribe")
    deadline_s = gateway.live.monotonic() + _SUBSCRIBED_WITHIN_S
    turns = asyncio.Semaphore(_AT_ONCE)

    async def subscribe(uri: str) -> None:
        async with turns:
            try:
                await handler(subscriber.call("resources/subscribe", uri, deadline_s))
            except WaygateError as exc:
                _log.debug("not subscribed to %s: %s", uri, exc)
            else:
                agreed[uri] = None

    try:
        async with (
            asyncio.timeout(_SUBSCRIBED_WITHIN_S),
            asyncio.TaskGroup() as group,
        ):  # owned here
            for uri in uris:
                group.create_task(subscribe(uri))
    except TimeoutError:
        _log.debug("some of %d resources could not be subscribed to in time", len(uris))


async def _end_subscriptions(
    current: Callable[[], Gateway], subscriber: Subscriber, uris: Sequence[str]
) -> None:
    """Unsubscribe, as long as anything is in force."""
    try:
        gateway = current()
    except InterruptedCallError:
        return
    await unsubscribe(gateway, subscriber, uris)


async def unsubscribe(gateway: Gateway, subscriber: Subscriber, uris: Iterable[str]) -> None:
    """Tell whoever provides these resources that this subscriber wants to hear no more of them.

    This is housekeeping of ours, no request of a client's: the steps are not asked.
    """
    endpoint = gateway.endpoints.get(subscriber.endpoint)
    if endpoint is None:
        return
    viewer = Viewer(subscriber.principal, subscriber.capabilities)
    for uri in uris:
        deadline_s = gateway.live.monotonic() + _SUBSCRIBED_WITHIN_S
        call = subscriber.call("resources/unsubscribe", uri, deadline_s)
        try:
            async with asyncio.timeout(_SUBSCRIBED_WITHIN_S):
                found = await endpoint.catalog.find(Kind.RESOURCE, uri, viewer)
                call.target, call.provider = found.target, found.provider.name
                await found.provider.call(call)
        except (WaygateError, TimeoutError) as exc:
            _log.debug("not unsubscribed from %s: %s", uri, exc)


def confirmed_filter(
    endpoint: Endpoint, wanted: ListenFilter, principal: Principal
) -> ListenFilter:
    """Reduce a filter to what the endpoint can honour and the principal may see.

    The acknowledgement says so. What is not allowed looks like what is not there (threat model
    rules 9 and 10).
    """
    offered, may = endpoint.capabilities, principal.may
    subscribes = offered.get("resources", {}).get("subscribe") and may("resources:read")
    return ListenFilter(
        tools=wanted.tools and "tools" in offered and may("tools:list"),
        prompts=wanted.prompts and "prompts" in offered and may("prompts:list"),
        resources=wanted.resources and "resources" in offered and may("resources:list"),
        uris=tuple(filter(endpoint.shows_uri, wanted.uris)) if subscribes else (),
    )


def open_listener(
    hub: Hub, endpoint: str, principal: Principal, confirmed: ListenFilter
) -> Listener:
    """Let a listen stream hear from now on; the caller removes it from the hub at its end."""
    kinds: set[Kind] = set()
    if confirmed.tools:
        kinds.add(Kind.TOOL)
    if confirmed.prompts:
        kinds.add(Kind.PROMPT)
    if confirmed.resources:
        kinds |= {Kind.RESOURCE, Kind.TEMPLATE}
    listener = Listener(endpoint, principal, frozenset(kinds))
    listener.uris.update(confirmed.uris)
    hub.add(listener)
    return listener


async def announce_changes(listener: Listener) -> AsyncIterator[Change]:
    """Yield each change due, until the listener is closed."""
    while (changes := await listener.take()) is not None:
        for change in changes:
            yield change


def word_change(change: Change) -> bytes:
    """Word a change for a legacy session."""
    params = change.params
    if change.uri is not None:
        params = jsonrpc.encode_json({"uri": change.uri})
    return jsonrpc.encode_notification(change.method, params)
