"""Whose a public name is: the first who published it, for as long as its binding makes that name.

Knows claims and the one store they outlive the process in. Refuses to know how names are made and who
may see them. Claims of tools and prompts are stored before they are published; those of resources are
kept for the life of the process, since lists of resources can be as large and fleeting as a file system.
Spec: protocol.md 5, "Names"; threat model rules 25 and 39; decision 0070.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping

from waygate_mcp.errors import StorageError
from waygate_mcp.model.catalog import Kind, NameClaim
from waygate_mcp.model.ports import NameStore

__all__ = ["MAX_CLAIMS", "PREFIX", "NameTable", "keep_claim"]

_log = logging.getLogger(__name__)

PREFIX = "prefix"
"""The kind of a claim that says what stands before a provider's names."""

MAX_CLAIMS = 10_000
"""Claims of one kind by one provider on one endpoint. More push out that provider's oldest, and
nobody else's."""

MAX_STORED_CHARS = 1_000
"""Longer names are claimed for the life of the process only."""

WRITES_AT_ONCE = 20
WRITE_EVERY_S = 5.0
"""A server that has new names all the time makes the store write this often, and no oftener."""

_STORED = frozenset({Kind.TOOL.value, Kind.PROMPT.value, PREFIX})

_Key = tuple[str, str, str]
_Holder = tuple[str, str, str]


class NameTable:
    """The claims of all endpoints. Without a store they last as long as the process."""

    def __init__(
        self, store: NameStore | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._monotonic = monotonic
        self._writes = float(WRITES_AT_ONCE)
        self._counted_s = monotonic()
        self._pending: dict[NameClaim, NameClaim | None] = {}
        self._claims: dict[_Key, NameClaim] = {}
        self._held: dict[_Holder, dict[_Key, None]] = {}
        self._has_failed = False

    async def load(self) -> None:
        """Take over what earlier processes stored."""
        if self._store is not None:
            self._keep(await self._store.load())

    def owner(self, endpoint: str, kind: str, name: str) -> NameClaim | None:
        """Give the claim of a name."""
        return self._claims.get((endpoint, kind, name))

    def prefix(self, endpoint: str, provider: str) -> str | None:
        """Give what stood before a provider's names when they were first published."""
        claim = self._claims.get((endpoint, PREFIX, provider))
        return None if claim is None else claim.original

    async def claim(self, wanted: Mapping[NameClaim, NameClaim | None]) -> None:
        """Claim names that are free, or whose claim is void (see `NameStore.claim`).

        Where storing fails the claims hold for this process, and the operator is told.
        """
        for claim, void in wanted.items():
            if self._claims.get(claim.key) in (None, void):
                self._keep([claim])
        if self._store is None:
            return
        self._pending |= {claim: void for claim, void in wanted.items() if _is_lasting(claim)}
        if not self._pending or not self._may_write():
            return
        pending, self._pending = self._pending, {}
        try:
            in_force = await self._store.claim(pending)
        except StorageError as exc:
            if not self._has_failed:
                _log.warning("public names are not kept for the next start: %s", exc)
            self._has_failed = True
            return
        self._has_failed = False
        self._keep(in_force)

    def _may_write(self) -> bool:
        """Tell whether the store may be written to now; what waits is written with the next claims."""
        now_s = self._monotonic()
        earned = (now_s - self._counted_s) / WRITE_EVERY_S
        self._writes = min(self._writes + earned, float(WRITES_AT_ONCE))
        self._counted_s = now_s
        may = self._writes >= 1.0 or len(self._pending) > MAX_CLAIMS
        self._writes = max(self._writes - may, 0.0)
        return may

    def _keep(self, claims: Iterable[NameClaim]) -> None:
        for claim in claims:
            keep_claim(self._claims, self._held, claim)


def keep_claim(
    claims: dict[_Key, NameClaim], held: dict[_Holder, dict[_Key, None]], claim: NameClaim
) -> None:
    """Put a claim in force, within the bound of its holder. `held` are the keys of each holder."""
    before = claims.get(claim.key)
    if before is not None and before.provider != claim.provider:
        held[_holder(before)].pop(claim.key, None)
    claims[claim.key] = claim
    keys = held.setdefault(_holder(claim), {})
    keys[claim.key] = None
    if len(keys) > MAX_CLAIMS:
        oldest = next(iter(keys))
        del keys[oldest]
        del claims[oldest]


def _is_lasting(claim: NameClaim) -> bool:
    return claim.kind in _STORED and len(claim.name) + len(claim.original) <= MAX_STORED_CHARS


def _holder(claim: NameClaim) -> _Holder:
    return (claim.endpoint, claim.kind, claim.provider)
