"""How a server process gives memory back: seldom what is small, at once what is large.

Knows the garbage collector and the allocator of the C library. Refuses to know what the memory was for.
See docs/decisions/0081.
"""

from __future__ import annotations

import ctypes
import gc
import sys

__all__ = ["give_large_blocks_back", "settle"]

_GC_THRESHOLDS = (20_000, 20, 50)
"""A call leaves no reference cycles behind, so that collecting rarely costs no memory."""

_LARGE_BYTES = 1024 * 1024
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def settle() -> None:
    """Set this process up for serving, once what it needs is loaded."""
    # What is loaded by now stays: the collector need not walk through it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    give_large_blocks_back()


def give_large_blocks_back() -> bool:
    """Have the allocator return blocks of 1 MiB and more to the system when they are freed.

    glibc raises that bound to the largest block it ever freed, up to 32 MiB: after one large message others
    come from a heap that keeps up to twice as much, and that a small block at its end keeps from shrinking.
    False where there is another C library, which has no such bound.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    told = [mallopt(option, _LARGE_BYTES) for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)]
    return told == [1, 1]
