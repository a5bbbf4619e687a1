"""The whole configuration in force, and how many calls still use it.

Knows what was built from one document and that it is closed as one. Refuses to build (`builders.py`)
and to decide when it goes (`reload.py`). `Guard` stands for what the HTTP doors make of a generation;
on standard input it is None.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, TypeVar

from waygate_mcp.config.document import Document
from waygate_mcp.config.settings import Settings
from waygate_mcp.gateway.gateway import Gateway
from waygate_mcp.model.ports import Provider
from waygate_mcp.policy.limits import Limiter
from waygate_mcp.upstreams.steady import SteadyUpstream

__all__ = ["CallsInFlight", "Generation"]

Guard = TypeVar("Guard")


class CallsInFlight:
    """The calls that use one generation, counted; `with calls:` is one of them.

    A call counts from its door to its answer. What outlives its request, as a parked call does,
    counts itself by `hold` and `leave`. How many there may be is the doors' to limit.
    """

    __slots__ = ("_idle", "count")

    def __init__(self) -> None:
        self.count = 0
        self._idle: asyncio.Event | None = None

    def hold(self) -> None:
        """Count one more."""
        self.count += 1

    def leave(self) -> None:
        """Count one that ended."""
        self.count -= 1
        if self.count == 0 and self._idle is not None:
            self._idle.set()

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()

    async def wait_idle(self) -> None:
        """Wait until nobody is left."""
        while self.count:
            if self._idle is None or self._idle.is_set():  # else others wait for it already
                self._idle = asyncio.Event()
            await self._idle.wait()


@dataclass(frozen=True, slots=True, eq=False)
class Generation(Generic[Guard]):
    """One configuration in force: immutable, whole, and kept by each call to its end.

    `number` counts from 1 in each process. `providers` are in the order of the document, plugins
    first; those that are upstreams stand in `upstreams` as well, by name.
    """

    number: int
    document: Document
    settings: Settings
    providers: Sequence[Provider]
    upstreams: Mapping[str, SteadyUpstream]
    gateway: Gateway
    guard: Guard
    calls: CallsInFlight
    limiter: Limiter
    opened: AsyncExitStack = field(repr=False)

    def in_use(self) -> CallsInFlight:
        """Give what counts a call while it uses this generation: `with generation.in_use():`."""
        return self.calls

    async def aclose(self) -> None:
        """Close all it opened, last opened first."""
        await self.opened.aclose()
