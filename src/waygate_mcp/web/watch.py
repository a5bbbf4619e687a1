"""Calls that take longer than a moment, found without a timer for each call.

Knows which calls are under way in two buckets: those that arrived since the last tick, and those that
were there before it. A call still in the older bucket at a tick has taken at least one tick: it is
handed to `on_slow`, and stays in its bucket until it is over. Nearly all calls are over before, and cost one
entry in a dict.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

__all__ = ["TICK_S", "SlowWatch"]

T = TypeVar("T")

TICK_S = 0.1
"""A call is handed on after one to two ticks, in seconds."""


class SlowWatch(Generic[T]):
    """Hands on what is not over after a moment. It ticks only while something is under way."""

    def __init__(self, on_slow: Callable[[T], None]) -> None:
        self._on_slow = on_slow
        self._young: dict[T, None] = {}
        self._old: dict[T, None] = {}
        self._slow: list[dict[T, None]] = []
        self._is_ticking = False

    def begin(self, what: T) -> dict[T, None]:
        """Note that `what` is under way; give the bucket to take it out of when it is over."""
        if not self._is_ticking:
            self._is_ticking = True
            asyncio.get_running_loop().call_later(TICK_S, self._tick)
        young = self._young
        young[what] = None
        return young

    def under_way(self) -> Iterator[T]:
        """Give everything that is under way, however long."""
        for bucket in (*self._slow, self._old, self._young):
            yield from tuple(bucket)

    def _tick(self) -> None:
        """Hand on what has grown old, and let the young ones age."""
        slow, self._old, self._young = self._old, self._young, {}
        if self._old:
            asyncio.get_running_loop().call_later(TICK_S, self._tick)
        else:
            self._is_ticking = False
        self._slow = [bucket for bucket in self._slow if bucket]
        if slow:
            self._slow.append(slow)
        for what in tuple(slow):
            self._on_slow(what)
