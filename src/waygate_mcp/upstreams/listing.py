"""Lists of an upstream's entries: pages read within bounds, definitions checked, copies kept.

Knows the four list methods and what makes a definition unusable. Refuses to know how a page is
fetched and who looks at it.
Spec: 2026-07-28 server/utilities/pagination, server/tools "x-mcp-header"; protocol.md 5 and 9.4.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Literal

import msgspec

from waygate_mcp.errors import UpstreamError, UpstreamProtocolError
from waygate_mcp.model.catalog import Entry, Kind, Listing
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.headers import HeaderParam, HeaderParamsError, find_header_params
from waygate_mcp.upstreams.slices import one_line

__all__ = ["LIST_METHODS", "Bounds", "FetchPage", "Listings", "Page", "read_all", "read_page"]

_log = logging.getLogger(__name__)

LIST_METHODS = {
    Kind.TOOL: "tools/list",
    Kind.PROMPT: "prompts/list",
    Kind.RESOURCE: "resources/list",
    Kind.TEMPLATE: "resources/templates/list",
}
_MEMBERS = {
    Kind.TOOL: ("tools", "name"),
    Kind.PROMPT: ("prompts", "name"),
    Kind.RESOURCE: ("resources", "uri"),
    Kind.TEMPLATE: ("resourceTemplates", "uriTemplate"),
}
_MAX_NAME_CHARS = 8_192
_MAX_CURSOR_CHARS = 65_536
_KEPT = 512
_KEPT_TOOLS = 20_000

CacheScope = Literal["public", "private"]


class Bounds(msgspec.Struct, frozen=True):
    """How much of a list is read, in pages and entries; more is left out with a warning."""

    pages: int = 100
    entries: int = 5_000


class Page(msgspec.Struct, frozen=True):
    """One page: raw definitions, where it goes on, and the caching hints of a modern upstream."""

    items: tuple[msgspec.Raw, ...]
    cursor: str | None = None
    ttl_ms: int = 0
    cache_scope: CacheScope = "private"


FetchPage = Callable[[str | None], Awaitable[Page]]
"""Fetches the page that begins at a cursor, the first one for None."""


class _RawPage(msgspec.Struct, rename="camel"):
    next_cursor: str | None = None
    ttl_ms: Any = 0
    cache_scope: Any = "private"


_decode_page = msgspec.json.Decoder(_RawPage).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


def read_page(upstream: str, kind: Kind, result: msgspec.Raw) -> Page:
    """Read the result of a list method.

    Raises:
        UpstreamProtocolError: it is no such result.
    """
    member = _MEMBERS[kind][0]
    try:
        page = _decode_page(result)
        raw = _decode_members(result).get(member)
        items = () if raw is None else tuple(_decode_items(raw))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise UpstreamProtocolError(upstream, f"the list of {member} is malformed: {exc}") from exc
    if raw is None:
        raise UpstreamProtocolError(upstream, f"the result has no {member}")
    if page.next_cursor is not None and len(page.next_cursor) > _MAX_CURSOR_CHARS:
        raise UpstreamProtocolError(upstream, "the cursor is too long")
    ttl_ms = page.ttl_ms if type(page.ttl_ms) is int and page.ttl_ms > 0 else 0
    scope: CacheScope = "public" if page.cache_scope == "public" else "private"
    return Page(items, page.next_cursor, ttl_ms, scope)


async def read_all(
    upstream: str, kind: Kind, fetch: FetchPage, bounds: Bounds, *, is_modern: bool
) -> Listing:
    """Read all pages of a list as a Listing of version 0.

    An unusable definition is left out by itself, with a warning. A cursor that comes back ends the
    list. The hints are the strictest of all pages.
    """
    entries: dict[str, Entry] = {}
    seen: set[str | None] = {None}
    cursor: str | None = None
    ttls: list[int] = []
    scope: CacheScope = "public"
    for _ in range(bounds.pages):
        page = await fetch(cursor)
        ttls.append(page.ttl_ms)
        if page.cache_scope == "private":
            scope = "private"
        for item in page.items:
            entry = _read_entry(upstream, kind, item, is_modern=is_modern)
            if entry is not None and len(entries) < bounds.entries:
                entries.setdefault(entry.name, entry)
        cursor = page.cursor
        if cursor is None:
            break
        if cursor in seen or len(entries) >= bounds.entries:
            _log.warning("%s: its list of %ss is cut after %d", upstream, kind.value, len(entries))
            break
        seen.add(cursor)
    else:
        _log.warning("%s: its list of %ss has too many pages", upstream, kind.value)
    return Listing(tuple(entries.values()), 0, min(ttls, default=0), scope)


def _read_entry(upstream: str, kind: Kind, item: msgspec.Raw, *, is_modern: bool) -> Entry | None:
    """Read one definition; None where it cannot be offered."""
    definition = one_line(item)
    try:
        members = _decode_members(definition)
        name = _decode_text(members[_MEMBERS[kind][1]])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, KeyError):
        _log.warning("%s: a %s without a usable name is left out", upstream, kind.value)
        return None
    if not 0 < len(name) <= _MAX_NAME_CHARS:
        _log.warning(
            "%s: a %s with a name of %d characters is left out", upstream, kind.value, len(name)
        )
        return None
    if kind is not Kind.TOOL or b"x-mcp-header" not in definition:
        return Entry(kind, name, definition)
    schema = msgspec.json.decode(members.get("inputSchema", msgspec.Raw(b"{}")))
    try:
        params = find_header_params(schema if isinstance(schema, dict) else {})
    except HeaderParamsError as exc:
        if is_modern:
            _log.warning("%s: the tool %r is left out: %s", upstream, name[:200], exc)
            return None
        members["inputSchema"] = msgspec.Raw(jsonrpc.encode_json(_without_annotations(schema)))
        return Entry(kind, name, jsonrpc.encode_json(members))
    return Entry(kind, name, definition, params)


def _without_annotations(node: Any) -> Any:
    """Remove `x-mcp-header` from a schema, which is no promise where no header is sent."""
    if isinstance(node, list):
        return [_without_annotations(item) for item in node]
    if isinstance(node, dict):
        return {
            key: _without_annotations(child)
            for key, child in node.items()
            if key != "x-mcp-header" or isinstance(child, dict)
        }
    return node


class _Kept(msgspec.Struct):
    """A list as it was read, and until when it is taken for true."""

    listing: Listing
    digest: bytes
    fresh_until_s: float
    read_at_s: float


class Listings:
    """The lists of one upstream, each read once at a time and kept per class of viewers.

    `poll_s` is how long a list is believed of which no change would be announced; `watched_s` the
    same where changes are announced. `now` is a monotonic clock. A list that cannot be read again is
    shown as it was for `_STALE_S`.
    """

    _STALE_S = 24 * 3600.0
    _STALE_TTL_S = 5.0

    def __init__(
        self, upstream: str, now: Callable[[], float], *, poll_s: float, watched_s: float = 60.0
    ) -> None:
        self._upstream = upstream
        self._now = now
        self._poll_s = poll_s
        self._watched_s = watched_s
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._locks: dict[Hashable, asyncio.Lock] = {}
        self._versions = 0
        self._epochs: dict[Kind, int] = dict.fromkeys(Kind, 0)
        self._header_params: dict[str, tuple[HeaderParam, ...]] = {}

    def header_params(self, tool: str) -> tuple[HeaderParam, ...] | None:
        """Give what to mirror of a tool's arguments, None where the tool was never listed."""
        return self._header_params.get(tool)

    def forget(self, kind: Kind) -> None:
        """Take every list of `kind` for stale."""
        self._epochs[kind] += 1
        for key, kept in self._kept.items():
            if isinstance(key, tuple) and key[0] is kind:
                kept.fresh_until_s = 0.0

    async def get(
        self,
        kind: Kind,
        viewers: Hashable,
        read: Callable[[], Awaitable[Listing]],
        *,
        watched: bool,
    ) -> Listing:
        """Give the list of `kind` for a class of viewers, read by `read` where none is fresh.

        The listing's `ttl_ms` is how long it will be believed here from now.

        Raises:
            UpstreamError: it cannot be read, and no copy is young enough.
        """
        key = (kind, viewers)
        kept = self._kept.get(key)
        if kept is None or kept.fresh_until_s <= self._now():
            lock = self._locks.setdefault(key, asyncio.Lock())
            try:
                async with lock:
                    kept = self._kept.get(key)
                    if kept is None or kept.fresh_until_s <= self._now():
                        kept = await self._refresh(kind, key, read, watched=watched)
            finally:
                if key not in self._kept:
                    self._locks.pop(key, None)
        self._kept.move_to_end(key)
        left_ms = int(max(kept.fresh_until_s - self._now(), 0.0) * 1000)
        return msgspec.structs.replace(kept.listing, ttl_ms=left_ms)

    async def _refresh(
        self,
        kind: Kind,
        key: Hashable,
        read: Callable[[], Awaitable[Listing]],
        *,
        watched: bool,
    ) -> _Kept:
        """Read a list; one that fails leaves the last good copy in place for a moment."""
        epoch = self._epochs[kind]
        old = self._kept.get(key)
        try:
            listing = await read()
        except UpstreamError as exc:
            if old is None or old.read_at_s + self._STALE_S < self._now():
                raise
            _log.warning("%s: shown as last read, since: %s", self._upstream, exc)
            old.fresh_until_s = self._now() + self._STALE_TTL_S
            return old
        digest = _digest(listing)
        if old is None or old.digest != digest:
            self._versions += 1
            version = self._versions
        else:
            version = old.listing.version
        believed_s = max(listing.ttl_ms / 1000, self._watched_s if watched else self._poll_s)
        now = self._now()
        changed_meanwhile = epoch != self._epochs[kind]
        kept = _Kept(
            msgspec.structs.replace(listing, version=version),
            digest,
            0.0 if changed_meanwhile else now + believed_s,
            now,
        )
        self._keep(key, kept)
        if kind is Kind.TOOL:
            self._remember_header_params(listing)
        return kept

    def _remember_header_params(self, listing: Listing) -> None:
        """Remember what to mirror; a server that renames its tools for ever starts anew."""
        if len(self._header_params) > _KEPT_TOOLS:
            self._header_params.clear()
        for entry in listing.entries:
            self._header_params[entry.name] = entry.header_params

    def _keep(self, key: Hashable, kept: _Kept) -> None:
        """Keep a list, dropping those not looked at for longest."""
        self._kept[key] = kept
        while len(self._kept) > _KEPT:
            old, _ = self._kept.popitem(last=False)
            self._locks.pop(old, None)


def _digest(listing: Listing) -> bytes:
    """Sum a list up, to see whether it changed."""
    digest = hashlib.blake2b(digest_size=16)
    for entry in listing.entries:
        digest.update(len(entry.definition).to_bytes(8, "big"))
        digest.update(entry.definition)
    return digest.digest()
