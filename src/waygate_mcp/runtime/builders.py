"""From a checked document to a generation: the only place that names concrete classes.

Knows which class fulfils which port. What is opened here goes onto one AsyncExitStack, so that a
half-built generation unwinds by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from waygate_mcp import __version__
from waygate_mcp.auth.api_keys import AnonymousAuthenticator, ApiKeyAuthenticator
from waygate_mcp.auth.bootstrap import BootstrapKey
from waygate_mcp.auth.issuers import open_issuers
from waygate_mcp.auth.jwks import KeySets
from waygate_mcp.auth.oauth import TokenAuthenticator
from waygate_mcp.config.document import EVERYTHING, Document, LimitsSection, PluginSection
from waygate_mcp.config.hosts import is_loopback
from waygate_mcp.config.references import KnownSecrets, resolve_references
from waygate_mcp.config.roles import roles_of
from waygate_mcp.errors import ConfigError, ConfigProblem
from waygate_mcp.gateway.gateway import CallLimits, EndpointPlan, Filter, Gateway
from waygate_mcp.gateway.live import LiveState
from waygate_mcp.gateway.parking import ParkingLimits
from waygate_mcp.gateway.sessions import SessionLimits
from waygate_mcp.gateway.shadow import judge_in_shadow
from waygate_mcp.gateway.steps.at_once import AtOnce, AtOnceUpstream
from waygate_mcp.gateway.steps.audit import started
from waygate_mcp.gateway.steps.authorize import authorize
from waygate_mcp.gateway.steps.limit import Limit
from waygate_mcp.gateway.steps.observe import Observe
from waygate_mcp.gateway.stream_buffer import StreamLimits
from waygate_mcp.model.call import Call
from waygate_mcp.model.event import Event, ResourceUpdated
from waygate_mcp.model.ports import Announce, Authenticator, Provider, Step
from waygate_mcp.model.rate import Rate, parse_rate
from waygate_mcp.model.shadow import ShadowRoles
from waygate_mcp.plugins.lifecycle import open_plugins
from waygate_mcp.plugins.mounted import mount
from waygate_mcp.policy.limits import Limiter, Rules
from waygate_mcp.policy.pinned import PinnedProvider
from waygate_mcp.policy.places import Caps, Crowd
from waygate_mcp.runtime.call_notes import CallNotes
from waygate_mcp.runtime.foundation import Foundation
from waygate_mcp.runtime.generation import CallsInFlight, Generation
from waygate_mcp.runtime.peers import Peers
from waygate_mcp.runtime.upstreams import examine_upstreams, resolve_upstreams
from waygate_mcp.upstreams.opening import UpstreamConfig
from waygate_mcp.upstreams.steady import SteadyUpstream
from waygate_mcp.upstreams.streamable_http import connect

__all__ = ["MakeGuard", "apply_to_live", "open_generation", "server_info"]

Guard = TypeVar("Guard")

MakeGuard = Callable[[Document, Callable[[], Authenticator], Callable[[str], None]], Guard]
"""How a door makes its guard: of the document, who authenticates, who is told of failures.

Who authenticates is made when the door asks: standard input never does, and needs no key.
"""


def server_info() -> dict[str, Any]:
    """Give what clients are told of this server: `Implementation` of the specification."""
    return {"name": "waygate-mcp", "title": "Waygate MCP", "version": __version__}


async def open_generation(
    foundation: Foundation,
    number: int,
    document: Document,
    make_guard: MakeGuard[Guard],
    bootstrap: Callable[[], BootstrapKey],
    folder: Path | None = None,
    on_file: Callable[[Path], object] | None = None,
) -> Generation[Guard]:
    """Build a generation and open all it needs. What fails leaves nothing open.

    `bootstrap` gives the bootstrap key; it is asked only where the document wants keys. `folder` is
    the document's, and `on_file` is told of the files plugins are run from (see `open_plugins`).

    Raises:
        ConfigError: the document does not fit this process or its plugins.
        PluginError: a plugin could not be opened.
    """
    announcer = _Announcer()
    known = await foundation.secrets.gather(document)
    async with AsyncExitStack() as stack:
        providers = await stack.enter_async_context(
            open_plugins(
                _resolved(document, foundation, known),
                announcer.for_plugins(foundation.peers),
                mount=partial(mount, connect=partial(connect, supervisor=foundation.supervisor)),
                sync_threads=document.limits.sync_threads,
                folder=folder,
                on_file=on_file,
            )
        )
        configs = await _upstreams(document, foundation, folder, known)
        told = announcer.for_upstreams(foundation.peers, configs)
        upstreams = await stack.enter_async_context(foundation.upstreams.use(configs, told))
        offering = (*providers, *_pinned(document, foundation, upstreams))
        limiter = _limiter(document, foundation)
        gateway = announcer.gateway = _gateway(document, foundation, offering, limiter)
        authenticator = partial(_authenticator, document, foundation, bootstrap)
        guard = make_guard(document, authenticator, _on_failure(document, foundation))
        foundation.secrets.in_force(document, known)
        return Generation(
            number=number,
            document=document,
            settings=foundation.settings,
            providers=offering,
            upstreams={upstream.name: upstream for upstream in upstreams},
            gateway=gateway,
            guard=guard,
            calls=CallsInFlight(),
            limiter=limiter,
            opened=stack.pop_all(),
        )


def apply_to_live(document: Document, gateway: Gateway, live: LiveState) -> None:
    """Let the state of conversations, which outlives reloads, follow the document now in force."""
    limits = document.limits
    live.hub.route_by(gateway.binds, gateway.public_uri)
    live.sessions.limits = SessionLimits(
        count=limits.sessions_max,
        idle_s=limits.session_idle_s,
    )
    live.sessions.stream_limits = StreamLimits(
        limits.stream_events, limits.stream_bytes, limits.stream_keep_s
    )


class _Announcer:
    """Passes events of providers on to the gateway, which is built after them."""

    def __init__(self) -> None:
        self.gateway: Gateway | None = None

    def __call__(self, event: Event) -> None:
        if self.gateway is not None:
            self.gateway.announce(event)

    def for_plugins(self, peers: Peers | None) -> Announce:
        """Give what plugins announce to: each worker has its own, and all listeners want to hear."""
        if peers is None:
            return self

        def tell_all(event: Event) -> None:
            self(event)
            if self.gateway is not None:
                peers.tell(event)

        return tell_all

    def for_upstreams(self, peers: Peers | None, configs: Mapping[str, UpstreamConfig]) -> Announce:
        """Give what upstreams announce to.

        Each worker hears of changed lists itself, and all hear the host of processes. An update of a
        resource is told by a URL's server to the worker that subscribed alone.
        """
        if peers is None:
            return self

        def tell(event: Event) -> None:
            self(event)
            if isinstance(event, ResourceUpdated) and configs[event.provider].command is None:
                peers.tell(event)

        return tell


def _resolved(
    document: Document, foundation: Foundation, known: KnownSecrets
) -> dict[str, PluginSection]:
    """Give the plugins to load, every reference in their configuration resolved.

    Raises:
        ConfigError: all references that cannot be resolved.
    """
    sections: dict[str, PluginSection] = {}
    problems: list[ConfigProblem] = []
    for name, section in document.enabled_plugins().items():
        try:
            config = resolve_references(
                section.config,
                data_dir=foundation.settings.data_dir,
                path=f"plugins.{name}.config",
                on_secret=foundation.logs.redactor.remember,
                known=known,
            )
        except ConfigError as exc:
            problems.extend(exc.problems)
        else:
            sections[name] = section.model_copy(update={"config": config})
    if problems:
        raise ConfigError(problems=problems)
    return sections


async def _upstreams(
    document: Document, foundation: Foundation, folder: Path | None, known: KnownSecrets
) -> dict[str, UpstreamConfig]:
    """Give the upstreams to open, every reference in their sections resolved.

    Raises:
        ConfigError: all that is wrong with any of them, where a reference cannot be resolved.
    """
    data_dir = foundation.settings.data_dir
    try:
        return resolve_upstreams(
            document.enabled_upstreams(),
            folder,
            data_dir=data_dir,
            on_secret=foundation.logs.redactor.remember,
            known=known,
        )
    except ConfigError:
        problems = await asyncio.to_thread(examine_upstreams, document, folder, data_dir, known)
        raise ConfigError(problems=problems) from None


def _gateway(
    document: Document, foundation: Foundation, offering: Sequence[Provider], limiter: Limiter
) -> Gateway:
    gateway = Gateway(
        _plans(document, offering),
        foundation.live,
        _steps(document, foundation, Limit(limiter.admit)),
        _call_limits(document.limits),
        server_info(),
    )
    caps = _caps(document)
    count = foundation.metrics.count_rate_limited
    for endpoint in gateway.endpoints.values():
        endpoint.admit = _admit(document, foundation, limiter)
        if caps.upstreams:
            endpoint.hold = AtOnceUpstream(Crowd(caps.of_upstream, foundation.places, count))
    return gateway


def _pinned(
    document: Document, foundation: Foundation, upstreams: Sequence[SteadyUpstream]
) -> tuple[Provider, ...]:
    """Put the upstreams behind their pins, where the document does not do without."""
    modes = {one.name: document.quarantine_of(one.name) for one in upstreams}
    return tuple(
        one
        if modes[one.name] == "off"
        else PinnedProvider(
            one, foundation.pins.of(one.name), trusts_first=modes[one.name] == "first-use"
        )
        for one in upstreams
    )


def _steps(document: Document, foundation: Foundation, limit: Step) -> tuple[Step, ...]:
    """Give the rings around every call, outermost first."""
    trail = foundation.audit.trail if document.audit.enabled else None
    observe = Observe(
        foundation.metrics, foundation.logs.redactor, _notes(foundation), recorder=trail
    )
    caps = _caps(document)
    limits: tuple[Step, ...] = (limit,)
    if caps.bind_callers:  # before the rates: what is refused for its number spends nothing
        count = foundation.metrics.count_rate_limited
        limits = (AtOnce(Crowd(caps.of_caller, foundation.places, count)), limit)
    if trail is None:
        return (observe, *limits, authorize)
    is_strict = document.audit.durability == "strict"
    return (observe, *limits, authorize, started(trail, is_strict=is_strict))


def _admit(
    document: Document, foundation: Foundation, limiter: Limiter
) -> Callable[[Call], Awaitable[None] | None]:
    """Give who is asked about a call when it is known who answers it."""
    if not document.shadow_roles:
        return limiter.admit_upstream
    roles = ShadowRoles(roles_of(document.roles), roles_of(document.shadow_roles, built_in=False))
    count = foundation.metrics.count_shadow_refusal
    judge = judge_in_shadow(roles, count, foundation.clock.monotonic)

    def admit(call: Call) -> Awaitable[None] | None:
        waits = limiter.admit_upstream(call)
        judge(call)
        return waits

    return admit


def _on_failure(document: Document, foundation: Foundation) -> Callable[[str], None]:
    """Give who is told of credentials that are refused."""
    count = foundation.metrics.count_auth_failure
    if not document.audit.enabled:
        return count
    record = foundation.audit.trail.refuse_at_door

    def tell(reason: str) -> None:
        count(reason)
        record(reason)

    return tell


def _authenticator(
    document: Document, foundation: Foundation, bootstrap: Callable[[], BootstrapKey]
) -> Authenticator:
    if document.auth.mode == "none":
        # The document was checked against the settings; this is the door's own lock.
        if not is_loopback(foundation.settings.host):
            raise ConfigError(
                f"`none` is refused because the server listens on {foundation.settings.host}",
                path="auth.mode",
            )
        return AnonymousAuthenticator()
    keys = None
    if document.auth.takes_keys:
        keys = ApiKeyAuthenticator(
            foundation.key_hash, (bootstrap().record,), foundation.keys, roles_of(document.roles)
        )
    if not document.auth.takes_tokens:
        assert keys is not None, "the modes are four"
        return keys
    clock = foundation.clock
    key_sets = foundation.key_sets or KeySets(foundation.supervisor, clock.monotonic)
    return TokenAuthenticator(open_issuers(document, key_sets), clock.now, clock.monotonic, keys)


def _limiter(document: Document, foundation: Foundation) -> Limiter:
    rates = document.limits.rates
    per_minute = foundation.settings.rate_limit
    usual = (Rate(per_minute, 60.0, max(1, per_minute // 30)),)
    rules = Rules(
        _read_rates(rates.default) or usual,
        roles={name: _read_rates(texts) for name, texts in rates.roles.items()},
        keys={name: _read_rates(texts) for name, texts in rates.keys.items()},
        tools={name: _read_rates(texts) for name, texts in rates.tools.items()},
        upstreams={name: _read_rates(texts) for name, texts in rates.upstreams.items()},
    )
    return Limiter(rules, foundation.counters, foundation.metrics.count_rate_limited)


def _caps(document: Document) -> Caps:
    given = document.limits.concurrent
    return Caps(given.default, given.roles, given.keys, given.tools, given.upstreams)


def _read_rates(texts: Sequence[str]) -> tuple[Rate, ...]:
    return tuple(parse_rate(text) for text in texts)


def _plans(document: Document, providers: Sequence[Provider]) -> list[EndpointPlan]:
    by_name = {provider.name: provider for provider in providers}
    plans = []
    for name, endpoint in document.endpoints.items():
        bound = tuple(by_name[each] for each in document.bound_providers(name) if each in by_name)
        texts: dict[str, str] = {}
        if endpoint.prefix == "none":
            texts = {provider.name: "" for provider in bound}
        for alias, prefix in endpoint.prefixes.items():
            texts[alias] = f"{prefix}__" if prefix else ""
        tools = endpoint.tools
        plans.append(
            EndpointPlan(
                name,
                bound,
                prefixes=texts,
                allow=_allowed(tools.allow),
                deny=tools.deny,
                instructions=endpoint.instructions,
                prompts=Filter(_allowed(endpoint.prompts.allow), endpoint.prompts.deny),
                resources=Filter(_allowed(endpoint.resources.allow), endpoint.resources.deny),
                rename=tools.rename,
                titles=tools.titles,
                descriptions=tools.describe,
                uri_prefixes=endpoint.uri_prefixes,
                schemes=endpoint.schemes,
                holders=document.holders(name),
                is_strict=endpoint.strict,
            )
        )
    return plans


def _allowed(patterns: tuple[str, ...]) -> tuple[str, ...] | None:
    """Give the patterns; None for the one that allows all."""
    return None if patterns == (EVERYTHING,) else patterns


def _notes(foundation: Foundation) -> CallNotes:
    return CallNotes(foundation.writer, foundation.clock.now)


def _call_limits(limits: LimitsSection) -> CallLimits:
    parking = ParkingLimits(
        per_principal=limits.parked_per_principal,
        per_upstream=limits.parked_per_upstream,
        total=limits.parked_total,
        question_s=limits.question_timeout_s,
        parked_s=limits.parked_call_timeout_s,
    )
    return CallLimits(limits.call_timeout_s, limits.page_size, parking)
