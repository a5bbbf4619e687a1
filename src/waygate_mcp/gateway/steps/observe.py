"""Counts, times and notes every call that reached the chain, once, however it ends."""

from __future__ import annotations

import asyncio
import time

from waygate_mcp.errors import WaygateError
from waygate_mcp.model.call import Call, InputRequired, Outcome
from waygate_mcp.model.decision import CallResult
from waygate_mcp.model.ports import CallLog, Handler
from waygate_mcp.telemetry.metrics import Metrics

__all__ = ["Observe"]


class Observe:
    """The outermost step: it sees the outcome every other step produced.

    `log` is told of each call.
    """

    def __init__(self, metrics: Metrics, log: CallLog | None = None) -> None:
        self._metrics = metrics
        self._log = log

    async def __call__(self, call: Call, call_next: Handler) -> Outcome:
        """Pass the call on and record how it ended."""
        started = time.perf_counter()
        result: str = CallResult.FAILED
        failure: WaygateError | None = None
        try:
            outcome = await call_next(call)
            result = _result_of(outcome)
        except WaygateError as error:
            self._metrics.count_error(error.code)
            failure = error
            raise
        except asyncio.CancelledError:
            result = CallResult.CANCELLED
            raise
        else:
            return outcome
        finally:
            seconds = time.perf_counter() - started
            self._metrics.observe_call(call.endpoint, call.method, call.provider, result, seconds)
            if self._log is not None:
                self._log.note(call, result, seconds, failure)
            failure = None  # its traceback holds this frame: a circle only the collector breaks


def _result_of(outcome: Outcome) -> str:
    """Choose the word an outcome is counted with."""
    if isinstance(outcome, InputRequired):
        return CallResult.INPUT_REQUIRED
    return CallResult.TOOL_ERROR if outcome.is_error else CallResult.OK
