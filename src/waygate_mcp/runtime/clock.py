"""The two clocks of the process.

The monotonic clock measures how long; the wall clock says when, and nothing else (threat model rule
41). Everybody gets them as functions, so that a test can set them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Clock"]


@dataclass(frozen=True, slots=True)
class Clock:
    """`now` gives seconds since 1970, `monotonic` seconds since some moment, never going back."""

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
