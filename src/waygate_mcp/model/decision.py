"""The outcome a call is recorded with: one bounded word, for metric, log and audit alike."""

from __future__ import annotations

from enum import Enum

__all__ = ["CallResult"]


class CallResult(Enum):
    """How a call ended, seen from the door."""

    OK = "ok"
    TOOL_ERROR = "tool_error"
    INPUT_REQUIRED = "input_required"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
