"""How many calls are under way, by caller, tool and upstream; and how many may be.

Knows whose places a call takes. Refuses to know when a call begins and ends: who takes places gives
them back. Only what is taken is kept, so there are never more numbers than calls under way allow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from waygate_mcp.errors import RateLimitedError
from waygate_mcp.model.call import Call
from waygate_mcp.model.principal import Principal

__all__ = ["Cap", "Caps", "Crowd", "Places"]

RETRY_S = 1.0
"""Nobody knows when a call ends; a second is what a client is told to wait."""


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `most` calls at once under `key`; `scope` is the word for the metric."""

    key: tuple[str, ...]
    scope: str
    most: int


@dataclass(frozen=True, slots=True)
class Caps:
    """The numbers of one configuration. See `config/concurrent.py` for what each of them means."""

    default: int | None = None
    roles: Mapping[str, int] = field(default_factory=dict)
    keys: Mapping[str, int] = field(default_factory=dict)
    tools: Mapping[str, int] = field(default_factory=dict)
    upstreams: Mapping[str, int] = field(default_factory=dict)

    @property
    def bind_callers(self) -> bool:
        """Whether any call has to be counted by its caller or tool."""
        return bool(self.default or self.roles or self.keys or self.tools)

    def of_caller(self, call: Call) -> tuple[Cap, ...]:
        """Give what holds for a call by its caller, and by the tool it calls."""
        principal = call.principal
        tool = call.name if call.method == "tools/call" else ""
        found = []
        scope, most = self._most(principal)
        if most is not None:
            found.append(Cap(("caller", principal.id), f"concurrent_{scope}", most))
        if tool in self.tools:
            key = ("tool", principal.id, tool)
            found.append(Cap(key, "concurrent_tool", self.tools[tool]))
        return tuple(found)

    def of_upstream(self, call: Call) -> tuple[Cap, ...]:
        """Give what holds for a call at the upstream it was routed to."""
        most = self.upstreams.get(call.provider)
        if most is None:
            return ()
        return (Cap(("upstream", call.provider), "concurrent_upstream", most),)

    def _most(self, principal: Principal) -> tuple[str, int | None]:
        named = self.keys.get(principal.id)
        if named is not None:
            return "key", named
        for role, most in self.roles.items():
            if role in principal.roles:
                return "role", most
        return "default", self.default


class Places:
    """The places that are taken. Outlives configurations: a call keeps its places through a reload."""

    def __init__(self) -> None:
        self.taken: dict[tuple[str, ...], int] = {}

    def take(self, caps: Sequence[Cap]) -> Cap | None:
        """Take a place under every cap; where one has none, take none and say which."""
        taken = self.taken
        for cap in caps:
            if taken.get(cap.key, 0) >= cap.most:
                return cap
        self.take_anyway(caps)
        return None

    def take_anyway(self, caps: Sequence[Cap]) -> None:
        """Take a place under every cap, whether there is one or not."""
        for cap in caps:
            self.taken[cap.key] = self.taken.get(cap.key, 0) + 1

    def give_back(self, caps: Sequence[Cap]) -> None:
        """Give back what was taken."""
        for cap in caps:
            left = self.taken[cap.key] - 1
            if left:
                self.taken[cap.key] = left
            else:
                del self.taken[cap.key]


class Crowd:
    """Decides whether one more call may be under way, by what `caps_of` says holds for it.

    `count` is told the scope of each refusal.
    """

    def __init__(
        self,
        caps_of: Callable[[Call], tuple[Cap, ...]],
        places: Places,
        count: Callable[[str], None],
    ) -> None:
        self._caps_of = caps_of
        self._places = places
        self._count = count
        self.leave = places.give_back
        self.enter_again = places.take_anyway

    def enter(self, call: Call) -> tuple[Cap, ...]:
        """Take the places of a call; they are to be given back by `leave`.

        Raises:
            RateLimitedError: too many are under way; nothing was taken.
        """
        caps = self._caps_of(call)
        full = self._places.take(caps)
        if full is not None:
            self._count(full.scope)
            raise RateLimitedError(
                RETRY_S,
                f"{full.most} calls of {' '.join(full.key)} are under way",
                limit=f"limits.concurrent ({full.scope.removeprefix('concurrent_')})",
                safe_message="Too many calls at once; try again when one of them has ended.",
            )
        return caps
