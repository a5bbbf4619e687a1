"""What listeners of both eras share: opening one, and waiting for what it is due.

Spec: 2026-07-28 basic/patterns/subscriptions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from waygate_mcp.gateway.endpoint import Endpoint
from waygate_mcp.gateway.hub import Hub, Listener
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol.stateless import ListenFilter

__all__ = ["announce_changes", "confirmed_filter", "open_listener"]


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


async def announce_changes(listener: Listener) -> AsyncIterator[tuple[str, str | None]]:
    """Yield (method, URI or None) of each change due, until the listener is closed."""
    while (changes := await listener.take()) is not None:
        for change in changes:
            yield change.method, change.uri
