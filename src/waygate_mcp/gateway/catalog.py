"""What one endpoint shows: public names, the providers behind them, lists and their pages.

Knows entries by their public names. Refuses to know what a name does. What is built from the
providers' listings is kept until one of them announces a change or its time is up, so that a call
costs one look-up.
Spec: 2026-07-28 server/tools, server/utilities/caching, server/utilities/pagination; protocol.md 5.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from waygate_mcp.errors import RpcError, UnknownNameError
from waygate_mcp.gateway.names import public_name
from waygate_mcp.model.call import Reply
from waygate_mcp.model.catalog import Entry, Kind, Listing, Viewer
from waygate_mcp.model.event import Event, ListChanged
from waygate_mcp.model.ports import Provider
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.handshake import downgrade_definition
from waygate_mcp.protocol.seal import KeyRing, SealError
from waygate_mcp.protocol.uris import UriTemplate, UriTemplateError
from waygate_mcp.protocol.versions import Revision

__all__ = ["Binding", "Catalog", "Found"]

_log = logging.getLogger(__name__)
_PURPOSE = "cursor"
_KEPT_VIEWS = 512
_KEPT_WARNINGS = 1_000
_LIST_MEMBERS = {
    Kind.TOOL: b"tools",
    Kind.PROMPT: b"prompts",
    Kind.RESOURCE: b"resources",
    Kind.TEMPLATE: b"resourceTemplates",
}
_NAMED_KINDS = frozenset({Kind.TOOL, Kind.PROMPT})
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode_cursor = msgspec.msgpack.Encoder().encode


class Binding(msgspec.Struct, frozen=True):
    """A provider on an endpoint, and the prefix its tools and prompts get there."""

    provider: Provider
    prefix: str


class Found(msgspec.Struct, frozen=True):
    """Where a public name leads."""

    provider: Provider
    target: str
    entry: Entry | None


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ends: after the entry `last` of binding number `place`, for one viewer."""

    kind: str
    scope: bytes
    last: str
    place: int


_decode_cursor = msgspec.msgpack.Decoder(_Cursor).decode


class _View(msgspec.Struct):
    """One kind as one class of viewers sees it. `pages` keeps whole lists by revision.

    `places` are the numbers of the bindings the names come from; both stand in the list's order.
    """

    names: tuple[str, ...]
    places: tuple[int, ...]
    definitions: tuple[bytes, ...]
    index: dict[str, Found]
    ttl_ms: int
    cache_scope: Literal["public", "private"]
    expires_s: float
    pages: dict[str, Reply]
    templates: tuple[tuple[UriTemplate, Found], ...] = ()


class Catalog:
    """The entries of one endpoint.

    `bindings` stand in the order lists are shown. `allows` filters tools by public name. `page_size`
    is the number of entries on a page.
    """

    def __init__(
        self,
        bindings: Sequence[Binding],
        allows: Callable[[str], bool],
        page_size: int,
        ring: KeyRing,
        monotonic: Callable[[], float],
    ) -> None:
        self.bindings = tuple(bindings)
        self._allows = allows
        self._page_size = page_size
        self._ring = ring
        self._monotonic = monotonic
        self._views: OrderedDict[tuple[object, ...], _View] = OrderedDict()
        self._private_kinds: set[Kind] = set()
        self._changes = 0
        self._warned: set[tuple[Kind, str]] = set()

    def forget(self, event: Event) -> None:
        """Drop what a change of a list made stale."""
        if isinstance(event, ListChanged):
            self._changes += 1
            for key in [key for key in self._views if key[0] is event.kind]:
                del self._views[key]

    def find_known(self, kind: Kind, name: str, viewer: Viewer) -> Found | None:
        """Find who answers for a name in what is known and fresh, None where that has to be asked."""
        view = self._views.get(self._key(kind, viewer))
        if view is None or view.expires_s <= self._monotonic():
            return None
        return view.index.get(name)

    async def find(self, kind: Kind, name: str, viewer: Viewer) -> Found:
        """Find who answers for a public name or URI.

        Raises:
            UnknownNameError: nothing of that name for this viewer.
        """
        view = await self._view(kind, viewer)
        found = view.index.get(name)
        if found is not None:
            return found
        if kind is Kind.RESOURCE:
            return await self._find_uri(name, viewer)
        raise UnknownNameError(kind.value, name)

    async def _find_uri(self, uri: str, viewer: Viewer) -> Found:
        """Find who answers for a URI that no list shows: a template, or the only one with resources."""
        view = await self._view(Kind.TEMPLATE, viewer)
        for template, found in view.templates:
            if template.match(uri) is not None:
                return Found(found.provider, uri, None)
        bearers = [b.provider for b in self.bindings if b.provider.features.resources]
        if len(bearers) == 1:
            return Found(bearers[0], uri, None)
        raise UnknownNameError(Kind.RESOURCE.value, uri)

    async def page(self, kind: Kind, cursor: object, viewer: Viewer, revision: Revision) -> Reply:
        """Give one page of a list as a neutral reply.

        Raises:
            RpcError: -32602, the cursor is not one of ours for this list and viewer.
        """
        view = await self._view(kind, viewer)
        if cursor is None:
            known = view.pages.get(revision.text)
            if known is None:
                known = self._build_page(view, kind, 0, viewer, revision)
                if len(view.names) <= self._page_size:  # else it holds a cursor of this viewer's
                    view.pages[revision.text] = known
            return known
        return self._build_page(
            view, kind, self._start(view, kind, cursor, viewer), viewer, revision
        )

    def _build_page(
        self, view: _View, kind: Kind, start: int, viewer: Viewer, revision: Revision
    ) -> Reply:
        """Join the definitions of one page."""
        end = start + self._page_size
        definitions: Sequence[bytes] = view.definitions[start:end]
        if kind is Kind.TOOL and not revision.is_modern:
            definitions = [downgrade_definition(item, revision) for item in definitions]
        body = b'{"%b":[%b]' % (_LIST_MEMBERS[kind], b",".join(definitions))
        if end < len(view.names):
            last = view.names[end - 1]
            place = view.places[end - 1]
            sealed = _Cursor(kind.value, viewer.principal.fingerprint, last, place)
            text = self._ring.seal(_encode_cursor(sealed), _PURPOSE)
            body += b',"nextCursor":"%b"' % text.encode()
        return Reply(body + b"}", ttl_ms=view.ttl_ms, cache_scope=view.cache_scope)

    def _start(self, view: _View, kind: Kind, cursor: object, viewer: Viewer) -> int:
        """Find where the page after a cursor begins: at the first entry that comes after its last.

        Whether that one is still there does not matter, and nothing is skipped or shown twice.
        """
        try:
            if not isinstance(cursor, str):
                raise SealError("not text")
            read = _decode_cursor(self._ring.open(cursor, _PURPOSE))
        except (SealError, msgspec.DecodeError):
            raise RpcError(jsonrpc.INVALID_PARAMS, "Invalid cursor") from None
        if read.kind != kind.value or read.scope != viewer.principal.fingerprint:
            raise RpcError(jsonrpc.INVALID_PARAMS, "Invalid cursor")
        end = (read.place, read.last)
        before = (pair <= end for pair in zip(view.places, view.names, strict=True))
        return sum(before)

    def _key(self, kind: Kind, viewer: Viewer) -> tuple[object, ...]:
        """Name the class of viewers that see the same: by principal only where somebody lists so."""
        who = viewer.principal.id if kind in self._private_kinds else None
        return (kind, viewer.capabilities, who)

    async def _view(self, kind: Kind, viewer: Viewer) -> _View:
        """Give the view of a class of viewers, building it where none is fresh."""
        key = self._key(kind, viewer)
        view = self._views.get(key)
        if view is not None and view.expires_s > self._monotonic():
            return view
        changes = self._changes
        listings = [
            (binding, await binding.provider.listing(kind, viewer)) for binding in self.bindings
        ]
        if any(listing.cache_scope == "private" for _, listing in listings):
            self._private_kinds.add(kind)
            key = self._key(kind, viewer)
        view = self._build_view(kind, listings)
        if changes == self._changes:  # else something changed while the listings were read
            self._views[key] = view
            self._views.move_to_end(key)
            if len(self._views) > _KEPT_VIEWS:
                self._views.popitem(last=False)
        return view

    def _build_view(self, kind: Kind, listings: Sequence[tuple[Binding, Listing]]) -> _View:
        """Merge listings: binding order, then name; the first claimant keeps a name."""
        index: dict[str, Found] = {}
        places: list[int] = []
        definitions: list[bytes] = []
        templates: list[tuple[UriTemplate, Found]] = []
        for place, (binding, listing) in enumerate(listings):
            prefix = binding.prefix if kind in _NAMED_KINDS else ""
            named = [(public_name(prefix, entry.name), entry) for entry in listing.entries]
            for name, entry in sorted(named, key=lambda pair: pair[0]):
                if kind is Kind.TOOL and not self._allows(name):
                    continue
                found = Found(binding.provider, entry.name, entry)
                if index.setdefault(name, found) is not found:
                    owner = index[name].provider.name
                    self._warn(kind, name, found, f"is hidden: the name belongs to {owner}")
                    continue
                places.append(place)
                definitions.append(_renamed(entry, name))
                if kind is Kind.TEMPLATE:
                    templates += self._readable(name, found)
        ttl_ms = min((listing.ttl_ms for _, listing in listings), default=0)
        is_private = any(listing.cache_scope == "private" for _, listing in listings)
        templates.sort(key=lambda pair: pair[0].specificity)  # equal ones keep the bindings' order
        return _View(
            names=tuple(index),
            places=tuple(places),
            definitions=tuple(definitions),
            index=index,
            ttl_ms=max(ttl_ms, 0),
            cache_scope="private" if is_private else "public",
            expires_s=self._monotonic() + max((ttl_ms / 1000.0), 1.0),
            pages={},
            templates=tuple(templates),
        )

    def _readable(self, name: str, found: Found) -> list[tuple[UriTemplate, Found]]:
        """Parse a template; one that cannot be read backwards is shown and leads nowhere."""
        try:
            return [(UriTemplate(found.target), found)]
        except UriTemplateError as exc:
            self._warn(Kind.TEMPLATE, name, found, f"cannot be read from: {exc}")
            return []

    def _warn(self, kind: Kind, name: str, found: Found, problem: str) -> None:
        """Tell the operator, once for each name: views are built anew again and again."""
        if (kind, name) not in self._warned and len(self._warned) < _KEPT_WARNINGS:
            self._warned.add((kind, name))
            _log.warning("%s %r of %s %s", kind.value, name, found.provider.name, problem)


def _renamed(entry: Entry, name: str) -> bytes:
    """Give a definition under its public name, every other member untouched."""
    if name == entry.name:
        return entry.definition
    members = _decode_members(entry.definition)
    members["name"] = msgspec.Raw(jsonrpc.encode_json(name))
    return jsonrpc.encode_json(members)
