"""When a failing upstream is left alone, when one is looked at, how many calls it may hold, and whose is next.

Knows failures in a row and moments of a monotonic clock. Refuses to know what failed.
Spec: threat model rules 26, 39 and 40.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

from waygate_mcp.errors import LimitError, UpstreamUnavailableError

__all__ = ["Breaker", "BreakerState", "Bulkhead", "LeftAloneError", "Pauses"]

_Queue = OrderedDict[asyncio.Future[None], None]
"""The calls of one caller that wait, the oldest first."""

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
    """At most `most` calls in flight and `waiting` more that wait for their turn.

    Callers take turns: each time a place becomes free, the caller is next whose turn was longest ago, with the
    call that waits longest of its own. Where too many wait, a caller with few displaces the newest
    call of the one with most, so that nobody keeps the others out (threat model rule 40).
    """

    def __init__(self, upstream: str, most: int, waiting: int) -> None:
        self._upstream = upstream
        self._most = most
        self._most_waiting = waiting
        # Callers by turn. None of them is empty, and nobody waits while a place is free.
        self._turns: OrderedDict[str, _Queue] = OrderedDict()
        self.in_flight = 0
        self.waiting = 0

    def take(self) -> bool:
        """Take a place, if one is free: most calls need not wait. To be given back by `leave`."""
        if self.in_flight >= self._most:
            return False
        self.in_flight += 1
        return True

    async def wait(self, whom: str) -> None:
        """Wait for a place that `take` did not find.

        Raises:
            LimitError: too many calls wait already, or this one was displaced.
        """
        queue = self._queue_for(whom)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue[turn] = None
        self.waiting += 1
        try:
            await turn
        except BaseException:
            if turn in queue:
                del queue[turn]
                self.waiting -= 1
                if not queue:
                    del self._turns[whom]
            elif not turn.cancelled() and turn.exception() is None:
                self.leave()  # it was cancelled when it had its place already
            raise

    def leave(self) -> None:
        """Give a place to who is next, or back."""
        while self._turns:
            whom, queue = self._turns.popitem(last=False)
            turn, _ = queue.popitem(last=False)
            self.waiting -= 1
            if queue:
                self._turns[whom] = queue
            if not turn.done():  # else it was cancelled, and does not know yet
                turn.set_result(None)
                return
        self.in_flight -= 1

    def _queue_for(self, whom: str) -> _Queue:
        """Give the queue of a caller, when there is room in it."""
        own = self._turns.get(whom)
        if self.waiting >= self._most_waiting:
            largest: _Queue = max(self._turns.values(), key=len, default=OrderedDict())
            if len(largest) <= (0 if own is None else len(own)) + 1:
                raise self._refusal()
            turn, _ = largest.popitem()
            self.waiting -= 1
            if not turn.done():
                turn.set_exception(self._refusal())
        if own is None:
            own = self._turns[whom] = OrderedDict()
        return own

    def _refusal(self) -> LimitError:
        return LimitError(
            f"calls to {self._upstream}", limit="upstream_calls",
            safe_message="Too many calls wait for the upstream server.",
        )  # fmt: skip
