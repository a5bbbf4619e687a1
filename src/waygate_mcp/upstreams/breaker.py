"""When a failing upstream is left alone, when one is looked at, and how many calls it may hold.

Knows failures in a row and moments of a monotonic clock. Refuses to know what failed.
Spec: threat model rules 26 and 39.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Literal

from waygate_mcp.errors import LimitError, UpstreamUnavailableError

__all__ = ["Breaker", "BreakerState", "Bulkhead", "LeftAloneError", "Pauses"]

BreakerState = Literal["closed", "open", "half-open"]


class LeftAloneError(UpstreamUnavailableError):
    """It failed of late and was not asked: that says nothing new about it, and is no failure of its own."""

    def __init__(self, upstream: str, message: str = "") -> None:
        text = f"The upstream server {upstream} fails at the moment; try again later."
        super().__init__(upstream, message, safe_message=text)


class Breaker:
    """A circuit breaker.

        closed ──`failures` in a row──> open ──pause over, one call let through──> half-open
          ^                              ^                                            │
          │                              └──────────── it failed, longer pause ───────┤
          └─────────────────────────────────────────── it succeeded ──────────────────┘

    The pause grows from `first_s` to `most_s`, with jitter, so that gateways do not come back all at
    once. A trial that says nothing for `trial_s` (it hangs, or a person is being asked) keeps the others
    out no longer: the next call is another trial. `now` is a monotonic clock.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        failures: int = 5,
        first_s: float = 1.0,
        most_s: float = 60.0,
        trial_s: float = 10.0,
    ) -> None:
        self._now = now
        self._threshold = failures
        self._first_s = first_s
        self._most_s = most_s
        self._trial_s = trial_s
        self._failures = 0
        self._openings = 0
        self._until_s = 0.0
        self._trial_until_s = 0.0
        self._is_trying = False

    @property
    def state(self) -> BreakerState:
        """What a call would meet now."""
        if self._failures < self._threshold:
            return "closed"
        return "half-open" if self._is_trying or self._now() >= self._until_s else "open"

    @property
    def is_clear(self) -> bool:
        """Tell whether the last thing heard of the upstream was an answer."""
        return not self._failures

    @property
    def wait_s(self) -> float:
        """How long from now no call is let through."""
        return max(self._until_s - self._now(), 0.0) if self._failures >= self._threshold else 0.0

    def admit(self) -> bool:
        """Let a call through, or not; one that is let through says how it ended."""
        if self._failures < self._threshold:
            return True
        now_s = self._now()
        if now_s < self._until_s or (self._is_trying and now_s < self._trial_until_s):
            return False
        self._is_trying = True
        self._trial_until_s = now_s + self._trial_s
        return True

    def note_success(self) -> None:
        """Take note that the upstream answered."""
        self._failures = self._openings = 0
        self._is_trying = False

    def note_failure(self) -> bool:
        """Take note that it did not; tell whether a trial failed by that."""
        was_trying, self._is_trying = self._is_trying, False
        self._failures += 1
        if self._failures >= self._threshold and (was_trying or self._now() >= self._until_s):
            pause_s = min(self._first_s * 2 ** min(self._openings, 16), self._most_s)
            self._until_s = self._now() + pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
            self._openings += 1
        return was_trying

    def note_nothing(self) -> None:
        """Take note that a call ended without saying anything about the upstream."""
        self._is_trying = False


class Pauses:
    """How long to wait before an upstream is looked at again.

    One that is well is looked at every `interval_s`. One that is not is tried soon, then ever more
    seldom up to that interval, and never while its breaker is open. All of it with jitter, so that
    many upstreams, and many gateways, do not ask in step.
    """

    def __init__(self, interval_s: float, *, first_s: float = 1.0) -> None:
        self._interval_s = interval_s
        self._first_s = first_s
        self._tries = 0

    def next_s(self, left_alone_s: float, *, is_well: bool) -> float:
        """Give the seconds until the next look; `left_alone_s` is what the breaker says."""
        pause_s = self._interval_s
        if is_well:
            self._tries = 0
        else:
            pause_s = min(self._first_s * 2 ** min(self._tries, 16), self._interval_s)
            self._tries += 1
        return max(pause_s * random.uniform(0.8, 1.2), left_alone_s)  # noqa: S311 - jitter


class Bulkhead:
    """At most `most` calls in flight and `waiting` more that wait for their turn, in their order."""

    def __init__(self, upstream: str, most: int, waiting: int) -> None:
        self._upstream = upstream
        self._most_waiting = waiting
        self._most = most
        self._queue: deque[asyncio.Future[None]] = deque()
        self.in_flight = 0

    @property
    def waiting(self) -> int:
        """How many calls wait for a place."""
        return len(self._queue)

    def take(self) -> bool:
        """Take a place, if one is free: most calls need not wait. To be given back by `leave`."""
        if self.in_flight >= self._most:
            return False
        self.in_flight += 1
        return True

    async def wait(self) -> None:
        """Wait for a place that `take` did not find.

        Raises:
            LimitError: too many calls wait already.
        """
        if len(self._queue) >= self._most_waiting:
            raise LimitError(
                f"calls to {self._upstream}", limit="upstream_calls",
                safe_message="Too many calls wait for the upstream server.",
            )  # fmt: skip
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._queue.remove(turn)
            else:  # its turn came in the same step
                self.leave()
            raise

    def leave(self) -> None:
        """Give a place back: to whoever waits longest, so that nobody slips in before them."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.in_flight -= 1
