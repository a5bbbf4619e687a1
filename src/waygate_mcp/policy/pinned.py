"""An upstream behind its pins: what is not approved is not shown, and not called.

Knows which methods are about something that is pinned. Refuses to know how an upstream is spoken to, and
what is trusted (`pins.py`). Stands between the catalog and the upstream, so that a name held back is no
name the catalog ever hears of (threat model rule 25).

After a change was announced, or the connection opened anew, the first call waits for the list to be read
again; if it cannot be, the call is refused. A definition that was changed between the list and the call
is thus never called.
Spec: threat model rules 5 and 24.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from waygate_mcp.errors import UnknownNameError, UpstreamUnavailableError
from waygate_mcp.model.call import Call, Outcome
from waygate_mcp.model.catalog import Features, Kind, Listing, Viewer
from waygate_mcp.model.pins import PINNED_KINDS
from waygate_mcp.model.ports import Provider, Refreshable, TaskTeller
from waygate_mcp.policy.pins import UpstreamPins

__all__ = ["PinnedProvider", "Watched"]

WAIT_S = 12.0
"""Seconds a call waits for a list that changed; the upstream itself is waited for less long."""

_READINGS = 3
_KINDS = {"tools/call": Kind.TOOL, "prompts/get": Kind.PROMPT}


class Watched(Provider, Refreshable, TaskTeller, Protocol):
    """What is pinned: a provider that counts the changes of its lists it heard of."""

    @property
    def changes(self) -> Mapping[Kind, int]:
        """How often each list may have changed; `Listing.changes` says what a list has seen of them."""


class PinnedProvider:
    """A `model.ports.Provider` that shows and calls what is approved. `trusts_first`: see `Pins`."""

    def __init__(self, inner: Watched, pins: UpstreamPins, *, trusts_first: bool) -> None:
        self._inner = inner
        self._pins = pins
        self._trusts_first = trusts_first
        self._checked: dict[Kind, int] = dict.fromkeys(PINNED_KINDS, -1)
        self._last_viewer: dict[Kind, Viewer] = {}

    @property
    def name(self) -> str:
        """See Provider."""
        return self._inner.name

    @property
    def features(self) -> Features:
        """See Provider."""
        return self._inner.features

    @property
    def instructions(self) -> str | None:
        """See Provider. Advice is a text for models, and pinned like any other."""
        return self._pins.advice(self._inner.instructions, trusts_first=self._trusts_first)

    @property
    def held(self) -> int:
        """How many of its definitions are held back or dropped."""
        return self._pins.held

    def held_names(self, kind: Kind) -> Sequence[str]:
        """See Screening."""
        return self._pins.held_names(kind.value)

    async def listing(self, kind: Kind, viewer: Viewer) -> Listing:
        """See Provider: what is held back is not there."""
        listing = await self._inner.listing(kind, viewer)
        if kind is Kind.RESOURCE:
            return listing
        shown = await self._pins.screen(kind, listing.entries, trusts_first=self._trusts_first)
        if listing.condition == "current":
            self._checked[kind] = max(self._checked[kind], listing.changes)
            self._last_viewer[kind] = viewer
        if shown is listing.entries:
            return listing
        version = (listing.version << 32) + self._pins.epoch
        return msgspec.structs.replace(listing, entries=shown, version=version)

    def call(self, call: Call) -> Awaitable[Outcome]:
        """See Provider.

        Raises:
            UnknownNameError: it is held back.
            UpstreamUnavailableError: its list changed, and cannot be read.
        """
        kind = self._pinned_kind(call)
        if kind is None:
            return self._inner.call(call)
        # Where a change was heard of, the gate has the list read: behind the breaker, which decides whether
        # the upstream is asked anything at all.
        is_checked = self._checked[kind] == self._inner.changes[kind]
        if is_checked and call.target not in self._pins.trusted[kind]:
            raise UnknownNameError(kind.value, call.name)
        call.gate = self._gate
        return self._inner.call(call)

    async def refresh(self, kind: Kind, viewer: Viewer) -> None:
        """See Refreshable."""
        await self._inner.refresh(kind, viewer)

    def tell_of_tasks(
        self, ids: tuple[str, ...], on_task: Callable[[bytes], None], on_end: Callable[[], None]
    ) -> AbstractAsyncContextManager[frozenset[str]]:
        """See TaskTeller."""
        return self._inner.tell_of_tasks(ids, on_task, on_end)

    def _pinned_kind(self, call: Call) -> Kind | None:
        """Say what pinned thing a call is about, None where it is about none."""
        kind = _KINDS.get(call.method)
        if kind is None and call.method == "completion/complete":
            kind = _completed(call)
            if kind is Kind.TEMPLATE and not self._pins.is_held(kind.value, call.target):
                return None  # a resource that is in no list, or a template all is well with
        return kind

    def _may_pass(self, kind: Kind, target: str) -> bool:
        """Tell whether an entry is trusted, and no change was heard of since that was looked at."""
        is_checked = self._checked[kind] == self._inner.changes[kind]
        return is_checked and target in self._pins.trusted[kind]

    def _gate(self, call: Call) -> Awaitable[None] | None:
        """See `Call.gate`: while it waited for its turn or a connection, much may have happened."""
        kind = _KINDS.get(call.method) or self._pinned_kind(call)
        if kind is None or self._may_pass(kind, call.target):
            return None
        return self._check(kind, call)

    async def _check(self, kind: Kind, call: Call) -> None:
        """Read the list first where it may have changed; raise where the entry is not trusted then."""
        # Whoever looked last has a session for that at a legacy upstream; the caller may have none.
        viewer = self._last_viewer.get(kind) or Viewer(call.principal, call.capabilities)
        try:
            async with asyncio.timeout(WAIT_S):
                for _ in range(_READINGS):
                    if self._checked[kind] == self._inner.changes[kind]:
                        break
                    await self.listing(kind, viewer)
        except TimeoutError:
            pass
        if self._checked[kind] != self._inner.changes[kind]:
            raise UpstreamUnavailableError(
                self.name,
                f"its list of {kind.value}s may have changed and cannot be read",
                safe_message=f"The upstream server {self.name} is not available.",
            )
        if call.target not in self._pins.trusted[kind]:
            raise UnknownNameError(kind.value, call.name)


def _completed(call: Call) -> Kind:
    """Say what a completion is about: a prompt, or a template or one resource of it."""
    ref = call.params.get("ref")
    is_prompt = isinstance(ref, dict) and ref.get("type") == "ref/prompt"
    return Kind.PROMPT if is_prompt else Kind.TEMPLATE
