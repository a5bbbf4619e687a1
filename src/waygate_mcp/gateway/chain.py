"""The rings around every call, outermost first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from waygate_mcp.model.ports import Handler, Step

__all__ = ["compose"]


def compose(steps: Sequence[Step], last: Handler) -> Handler:
    """Wrap `last` in `steps`, the first outermost."""
    for step in reversed(steps):
        last = partial(step, call_next=last)
    return last
