"""Stated times for log lines: RFC 3339, UTC, milliseconds.

Knows the wall clock, which is for saying when and never for measuring how long.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Stamp:
    """Gives the time as text, formatted at most once for each millisecond."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._ms = -1
        self._second = -1
        self._prefix = ""
        self._text = ""

    def now(self) -> str:
        """Give the time now, for example `2026-07-28T12:00:00.123Z`."""
        ms = int(self._wall() * 1000)
        if ms != self._ms:
            second, rest = divmod(ms, 1000)
            if second != self._second:
                self._second = second
                self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._ms = ms
            self._text = f"{self._prefix}.{rest:03d}Z"
        return self._text
