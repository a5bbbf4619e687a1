"""The outcome a call is recorded with: one bounded word, for metric, log and audit alike."""

from __future__ import annotations

from typing import Final

__all__ = ["CallResult"]


class CallResult:
    """How a call ended, seen from the door. Plain words: they go to metric and log as they are."""

    OK: Final = "ok"
    TOOL_ERROR: Final = "tool_error"
    INPUT_REQUIRED: Final = "input_required"
    REFUSED: Final = "refused"
    FAILED: Final = "failed"
    CANCELLED: Final = "cancelled"
    TIMEOUT: Final = "timeout"
