"""Which rates a call is counted by: its caller's, its tool's, its upstream's.

Knows the order of precedence. Refuses to know where the counters are kept; a `FarCounterStore` does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

from waygate_mcp.errors import RateLimitedError
from waygate_mcp.model.call import Call
from waygate_mcp.model.ports import Bucket, FarCounterStore, Shortage
from waygate_mcp.model.principal import ANONYMOUS, LOCAL, Principal
from waygate_mcp.model.rate import Rate, parse_rate

__all__ = ["Limiter", "Rules"]

MAX_PLANS = 10_000
"""Decisions kept about who is counted how; beyond it they are made anew."""

Rates = tuple[Rate, ...]

WITHOUT_KEY = frozenset({ANONYMOUS.id, LOCAL.id})
"""Who has no key has no default rate either: on loopback with `auth.mode: none`, and on standard input."""


class Rules:
    """The rates of one configuration. See `config/rates.py` for what each of them means."""

    def __init__(
        self,
        default: Rates,
        *,
        roles: Mapping[str, Rates] | None = None,
        keys: Mapping[str, Rates] | None = None,
        tools: Mapping[str, Rates] | None = None,
        upstreams: Mapping[str, Rates] | None = None,
    ) -> None:
        self.default = default
        self.roles = roles or {}
        self.keys = keys or {}
        self.tools = tools or {}
        self.upstreams = upstreams or {}

    def of(self, principal: Principal) -> tuple[str, Rates]:
        """Give the rates of a caller and the word they are counted under.

        In this order: what the document says of it by id, what was given to it with its key, what its
        first role in the document's order says, the default.
        """
        named = self.keys.get(principal.id)
        if named:
            return "key", named
        given = _readable(principal.limits)
        if given:
            return "key", given
        for role, rates in self.roles.items():
            if rates and role in principal.roles:
                return "role", rates
        return "default", () if principal.id in WITHOUT_KEY else self.default


class Limiter:
    """Decides whether one more call may go on. `count` is told the scope of each refusal."""

    def __init__(self, rules: Rules, store: FarCounterStore, count: Callable[[str], None]) -> None:
        self._rules = rules
        self._store = store
        self._count = count
        self._plans: dict[tuple[str, str], tuple[Principal, tuple[Bucket, ...]]] = {}
        self._upstreams = {
            name: buckets_of("upstream", name, rates) for name, rates in rules.upstreams.items()
        }

    def admit(self, principal: Principal, tool: str = "") -> Awaitable[None] | None:
        """Count one request of a caller, and of the tool it calls.

        What it gives is awaited before the request goes on, and raises as this does; None where
        nothing needs to be.

        Raises:
            RateLimitedError: it is one too many; nothing was counted.
        """
        if tool not in self._rules.tools:
            tool = ""
        plan = self._plans.get((principal.id, tool))
        if plan is None or plan[0] is not principal:
            plan = self._plan(principal, tool)
        buckets = plan[1]
        said = self._store.take(buckets) if buckets else None
        return None if said is None else self._judged(said)

    def admit_upstream(self, call: Call) -> Awaitable[None] | None:
        """Count one call of the upstream it was routed to. What it gives is as in `admit`.

        Raises:
            RateLimitedError: all callers together called it too often.
        """
        buckets = self._upstreams.get(call.provider)
        said = self._store.take(buckets) if buckets else None
        return None if said is None else self._judged(said)

    def _judged(self, said: Shortage | Awaitable[Shortage | None]) -> Awaitable[None]:
        """Refuse what the store is short of, now or when it has said so."""
        if isinstance(said, Shortage):
            raise self._refusal(said)
        return self._wait(said)

    async def _wait(self, said: Awaitable[Shortage | None]) -> None:
        shortage = await said
        if shortage is not None:
            raise self._refusal(shortage)

    def _refusal(self, shortage: Shortage) -> RateLimitedError:
        bucket = shortage.bucket
        self._count(bucket.scope)
        return RateLimitedError(
            shortage.retry_after_s,
            f"the {bucket.scope} rate of {bucket.key} is spent",
            limit=f"limits.rates ({bucket.scope})",
            count=bucket.count,
            reset_s=shortage.reset_s,
        )

    def _plan(self, principal: Principal, tool: str) -> tuple[Principal, tuple[Bucket, ...]]:
        """Decide which buckets count a caller, and keep the decision."""
        scope, rates = self._rules.of(principal)
        buckets = buckets_of(scope, principal.id, rates)
        if tool:
            buckets += buckets_of("tool", f"{principal.id} {tool}", self._rules.tools[tool])
        if len(self._plans) >= MAX_PLANS:
            self._plans.clear()
        plan = self._plans[principal.id, tool] = (principal, buckets)
        return plan


def buckets_of(scope: str, subject: str, rates: Rates) -> tuple[Bucket, ...]:
    """Give one bucket for each rate. A rate that is changed begins anew: its numbers are in the key."""
    return tuple(
        Bucket(
            f"{scope} {subject} {rate.count}/{rate.period_s:g}/{rate.burst}",
            scope,
            rate.count,
            rate.interval_s,
            rate.window_s,
        )
        for rate in rates
    )


def _readable(texts: Iterable[str]) -> Rates:
    """Read rates from the database; what is none there leaves a caller to the rates of all others."""
    try:
        return tuple(parse_rate(text) for text in texts)
    except ValueError:
        return ()
