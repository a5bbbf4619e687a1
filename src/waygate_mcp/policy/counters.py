"""Counters of one process: one number for each bucket, by the generic cell rate algorithm.

The number is the moment at which the bucket is whole again. A bucket that is whole says nothing that
its absence does not, so only those are forgotten. Where none of them can be, newcomers share one bucket
of their own: a flood of names gains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from waygate_mcp.model.ports import Bucket, Shortage

__all__ = ["MAX_BUCKETS", "LocalCounters", "shortage_of"]

MAX_BUCKETS = 100_000
SWEEP = 1_000
"""Buckets looked at for one that can be forgotten, when there is no room."""

OVERFLOW = "overflow"


class LocalCounters:
    """The CounterStore in memory. `monotonic` gives seconds."""

    def __init__(self, monotonic: Callable[[], float], max_buckets: int = MAX_BUCKETS) -> None:
        self._monotonic = monotonic
        self._max = max_buckets
        self._whole_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._whole_at)

    def take(self, buckets: Sequence[Bucket]) -> Shortage | None:
        """Take one out of every bucket, or none and say which was empty. See `CounterStore`."""
        whole_at = self._whole_at
        now = self._monotonic()
        if len(buckets) == 1:  # the usual case, without a list
            bucket = buckets[0]
            key = bucket.key
            at = whole_at.get(key)
            if at is None:
                key = self._room_for(bucket, now)
                at = whole_at.get(key, now)
            after = (at if at > now else now) + bucket.interval_s
            if after - now > bucket.window_s:
                return shortage_of(bucket, after, now)
            whole_at[key] = after
            return None
        taken: dict[str, float] = {}
        for bucket in buckets:
            key = bucket.key if bucket.key in whole_at else self._room_for(bucket, now)
            after = max(taken.get(key, whole_at.get(key, now)), now) + bucket.interval_s
            if after - now > bucket.window_s:
                return shortage_of(bucket, after, now)
            taken[key] = after
        whole_at.update(taken)
        return None

    def _room_for(self, bucket: Bucket, now: float) -> str:
        """Give the key a new bucket is kept under, after forgetting whole ones where there is no room."""
        whole_at = self._whole_at
        if len(whole_at) < self._max:
            return bucket.key
        oldest = [key for key, _ in zip(whole_at, range(SWEEP), strict=False)]
        for key in oldest:
            at = whole_at.pop(key)
            if at > now:
                whole_at[key] = at  # to the end: the next sweep looks at others
        return bucket.key if len(whole_at) < self._max else f"{OVERFLOW}:{bucket.window_s}"


def shortage_of(bucket: Bucket, after: float, now: float) -> Shortage:
    """Say what is missing: `after` is when the bucket would have been whole, had one more been taken."""
    whole_at = after - bucket.interval_s
    return Shortage(bucket, after - now - bucket.window_s, whole_at - now)
