"""The endpoints of one generation, by name.

Knows how a document's endpoints become catalogs. Refuses to know the document's own types: the
runtime translates them into `EndpointPlan`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from waygate_mcp.gateway.catalog import Binding, Catalog
from waygate_mcp.gateway.endpoint import Endpoint
from waygate_mcp.gateway.live import LiveState
from waygate_mcp.gateway.modern_exchange import ParkingPlace
from waygate_mcp.gateway.names import is_allowed_by
from waygate_mcp.gateway.parking import ParkingLimits
from waygate_mcp.model.event import Event
from waygate_mcp.model.ports import Provider, Step
from waygate_mcp.protocol.stateless import server_info_meta

__all__ = ["CallLimits", "EndpointPlan", "Gateway"]


class EndpointPlan(msgspec.Struct, frozen=True):
    """What one endpoint shall bind and show.

    `providers` are in the order of the lists. `prefixes` overrides the prefix of single providers;
    without an entry a provider has `name__` where several are bound and none where it is alone
    (decisions.md 12). `allow` None lets every tool through.
    """

    name: str
    providers: tuple[Provider, ...]
    prefixes: Mapping[str, str] = {}
    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()
    instructions: str | None = None


class CallLimits(msgspec.Struct, frozen=True):
    """Limits of calls: seconds of work, entries on a page, parking."""

    call_timeout_s: float = 300.0
    page_size: int = 1_000
    parking: ParkingLimits = ParkingLimits()


class Gateway:
    """All endpoints of one generation and the limits they share."""

    def __init__(
        self,
        plans: Sequence[EndpointPlan],
        live: LiveState,
        steps: Sequence[Step],
        limits: CallLimits,
        server_info: Mapping[str, Any],
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        self.limits = limits
        self.live = live
        self.server_info = server_info
        self.server_info_meta = server_info_meta(server_info)
        self.parking_place = ParkingPlace(
            live.parking, live.tickets, limits.parking, self.server_info_meta
        )
        clock = monotonic or live.monotonic
        self.endpoints: dict[str, Endpoint] = {
            plan.name: _build_endpoint(plan, live, steps, limits, server_info, clock)
            for plan in plans
        }

    def announce(self, event: Event) -> None:
        """Take an event of a provider: catalogs forget, listeners hear."""
        for endpoint in self.endpoints.values():
            endpoint.forget(event)
        self.live.hub.announce(event)

    def binds(self, endpoint: str, provider: str) -> bool:
        """Tell whether the endpoint of that name shows the provider."""
        found = self.endpoints.get(endpoint)
        return found is not None and found.binds(provider)


def _build_endpoint(
    plan: EndpointPlan,
    live: LiveState,
    steps: Sequence[Step],
    limits: CallLimits,
    server_info: Mapping[str, Any],
    monotonic: Callable[[], float],
) -> Endpoint:
    """Build one endpoint from its plan."""
    is_alone = len(plan.providers) == 1
    bindings = [
        Binding(
            provider, plan.prefixes.get(provider.name, "" if is_alone else f"{provider.name}__")
        )
        for provider in plan.providers
    ]
    catalog = Catalog(
        bindings, is_allowed_by(plan.allow, plan.deny), limits.page_size, live.ring, monotonic
    )
    return Endpoint(plan.name, catalog, steps, server_info, plan.instructions)
