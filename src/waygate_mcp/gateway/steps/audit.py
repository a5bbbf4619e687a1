"""A record of every call before its effect (threat model rule 37). Its end, or its refusal, is `Observe`'s to tell.

Knows when something is recorded. Refuses to know where.
"""

from __future__ import annotations

from collections.abc import Awaitable

from waygate_mcp.model.call import Call, Outcome
from waygate_mcp.model.ports import CallRecorder, Handler, Step

__all__ = ["started"]


def started(recorder: CallRecorder, *, is_strict: bool) -> Step:
    """Give the innermost ring: what comes after it has an effect, so the record comes before."""

    def begin(call: Call, call_next: Handler) -> Awaitable[Outcome]:
        """Record the beginning and go on.

        Raises:
            StorageError: it cannot be recorded, so the call is not made.
        """
        recorder.begin(call)
        return call_next(call)

    async def begin_durably(call: Call, call_next: Handler) -> Outcome:
        """Record the beginning, wait for the disk, and go on.

        Raises:
            StorageError: it cannot be recorded, so the call is not made.
        """
        recorder.begin(call)
        await recorder.wait_begun(call)
        return await call_next(call)

    return begin_durably if is_strict else begin
