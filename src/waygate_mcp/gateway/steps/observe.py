"""Counts, times, notes and records every call that reached the chain, once, however it ends.

And the last look at an error that somebody else worded: credentials of ours that an upstream repeats in it
are hidden (threat model rules 17 and 33). What is no error costs nothing here.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from waygate_mcp.errors import RpcError, WaygateError
from waygate_mcp.model.call import Call, InputRequired, Outcome
from waygate_mcp.model.decision import CallResult
from waygate_mcp.model.ports import CallLog, CallRecorder, Handler
from waygate_mcp.telemetry.metrics import Metrics

__all__ = ["Observe"]


class Hides(Protocol):
    """Who knows what must not be shown."""

    def hide(self, text: str) -> str:
        """Give the text without it."""

    def hide_in_json(self, data: bytes) -> bytes:
        """Give the JSON without it."""


class Observe:
    """The outermost step: it sees the outcome every other step produced.

    `hides` is given errors that clients are told as they stand, and `log` is told of each call. `recorder` is
    told how each ended that `started` told it had begun, and which were refused.
    """

    def __init__(
        self,
        metrics: Metrics,
        hides: Hides | None = None,
        log: CallLog | None = None,
        recorder: CallRecorder | None = None,
    ) -> None:
        self._metrics = metrics
        self._hides = hides
        self._log = log
        self._recorder = recorder

    async def __call__(self, call: Call, call_next: Handler) -> Outcome:
        """Pass the call on and record how it ended."""
        started = time.perf_counter()
        result: str = CallResult.FAILED
        failure: WaygateError | None = None
        try:
            outcome = await call_next(call)
            if isinstance(outcome, InputRequired):
                result = CallResult.INPUT_REQUIRED
            else:
                result = CallResult.TOOL_ERROR if outcome.is_error else CallResult.OK
        except WaygateError as error:
            self._metrics.count_error(error.code)
            failure = error
            if isinstance(error, RpcError) and (hidden := self._hidden(error)) is not None:
                failure = hidden
                raise hidden from error
            raise
        except asyncio.CancelledError:
            result = CallResult.CANCELLED
            raise
        else:
            return outcome
        finally:
            seconds = time.perf_counter() - started
            if (recorder := self._recorder) is not None:
                record = recorder.end if call.audit_sequence else recorder.refuse
                record(call, result if failure is None else failure.code, seconds)
            self._metrics.observe_call(call.endpoint, call.method, call.provider, result, seconds)
            if self._log is not None:
                self._log.note(call, result, seconds, failure)
            failure = None  # its traceback holds this frame: a circle only the collector breaks

    def _hidden(self, error: RpcError) -> RpcError | None:
        """Give an error without what must not be shown; None where there is nothing of it."""
        if self._hides is None:
            return None
        message = self._hides.hide(error.safe_message)
        data = None if error.data is None else self._hides.hide_in_json(error.data)
        if (message, data) == (error.safe_message, error.data):
            return None
        return RpcError(error.rpc_code, message, data)
