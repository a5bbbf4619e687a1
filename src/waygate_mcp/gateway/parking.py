"""Calls that wait for a modern client's answer, and outcomes a lost client may come back for.

Knows which exchanges are parked on this node and within which limits. Refuses to know what they
ask.
Spec: protocol.md 6.2, rules 5 and 6.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from waygate_mcp.errors import LimitError

if TYPE_CHECKING:  # an exchange parks itself here
    from waygate_mcp.gateway.modern_exchange import ModernExchange

__all__ = ["Parking", "ParkingLimits"]

_KEPT_S = 60.0
_KEPT_COUNT = 1_000
_KEPT_BYTES = 64 * 1024 * 1024


class ParkingLimits(msgspec.Struct, frozen=True):
    """How many calls may wait, and how long: a question, a whole call, siblings being gathered."""

    per_principal: int = 16
    per_upstream: int = 64
    total: int = 1_000
    question_s: float = 600.0
    parked_s: float = 1_800.0
    gather_s: float = 0.0


class _Kept(msgspec.Struct):
    """A call that is over, until when its outcome is kept, and how large that is."""

    exchange: Any
    until_s: float
    size_bytes: int


class Parking:
    """Every exchange of this node that has asked and is not over, and those just over."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._exchanges: dict[str, ModernExchange] = {}
        self._owners: dict[str, tuple[str, str]] = {}
        self._principals: Counter[str] = Counter()
        self._upstreams: Counter[str] = Counter()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._kept_bytes = 0

    def __len__(self) -> int:
        """The number of calls that hold a place."""
        return len(self._exchanges)

    def reserve(
        self, exchange: ModernExchange, principal: str, upstream: str, limits: ParkingLimits
    ) -> None:
        """Give an exchange its place; one that has a place keeps it.

        Raises:
            LimitError: too many calls wait already, of this principal, at this upstream or at all.
        """
        if exchange.id in self._exchanges:
            return
        if self._principals[principal] >= limits.per_principal:
            raise LimitError(
                "parked calls of one principal",
                limit="limits.parked_per_principal",
                safe_message="Too many of your calls wait for an answer; finish one first.",
            )
        if self._upstreams[upstream] >= limits.per_upstream:
            raise LimitError(
                f"parked calls at {upstream}",
                limit="limits.parked_per_upstream",
                safe_message="Too many calls to this server wait for an answer; try again later.",
            )
        if len(self._exchanges) >= limits.total:
            raise LimitError(
                "parked calls",
                limit="limits.parked_total",
                safe_message="The server has too many calls waiting for answers.",
            )
        self._exchanges[exchange.id] = exchange
        self._owners[exchange.id] = (principal, upstream)
        self._principals[principal] += 1
        self._upstreams[upstream] += 1

    def release(self, exchange: ModernExchange, kept_bytes: int | None = None) -> None:
        """Free the place of an exchange that is over.

        Its outcome of `kept_bytes` is kept for a minute, None where there is none to be kept.
        """
        if self._exchanges.pop(exchange.id, None) is not None:
            principal, upstream = self._owners.pop(exchange.id)
            _count_down(self._principals, principal)
            _count_down(self._upstreams, upstream)
        now = self._monotonic()
        if kept_bytes is not None:
            self._kept[exchange.id] = _Kept(exchange, now + _KEPT_S, kept_bytes)
            self._kept_bytes += kept_bytes
        while self._kept and (
            len(self._kept) > _KEPT_COUNT
            or self._kept_bytes > _KEPT_BYTES
            or next(iter(self._kept.values())).until_s < now
        ):
            self._kept_bytes -= self._kept.popitem(last=False)[1].size_bytes

    def find(self, exchange_id: str) -> ModernExchange | None:
        """Give the exchange a ticket names, while it waits or was over less than a minute ago."""
        exchange = self._exchanges.get(exchange_id)
        if exchange is None:
            kept = self._kept.get(exchange_id)
            if kept is not None and kept.until_s >= self._monotonic():
                exchange = kept.exchange
        return exchange

    def all(self) -> tuple[ModernExchange, ...]:
        """Give every exchange that holds a place."""
        return tuple(self._exchanges.values())


def _count_down(counts: Counter[str], name: str) -> None:
    """Count one less; a name nobody has any more is forgotten."""
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
