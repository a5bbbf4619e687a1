"""May this caller do one more now? Asked before anything is done for the call (threat model rule 39)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from waygate_mcp.model.call import Call, Outcome
from waygate_mcp.model.ports import Handler
from waygate_mcp.model.principal import Principal

__all__ = ["Limit"]


class Limit:
    """Counts each request; `admit` is given the caller, and the tool's name where one is called.

    What `admit` gives is awaited before the call goes on.
    """

    def __init__(self, admit: Callable[[Principal, str], Awaitable[None] | None]) -> None:
        self._admit = admit

    def __call__(self, call: Call, call_next: Handler) -> Awaitable[Outcome]:
        """Count the call and pass it on. A plain function: mostly nothing is awaited.

        Raises:
            RateLimitedError: it is one too many.
        """
        waits = self._admit(call.principal, call.name if call.method == "tools/call" else "")
        return call_next(call) if waits is None else _after(waits, call, call_next)


async def _after(waits: Awaitable[None], call: Call, call_next: Handler) -> Outcome:
    await waits
    return await call_next(call)
