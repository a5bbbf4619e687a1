"""The endpoints of one generation, by name.

Knows how a document's endpoints become catalogs. Refuses to know the document's own types: the
runtime translates them into `EndpointPlan`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from waygate_mcp.gateway.catalog import Catalog, Ground
from waygate_mcp.gateway.endpoint import Endpoint
from waygate_mcp.gateway.live import LiveState
from waygate_mcp.gateway.modern_exchange import ParkingPlace
from waygate_mcp.gateway.names import UriMark, is_allowed_by
from waygate_mcp.gateway.offers import Binding, Rules
from waygate_mcp.gateway.parking import ParkingLimits
from waygate_mcp.gateway.tasks import TaskHandles
from waygate_mcp.model.event import Event
from waygate_mcp.model.ports import Provider, Step
from waygate_mcp.protocol.stateless import server_info_meta

__all__ = ["CallLimits", "EndpointPlan", "Filter", "Gateway"]


class Filter(msgspec.Struct, frozen=True):
    """Which entries exist: patterns of public names. `allow` None lets all through, `deny` outweighs it."""

    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()


_ALL = Filter()


class EndpointPlan(msgspec.Struct, frozen=True):
    """What one endpoint shall bind and show.

    `providers` are in the order of the lists. `prefixes` overrides the prefix of single providers;
    without an entry a provider has the one it was first published with here, and before that `name__`
    where several are bound and none where it is alone (decision 0070). `holders` are all who are bound,
    switched off or not, where that is more than `providers`. `allow` and `deny` are about tools. See
    `offers.Rules` for the rest.
    """

    name: str
    providers: tuple[Provider, ...]
    prefixes: Mapping[str, str] = {}
    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()
    instructions: str | None = None
    prompts: Filter = _ALL
    resources: Filter = _ALL
    rename: Mapping[str, str] = {}
    titles: Mapping[str, str] = {}
    descriptions: Mapping[str, str] = {}
    uri_prefixes: Mapping[str, str] = {}
    schemes: Mapping[str, str] = {}
    holders: tuple[str, ...] = ()
    is_strict: bool = False


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

    def public_uri(self, endpoint: str, provider: str, uri: str) -> str | None:
        """Give the URI clients of an endpoint know a provider's resource by, None where they know none."""
        found = self.endpoints.get(endpoint)
        return None if found is None else found.public_uri(provider, uri)


def _build_endpoint(
    plan: EndpointPlan,
    live: LiveState,
    steps: Sequence[Step],
    limits: CallLimits,
    server_info: Mapping[str, Any],
    monotonic: Callable[[], float],
) -> Endpoint:
    """Build one endpoint from its plan."""
    names = live.names
    is_alone = len(plan.providers) == 1
    bindings = []
    for provider in plan.providers:
        alias = provider.name
        prefix = plan.prefixes.get(alias)
        if prefix is None:
            prefix = names.prefix(plan.name, alias)
        if prefix is None:
            prefix = "" if is_alone else f"{alias}__"
        bindings.append(Binding(provider, prefix, UriMark(plan.uri_prefixes.get(alias, ""))))
    bound = [provider.name for provider in plan.providers]
    rules = Rules(
        endpoint=plan.name,
        tools=is_allowed_by(plan.allow, plan.deny),
        prompts=is_allowed_by(plan.prompts.allow, plan.prompts.deny),
        resources=is_allowed_by(plan.resources.allow, plan.resources.deny),
        rename=plan.rename,
        titles=plan.titles,
        descriptions=plan.descriptions,
        schemes=plan.schemes,
        holders=frozenset((*plan.holders, *bound)),
        auto_prefixes=frozenset(bound) - frozenset(plan.prefixes),
        is_strict=plan.is_strict,
        page_size=limits.page_size,
    )
    catalog = Catalog(bindings, rules, Ground(live.ring, names, live.links, monotonic))
    handles = TaskHandles(live.ring, live.now)
    return Endpoint(plan.name, catalog, steps, server_info, handles, plan.instructions)
