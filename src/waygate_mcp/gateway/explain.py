"""Why somebody may, or may not, use one entry: the rules in the order they decide.

Knows the rules of access and those of an endpoint. Refuses to decide anything: the authorize step and
the catalog do, by the same functions of the principal.
"""

from __future__ import annotations

import msgspec

from waygate_mcp.errors import UnknownNameError, WaygateError
from waygate_mcp.gateway.endpoint import Endpoint
from waygate_mcp.gateway.names import public_name
from waygate_mcp.model.catalog import Kind, Viewer
from waygate_mcp.model.ports import Screening
from waygate_mcp.model.principal import ANONYMOUS, Principal
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES

__all__ = ["USE_PERMISSIONS", "Explanation", "explain"]

_METHODS = {
    Kind.TOOL: ("tools:list", "tools:call"),
    Kind.PROMPT: ("prompts:list", "prompts:get"),
    Kind.RESOURCE: ("resources:list", "resources:read"),
}

USE_PERMISSIONS = {kind: use for kind, (_, use) in _METHODS.items()}
"""What using an entry of a kind needs."""


class Explanation(msgspec.Struct, frozen=True):
    """`rules` are sentences in the order the rules decide; the last one settles it.

    `is_listed` tells whether the entry is in the principal's lists.
    """

    is_allowed: bool
    is_listed: bool
    provider: str | None
    rules: tuple[str, ...]


async def explain(endpoint: Endpoint, principal: Principal, kind: Kind, name: str) -> Explanation:
    """Tell whether a principal may use an entry by its public name or URI, and why."""
    list_permission, use = _METHODS[kind]
    rules: list[str] = []

    def end(text: str, provider: str | None = None, *, listed: bool = False) -> Explanation:
        return Explanation(False, listed, provider, (*rules, text))

    narrowing = principal.narrowing
    if narrowing is not None and not narrowing.admits(endpoint.name):
        return end(f"The key is narrowed to the endpoints {_listed(narrowing.endpoints)}.")
    if not principal.may("session:open"):
        rules.append("No role of the key grants session:open: MCP clients cannot connect with it.")
    try:
        found = await endpoint.catalog.find(kind, name, Viewer(ANONYMOUS, NO_CAPABILITIES))
    except UnknownNameError:
        reason = _why_missing(endpoint, kind, name)
        return end(f"The endpoint {endpoint.name} has no {kind.value} {name!r}: {reason}.")
    except WaygateError as exc:
        return end(f"It cannot be looked up now: {exc.safe_message}")
    provider = found.provider.name
    rules.append(f"The endpoint {endpoint.name} has it, from {provider}.")
    if narrowing is not None:
        if not narrowing.knows(provider):
            reached = _listed(narrowing.upstreams)
            return end(f"The key is narrowed to the upstreams {reached}.", provider)
        if not narrowing.names_cover(name):
            return end(f"The key is narrowed to the names {_listed(narrowing.names)}.", provider)
    is_listed = principal.may(list_permission) and principal.may_see(
        list_permission, endpoint.name, provider, name
    )
    grant = principal.grant_for(use, name)
    if grant is None:
        roles = _listed(principal.roles) if principal.roles else "it has"
        return end(f"No role of {roles} grants {use} for it.", provider, listed=is_listed)
    source = f"the role {grant.role}" if grant.role else "its permissions"
    rules.append(f"Granted by {source}: {grant}.")
    if not is_listed:
        # What is in no list of a principal is unknown to it whatever it asks.
        return end(f"{list_permission} is not granted for it: grant both.", provider)
    return Explanation(True, is_listed, provider, tuple(rules))


def _why_missing(endpoint: Endpoint, kind: Kind, name: str) -> str:
    if holder := _held_by(endpoint, kind, name):
        return f"its definition waits for approval (`waygate upstreams diff {holder}`)"
    for one in endpoint.status().hidden:
        if name in (one.name, one.original):
            return one.reason
    return "no plugin or upstream here publishes it"


def _held_by(endpoint: Endpoint, kind: Kind, name: str) -> str | None:
    """Give who would publish an entry, were its definition approved."""
    renamed = {new: old for old, new in endpoint.catalog.rules.rename.items()}
    public = renamed.get(name, name)
    for binding in endpoint.catalog.bindings:
        provider = binding.provider
        held = provider.held_names(kind) if isinstance(provider, Screening) else ()
        if public in (public_name(binding.prefix, each) for each in held):
            return provider.name
    return None


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(words)
