"""Counters the workers of one machine share: a file of fixed size that all of them have mapped.

The same algorithm as `counters.py`, on the machine's monotonic clock, which is one for all processes.
Changes are made under `flock`, which the kernel takes back from a process that dies. A worker that does
not get it within a few tries (another was stopped while it held it) counts by itself for this call,
never without a limit. Each bucket has a few slots it may stand in; where buckets in debt have them all, it
shares one of them, so that a flood of names gains nothing.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self

from waygate_mcp.model.ports import Bucket, CounterStore, Shortage
from waygate_mcp.policy.counters import shortage_of

__all__ = ["FILE_NAME", "SharedCounters"]

FILE_NAME = "counters"
SLOTS = 65_536
PROBES = 8
TRIES = 50
MAX_PLACES = 100_000
_SLOT = struct.Struct("=8sd")


class SharedCounters:
    """The CounterStore of several workers; use it with `with`. `alone` counts where the lock is not had.

    `on_miss` is told of each call that was counted by `alone`.
    """

    def __init__(
        self,
        path: Path,
        alone: CounterStore,
        on_miss: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._alone = alone
        self._on_miss = on_miss
        self._monotonic = monotonic
        self._places: dict[str, tuple[bytes, int]] = {}

    def __enter__(self) -> Self:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(self._path, flags, 0o600)
        try:
            os.ftruncate(self._file, SLOTS * _SLOT.size)
            self._map = mmap.mmap(self._file, SLOTS * _SLOT.size)
        except BaseException:
            os.close(self._file)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._map.close()
        os.close(self._file)

    def take(self, buckets: Sequence[Bucket]) -> Shortage | None:
        """Take one out of every bucket, or none and say which was empty. See `CounterStore`."""
        if not self._lock():
            self._on_miss()
            return self._alone.take(buckets)
        try:
            now = self._monotonic()
            taken: dict[int, tuple[bytes, float]] = {}
            for bucket in buckets:
                slot, mark, whole_at = self._find(bucket.key, now)
                if slot in taken:
                    whole_at = taken[slot][1]
                after = max(whole_at, now) + bucket.interval_s
                if after - now > bucket.window_s:
                    return shortage_of(bucket, after, now)
                taken[slot] = (mark, after)
            for slot, (mark, after) in taken.items():
                _SLOT.pack_into(self._map, slot, mark, after)
            return None
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _lock(self) -> bool:
        for _ in range(TRIES):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.sched_yield()
            else:
                return True
        return False

    def _find(self, key: str, now: float) -> tuple[int, bytes, float]:
        """Give the slot of a bucket, its mark, and when it is whole; a slot that is whole is free."""
        place = self._places.get(key)
        if place is None:
            if len(self._places) >= MAX_PLACES:
                self._places.clear()
            digest = blake2b(key.encode(), digest_size=16, person=b"waygate-counters").digest()
            place = (digest[:8], int.from_bytes(digest[8:]) % SLOTS)
            self._places[key] = place
        mark, first = place
        free = -1
        for step in range(PROBES):
            slot = (first + step) % SLOTS * _SLOT.size
            found, whole_at = _SLOT.unpack_from(self._map, slot)
            if found == mark:
                return slot, mark, whole_at
            if free < 0 and whole_at <= now:
                free = slot
        if free >= 0:
            return free, mark, now
        slot = first * _SLOT.size
        found, whole_at = _SLOT.unpack_from(self._map, slot)
        return slot, found, whole_at
