"""The nearest known word to a misspelt one.

Knows spelling only; which words are known is the caller's affair.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

CUTOFF = 0.6
"""How alike two words must be (0 … 1) before one is offered for the other."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Give the member of `known` most like `word`, or None if nothing comes near.

    Case, and `-` against `_`, do not count as differences.
    """
    folded = {_fold(name): name for name in known}
    found = difflib.get_close_matches(_fold(word)[:100], folded, n=1, cutoff=CUTOFF)
    return folded[found[0]] if found else None


def _fold(word: str) -> str:
    return word.lower().replace("-", "_")
