"""The rings around every call, outermost first."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from waygate_mcp.model.call import Call, Outcome
from waygate_mcp.model.ports import Handler, Step

__all__ = ["compose"]


def compose(steps: Sequence[Step], last: Handler) -> Handler:
    """Wrap `last` in `steps`, the first outermost."""
    for step in reversed(steps):
        last = _ring(step, last)
    return last


def _ring(step: Step, inner: Handler) -> Handler:
    """Put one step around a handler. A closure: `partial` costs twice as much on every call."""

    def handle(call: Call) -> Awaitable[Outcome]:
        return step(call, inner)

    return handle
