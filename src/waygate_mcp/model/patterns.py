"""Patterns of names, in which `*` stands for any text and nothing else means anything."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

__all__ = ["any_of"]


def any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    """Compile patterns into one that matches a whole name; no pattern matches nothing."""
    return _compile(tuple(patterns))


@lru_cache(maxsize=1024)
def _compile(patterns: tuple[str, ...]) -> re.Pattern[str]:
    # Stars beside each other mean no more than one does, and would cost much.
    alternatives = (re.sub(r"(?:\\\*)+", ".*", re.escape(pattern)) for pattern in patterns)
    return re.compile(f"(?:{'|'.join(alternatives)})\\Z" if patterns else r"(?!)", re.DOTALL)
