"""A record of every call: before its effect and after it, or of its refusal (threat model rule 37).

Knows when something is recorded. Refuses to know where. Two rings: `Audit` stands outside of all that
may refuse a call and sees how it ends; `started` stands inside and records that it was allowed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

from waygate_mcp.errors import WaygateError
from waygate_mcp.model.call import Call, InputRequired, Outcome
from waygate_mcp.model.decision import CallResult
from waygate_mcp.model.ports import CallRecorder, Handler, Step

__all__ = ["Audit", "started"]


class Audit:
    """Records how every call ended that began, and every call that was refused."""

    def __init__(self, recorder: CallRecorder) -> None:
        self._recorder = recorder

    async def __call__(self, call: Call, call_next: Handler) -> Outcome:
        """Pass the call on and record its end."""
        began_s = time.perf_counter()
        result: str = CallResult.FAILED
        try:
            outcome = await call_next(call)
            if isinstance(outcome, InputRequired):
                result = CallResult.INPUT_REQUIRED
            else:
                result = CallResult.TOOL_ERROR if outcome.is_error else CallResult.OK
        except WaygateError as error:
            result = error.code
            raise
        except asyncio.CancelledError:
            result = CallResult.CANCELLED
            raise
        else:
            return outcome
        finally:
            record = self._recorder.end if call.audit_sequence else self._recorder.refuse
            record(call, result, time.perf_counter() - began_s)


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
