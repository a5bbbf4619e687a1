"""What one endpoint shows: public names, the providers behind them, lists and their pages.

Knows entries by their public names. Refuses to know what a name does. What is built from the
providers' listings is kept until one of them announces a change or its time is up, so that a call
costs one look-up. Providers are asked all at once, and a name stays with the first who published it.
Spec: 2026-07-28 server/tools, server/utilities/caching, server/utilities/pagination; protocol.md 5.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from waygate_mcp.errors import (
    UnknownNameError,
    UpstreamUnavailableError,
    WaygateError,
)
from waygate_mcp.gateway.cursors import read_cursor, write_cursor
from waygate_mcp.gateway.name_table import PREFIX, NameTable
from waygate_mcp.gateway.offers import (
    NAMED_KINDS,
    Binding,
    BindingStatus,
    EndpointStatus,
    Found,
    HiddenEntry,
    Offers,
    Part,
    Rules,
)
from waygate_mcp.gateway.seen_links import SeenLinks
from waygate_mcp.model.call import Reply
from waygate_mcp.model.catalog import Condition, Kind, Listing, NameClaim, Viewer
from waygate_mcp.model.event import Event, ListChanged
from waygate_mcp.model.ports import Refreshable
from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol.handshake import downgrade_definition
from waygate_mcp.protocol.seal import KeyRing
from waygate_mcp.protocol.tasks import has_legacy_tasks, hide_task_support
from waygate_mcp.protocol.uris import UriTemplate
from waygate_mcp.protocol.versions import Revision

__all__ = ["Catalog", "Ground"]

_log = logging.getLogger(__name__)
_KEPT_VIEWS = 512
_KEPT_WARNINGS = 1_000
_MAX_TTL_MS = 60_000
_FAILED_TTL_MS = 5_000
_LIST_WAIT_S = 10.0
"""Seconds any provider may take for a listing; upstreams bound themselves to less."""
_CALL_PATIENCE_S = 0.25
"""Seconds a call waits for lists to be read again where the old ones know its name."""
_CALL_PATIENCE_EVERY_S = 5.0
"""Seconds in which only one call waits so."""
_REFRESH_EVERY_S = 10.0
"""Seconds between two readings of one provider's list for names nobody knows."""
_LIST_MEMBERS = {
    Kind.TOOL: b"tools",
    Kind.PROMPT: b"prompts",
    Kind.RESOURCE: b"resources",
    Kind.TEMPLATE: b"resourceTemplates",
}
_MISSING = Listing((), 0, 1_000, "private", "missing")


class Ground(msgspec.Struct, frozen=True):
    """What catalogs of all generations share: the seals of cursors, whose names are, links seen, the clock."""

    ring: KeyRing
    names: NameTable
    links: SeenLinks
    monotonic: Callable[[], float]


class _View(msgspec.Struct):
    """One kind as one class of viewers sees it. `pages` keeps whole lists by revision.

    `places` are the numbers of the bindings the names come from; both stand in the list's order.
    `parts` and `conditions` are those of the bindings, in their order.
    """

    names: tuple[str, ...]
    places: tuple[int, ...]
    definitions: tuple[bytes, ...]
    index: dict[str, Found]
    ttl_ms: int
    cache_scope: Literal["public", "private"]
    expires_s: float
    parts: tuple[Part, ...]
    conditions: tuple[Condition, ...]
    templates: tuple[tuple[UriTemplate, Found], ...]
    pages: dict[str, Reply]


class _Slot:
    """The view of one class of viewers, and who builds it."""

    def __init__(self) -> None:
        self.view: _View | None = None
        self.old_will_do_until_s = float("-inf")
        self.lock = asyncio.Lock()


_Key = tuple[Kind, object, str | None, object]
_LIST_PERMISSION = {
    Kind.TOOL: "tools:list",
    Kind.PROMPT: "prompts:list",
    Kind.RESOURCE: "resources:list",
    Kind.TEMPLATE: "resources:list",
}
_PartKey = tuple[int, Kind, object]


class Catalog:
    """The entries of one endpoint. `bindings` stand in the order lists are shown."""

    def __init__(self, bindings: Sequence[Binding], rules: Rules, ground: Ground) -> None:
        self.bindings = tuple(bindings)
        self.rules = rules
        self._ground = ground
        self._monotonic = ground.monotonic
        self._offers = Offers(bindings, rules)
        self._by_name = {binding.provider.name: binding for binding in self.bindings}
        self._slots: OrderedDict[_Key, _Slot] = OrderedDict()
        self._private_kinds: set[Kind] = set()
        self._last_public: dict[_PartKey, Listing] = {}
        self._changes = 0
        self._hidden: dict[tuple[Kind, int], tuple[HiddenEntry, ...]] = {}
        self._conditions: dict[tuple[Kind, int], Condition] = {}
        self._seen_keys: set[str] = set()
        self._warned: set[tuple[str, str, str]] = set()
        self._refreshing = [asyncio.Lock() for _ in self.bindings]
        self._refreshed_s: dict[tuple[int, Kind], float] = {}

    # --- what is kept

    def forget(self, event: Event) -> None:
        """Take for stale what a change of a list made so."""
        if isinstance(event, ListChanged):
            self._changes += 1
            for key, slot in self._slots.items():
                if key[0] is event.kind and slot.view is not None:
                    slot.view.expires_s = float("-inf")

    def find_known(self, kind: Kind, name: str, viewer: Viewer) -> Found | None:
        """Find who answers for a name in what is known and fresh, None where that has to be asked."""
        slot = self._slots.get(self._key(kind, viewer))
        view = None if slot is None else slot.view
        if view is None or view.expires_s <= self._monotonic():
            return None
        return view.index.get(name)

    def _key(self, kind: Kind, viewer: Viewer) -> _Key:
        """Name the class of viewers that see the same: by principal only where somebody lists so."""
        who = viewer.principal.id if kind in self._private_kinds else None
        return (kind, viewer.capabilities, who, viewer.principal.scope)

    def _slot(self, key: _Key) -> _Slot:
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = _Slot()
            if len(self._slots) > _KEPT_VIEWS:
                self._slots.popitem(last=False)
        else:
            self._slots.move_to_end(key)
        return slot

    async def _view(self, kind: Kind, viewer: Viewer) -> _View:
        """Give the view of a class of viewers, built once for all who wait where none is fresh."""
        while True:
            key = self._key(kind, viewer)
            slot = self._slot(key)
            if slot.view is not None and slot.view.expires_s > self._monotonic():
                return slot.view
            async with slot.lock:
                if key != self._key(kind, viewer):
                    continue  # meanwhile somebody was found to list by principal
                if slot.view is None or slot.view.expires_s <= self._monotonic():
                    return await self._build(kind, viewer, slot)
                return slot.view

    async def _build(self, kind: Kind, viewer: Viewer, slot: _Slot) -> _View:
        """Ask all providers at once and merge what they list."""
        changes = self._changes
        asked = (_ask(binding, kind, viewer) for binding in self.bindings)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        listings = [
            self._take((place, kind, viewer.capabilities), answer)
            for place, answer in enumerate(answers)
        ]
        private = (one.cache_scope == "private" and one.condition != "missing" for one in listings)
        if any(private) and kind not in self._private_kinds:
            self._private_kinds.add(kind)
            slot = self._slot(self._key(kind, viewer))
        old = () if slot.view is None else slot.view.parts
        parts = [
            old[place]
            if old and old[place].entries is listing.entries
            else self._offers.part(kind, self.bindings[place], listing.entries)
            for place, listing in enumerate(listings)
        ]
        await self._claim(kind, parts)
        view = self._merge(kind, parts, listings, viewer.principal)
        if changes != self._changes:  # something changed while the listings were read
            view.expires_s = float("-inf")
        slot.view = view
        return view

    def _take(self, kept: _PartKey, answer: Listing | BaseException) -> Listing:
        """Take a provider's answer. What went wrong there is confined to its own part of the list."""
        place, kind, _ = kept
        if isinstance(answer, BaseException):  # the provider's own; ours would not have come here
            if not isinstance(answer, WaygateError | TimeoutError):
                provider = self.bindings[place].provider.name
                _log.error("%s: listing %ss failed", provider, kind.value, exc_info=answer)
            answer = _MISSING
        if answer.condition == "missing":
            last = self._last_public.get(kept)
            if last is not None:  # it answered somebody else, and said that all may see it
                return msgspec.structs.replace(last, ttl_ms=1_000, condition="kept")
        elif answer.cache_scope == "public":
            self._last_public[kept] = answer
        return answer

    # --- names

    async def _claim(self, kind: Kind, parts: Sequence[Part]) -> None:
        """Claim the names that are nobody's, for the first binding that offers each."""
        rules, table = self.rules, self._ground.names
        wanted: dict[NameClaim, NameClaim | None] = {}
        taken: set[str] = set()
        for binding, part in zip(self.bindings, parts, strict=True):
            provider = binding.provider.name
            for offer in part.offers:
                target = offer.found.target
                owner = table.owner(rules.endpoint, kind.value, offer.name)
                if owner is not None and owner.provider == provider and owner.original == target:
                    continue  # the usual case
                if offer.name in taken or (owner is not None and not self._is_void(kind, owner)):
                    continue
                taken.add(offer.name)
                claim = NameClaim(rules.endpoint, kind.value, offer.name, provider, target)
                wanted[claim] = owner
            is_new = table.prefix(rules.endpoint, provider) is None
            if part.offers and kind in NAMED_KINDS and is_new and provider in rules.auto_prefixes:
                claim = NameClaim(rules.endpoint, PREFIX, provider, provider, binding.prefix)
                wanted[claim] = None
        if wanted:
            await table.claim(wanted)

    def _is_void(self, kind: Kind, claim: NameClaim) -> bool:
        """Tell whether a claim's holder is bound no more, or has another name for that entry now."""
        binding = self._by_name.get(claim.provider)
        if binding is None:
            return claim.provider not in self.rules.holders
        return self._offers.names(kind, binding, claim.original)[0] != claim.name

    def _merge(
        self, kind: Kind, parts: Sequence[Part], listings: Sequence[Listing], principal: Principal
    ) -> _View:
        """Merge parts: binding order, then name. Each name is its owner's.

        What the principal may not see is left out here, so that it is answered for as what does not
        exist, whatever is asked (threat model rules 9 and 10).
        """
        index: dict[str, Found] = {}
        places: list[int] = []
        definitions: list[bytes] = []
        owner_of = self._ground.names.owner
        endpoint = self.rules.endpoint
        is_narrow, permission = principal.scope is not None, _LIST_PERMISSION[kind]
        for place, part in enumerate(parts):
            hidden = list(part.hidden)
            provider = self.bindings[place].provider.name
            for offer in part.offers:
                name, target = offer.name, offer.found.target
                owner = owner_of(
                    endpoint, kind.value, name
                )  # None: it holds too many, and lost this
                is_others = owner is not None and (owner.provider, owner.original) != (
                    provider,
                    target,
                )
                if is_others or name in index:
                    holder = index[name].provider.name if owner is None else owner.provider
                    reason = f"is hidden: the name belongs to {holder}"
                    hidden.append(HiddenEntry(kind.value, provider, target, name, reason))
                    continue
                if is_narrow and not principal.may_see(permission, endpoint, provider, name):
                    continue
                index[name] = offer.found
                places.append(place)
                definitions.append(offer.definition)
            self._conditions[kind, place] = listings[place].condition
            if listings[place].condition != "missing":
                self._note_hidden(kind, place, hidden)
        conditions = tuple(listing.condition for listing in listings)
        if kind is Kind.TOOL and self._offers.keys:
            self._note_keys(parts, conditions)
        ttl_ms = min((listing.ttl_ms for listing in listings), default=0)
        is_whole = all(condition == "current" for condition in conditions)
        ttl_ms = max(min(ttl_ms, _MAX_TTL_MS if is_whole else _FAILED_TTL_MS), 0)
        is_private = any(listing.cache_scope == "private" for listing in listings)
        return _View(
            names=tuple(index),
            places=tuple(places),
            definitions=tuple(definitions),
            index=index,
            ttl_ms=ttl_ms,
            cache_scope="private" if is_private else "public",
            expires_s=self._monotonic() + max(ttl_ms / 1000.0, 1.0),
            parts=tuple(parts),
            conditions=conditions,
            templates=self._templates(parts, principal),
            pages={},
        )

    def _templates(
        self, parts: Sequence[Part], principal: Principal
    ) -> tuple[tuple[UriTemplate, Found], ...]:
        """Give what URIs that stand in no list are matched with, the most specific first."""
        endpoint = self.rules.endpoint
        found = [
            pair
            for part in parts
            for pair in part.templates
            if principal.may_reach(endpoint, pair[1].provider.name)
        ]
        found.sort(key=lambda pair: pair[0].specificity)  # equal ones keep the bindings' order
        return tuple(found)

    def _note_hidden(self, kind: Kind, place: int, hidden: Sequence[HiddenEntry]) -> None:
        """Keep what is hidden for `status`, and tell the operator, once for each."""
        self._hidden[kind, place] = tuple(hidden[:_KEPT_WARNINGS])
        for one in hidden:
            what = (one.kind, one.provider, one.original)
            if what not in self._warned and len(self._warned) < _KEPT_WARNINGS:
                self._warned.add(what)
                _log.warning("%s %a of %s %s", one.kind, one.name[:200], one.provider, one.reason)

    def _note_keys(self, parts: Sequence[Part], conditions: Sequence[Condition]) -> None:
        """Tell the operator of words and new names for tools that nobody has."""
        for part in parts:
            self._seen_keys |= self._offers.keys & part.keys
        if "missing" in conditions:
            return
        for name in sorted(self._offers.keys - self._seen_keys):
            if ("unknown", "", name) not in self._warned:
                self._warned.add(("unknown", "", name))
                _log.warning("endpoint %s: no tool is named %r", self.rules.endpoint, name)

    def status(self) -> EndpointStatus:
        """Tell how the endpoint is made up, from memory."""
        return EndpointStatus(
            bindings=tuple(
                BindingStatus(
                    binding.provider.name,
                    binding.prefix,
                    binding.mark.text,
                    {
                        kind.value: self._conditions[kind, place]
                        for kind in Kind
                        if (kind, place) in self._conditions
                    },
                )
                for place, binding in enumerate(self.bindings)
            ),
            hidden=tuple(one for hidden in self._hidden.values() for one in hidden),
            unknown=tuple(sorted(self._offers.keys - self._seen_keys)),
        )

    # --- who answers

    async def find(self, kind: Kind, name: str, viewer: Viewer) -> Found:
        """Find who answers for a public name or URI.

        Raises:
            UnknownNameError: nothing of that name for this viewer.
            UpstreamUnavailableError: it is the name of an upstream whose list cannot be had.
        """
        view = await self._view_for_call(kind, name, viewer)
        found = view.index.get(name)
        if found is not None:
            return found
        if kind in NAMED_KINDS:
            self._check_available(kind, name, view, viewer.principal)
            if await self._look_again(kind, name, viewer):
                found = (await self._view(kind, viewer)).index.get(name)
                if found is not None:
                    return found
        elif kind is Kind.RESOURCE:
            return await self._find_uri(name, viewer, view)
        raise UnknownNameError(kind.value, name)

    async def _view_for_call(self, kind: Kind, name: str, viewer: Viewer) -> _View:
        """Give the view for a call: where the old one knows the name, no slow provider holds it up."""
        slot = self._slots.get(self._key(kind, viewer))
        old = None if slot is None else slot.view
        if slot is None or old is None or name not in old.index:
            return await self._view(kind, viewer)
        if slot.old_will_do_until_s > self._monotonic():
            return old
        slot.old_will_do_until_s = self._monotonic() + _CALL_PATIENCE_EVERY_S
        try:
            view = await asyncio.wait_for(self._view(kind, viewer), _CALL_PATIENCE_S)
        except TimeoutError:
            return old
        slot.old_will_do_until_s = float("-inf")
        return view

    def _check_available(self, kind: Kind, name: str, view: _View, principal: Principal) -> None:
        """Refuse a name of an upstream that never said what it has, to those who might have seen it.

        Raises:
            UpstreamUnavailableError: it is.
        """
        claim = self._ground.names.owner(self.rules.endpoint, kind.value, name)
        holder = None if claim is None or self._is_void(kind, claim) else claim.provider
        for binding, condition in zip(self.bindings, view.conditions, strict=True):
            provider = binding.provider.name
            is_meant = bool(binding.prefix) and name.startswith(binding.prefix)
            if condition != "missing" or not (provider == holder or is_meant):
                continue
            if principal.may_see(_LIST_PERMISSION[kind], self.rules.endpoint, provider, name):
                raise _unavailable(provider, f"its {kind.value}s are not known")

    async def _look_again(self, kind: Kind, name: str, viewer: Viewer) -> bool:
        """Have the list read again of whoever would have a name, unless that was done a moment ago."""
        claim = self._ground.names.owner(self.rules.endpoint, kind.value, name)
        holder = None if claim is None or self._is_void(kind, claim) else claim.provider
        places = [
            place
            for place, binding in enumerate(self.bindings)
            if holder in (None, binding.provider.name) and name.startswith(binding.prefix)
        ]
        is_read = any(await asyncio.gather(*(self._refresh(each, kind, viewer) for each in places)))
        slot = self._slots.get(self._key(kind, viewer))
        if is_read and slot is not None and slot.view is not None:
            slot.view.expires_s = float("-inf")
        return is_read

    async def _refresh(self, place: int, kind: Kind, viewer: Viewer) -> bool:
        """Have one list read again; tell whether that was done since we wanted it."""
        provider = self.bindings[place].provider
        if not isinstance(provider, Refreshable):
            return False
        came_s = self._monotonic()
        async with self._refreshing[place]:
            last_s = self._refreshed_s.get((place, kind), float("-inf"))
            if last_s + _REFRESH_EVERY_S > self._monotonic():
                return last_s >= came_s
            self._refreshed_s[place, kind] = self._monotonic()
            await provider.refresh(kind, viewer)
            return True

    async def _find_uri(self, uri: str, viewer: Viewer, view: _View) -> Found:
        """Find who answers for a URI that no list shows; nobody else learns of it.

        Templates are tried first, then marks, links the principal was given, schemes the operator
        gave somebody; what is left goes to the only one with resources, if there is but one.
        """
        if not self.rules.resources(uri):
            raise UnknownNameError(Kind.RESOURCE.value, uri)
        self._check_available(Kind.RESOURCE, uri, view, viewer.principal)
        templates = (await self._view(Kind.TEMPLATE, viewer)).templates
        given = self._ground.links.find(self.rules.endpoint, viewer.principal.fingerprint, uri)
        found = self._route(uri, templates, given)
        if found is None or not viewer.principal.may_use(
            "resources:read", self.rules.endpoint, found.provider.name, uri
        ):
            raise UnknownNameError(Kind.RESOURCE.value, uri)
        return found

    def _route(
        self, uri: str, templates: Sequence[tuple[UriTemplate, Found]], given: str | None
    ) -> Found | None:
        """Decide who answers for a URI that no list shows. `given` is who gave a link to it."""
        for template, found in templates:
            plain = found.mark.remove(uri)
            if plain is not None and template.match(plain) is not None:
                return Found(found.provider, plain, None, found.mark)
        for binding in self.bindings:
            plain = binding.mark.remove(uri) if binding.mark.text else None
            if plain is not None:
                return Found(binding.provider, plain, None, binding.mark)
        scheme = uri.partition(":")[0].lower()
        for name in (given, self.rules.schemes.get(scheme)):
            owner = None if name is None else self._by_name.get(name)
            if owner is not None and not owner.mark.text:
                return Found(owner.provider, uri, None)
        bearers = self._bearers()
        return Found(bearers[0].provider, uri, None) if len(bearers) == 1 else None

    def _bearers(self) -> list[Binding]:
        """Give the bindings any unmarked URI could be of."""
        return [b for b in self.bindings if b.provider.features.resources and not b.mark.text]

    def public_uri(self, provider: str, uri: str) -> str | None:
        """Give the public URI of a provider's resource, None where it is somebody else's or nobody's."""
        binding = self._by_name.get(provider)
        public = uri if binding is None else binding.mark.add(uri)
        if binding is None or not self.rules.resources(public):
            return None
        owner = self._ground.names.owner(self.rules.endpoint, Kind.RESOURCE.value, public)
        if owner is not None and not self._is_void(Kind.RESOURCE, owner):
            return public if owner.provider == provider else None
        views = (slot.view for key, slot in self._slots.items() if key[0] is Kind.TEMPLATE)
        templates = next((view.templates for view in views if view is not None), ())
        found = self._route(public, templates, None)
        return public if found is None or found.provider is binding.provider else None

    def note_links(self, uris: Sequence[str], provider: str, viewer: Viewer) -> None:
        """Remember who gave a principal these links, so that they can be followed."""
        endpoint, principal = self.rules.endpoint, viewer.principal.fingerprint
        for uri in uris:
            self._ground.links.note(endpoint, principal, uri, provider)

    @property
    def has_rivals(self) -> bool:
        """Whether an unmarked URI could be of several, so that links have to be remembered."""
        return len(self._bearers()) > 1

    # --- pages

    async def page(self, kind: Kind, cursor: object, viewer: Viewer, revision: Revision) -> Reply:
        """Give one page of a list as a neutral reply.

        Raises:
            RpcError: -32602, the cursor is not one of ours for this list and viewer.
            UpstreamUnavailableError: a part cannot be had, and the endpoint is strict about that.
        """
        view = await self._view(kind, viewer)
        if self.rules.is_strict:
            for binding, condition in zip(self.bindings, view.conditions, strict=True):
                if condition != "current":
                    raise _unavailable(binding.provider.name, "a strict list needs it")
        if cursor is None:
            known = view.pages.get(revision.text)
            if known is None:
                known = self._build_page(view, kind, 0, viewer, revision)
                if (
                    len(view.names) <= self.rules.page_size
                ):  # else it holds a cursor of this viewer's
                    view.pages[revision.text] = known
            return known
        return self._build_page(
            view, kind, self._start(view, kind, cursor, viewer), viewer, revision
        )

    def _build_page(
        self, view: _View, kind: Kind, start: int, viewer: Viewer, revision: Revision
    ) -> Reply:
        """Join the definitions of one page."""
        end = start + self.rules.page_size
        definitions: Sequence[bytes] = view.definitions[start:end]
        if kind is Kind.TOOL and not revision.is_modern:
            definitions = [downgrade_definition(item, revision) for item in definitions]
        if kind is Kind.TOOL and not has_legacy_tasks(revision):
            definitions = [hide_task_support(item) for item in definitions]
        body = b'{"%b":[%b]' % (_LIST_MEMBERS[kind], b",".join(definitions))
        if end < len(view.names):
            last = view.names[end - 1]
            place = view.places[end - 1]
            text = write_cursor(self._ground.ring, kind, viewer.principal, place, last)
            body += b',"nextCursor":"%b"' % text.encode()
        return Reply(body + b"}", ttl_ms=view.ttl_ms, cache_scope=view.cache_scope)

    def _start(self, view: _View, kind: Kind, cursor: object, viewer: Viewer) -> int:
        """Find where the page after a cursor begins: at the first entry that comes after its last.

        Whether that one is still there does not matter, and nothing is skipped or shown twice.
        """
        end = read_cursor(self._ground.ring, cursor, kind, viewer.principal)
        before = (pair <= end for pair in zip(view.places, view.names, strict=True))
        return sum(before)


async def _ask(binding: Binding, kind: Kind, viewer: Viewer) -> Listing:
    async with asyncio.timeout(_LIST_WAIT_S):
        return await binding.provider.listing(kind, viewer)


def _unavailable(provider: str, problem: str) -> UpstreamUnavailableError:
    return UpstreamUnavailableError(
        provider, problem, safe_message=f"The upstream server {provider} is not available."
    )
