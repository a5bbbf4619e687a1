"""How late the event loop is: measured all the time, so that health is a fact and not a hope.

Knows how much later than asked a short sleep ends, and keeps the worst of the last seconds. A
function that blocks the loop shows here first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["Pulse"]

INTERVAL_S = 0.5
WINDOW = 20
"""How many beats are remembered: ten seconds of them."""


class Pulse:
    """Measures while `run` runs."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        *,
        interval_s: float = INTERVAL_S,
        window: int = WINDOW,
    ) -> None:
        self._monotonic = monotonic
        self._interval_s = interval_s
        self._lags: deque[float] = deque(maxlen=window)
        self._due_s = monotonic() + interval_s

    @property
    def worst_lag_s(self) -> float:
        """The longest delay of the last beats in seconds, the one still awaited included."""
        overdue = self._monotonic() - self._due_s
        return max(0.0, overdue, *self._lags)

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            self._due_s = self._monotonic() + self._interval_s
            await asyncio.sleep(self._interval_s)
            self._lags.append(self._monotonic() - self._due_s)
