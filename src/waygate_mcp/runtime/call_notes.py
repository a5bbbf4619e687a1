"""Notes of calls for the background writer: each is counted, and nothing is awaited.

Knows which calls are noted, and how many of them a second are kept whole. Refuses to know rows:
`storage.history` does.
"""

from __future__ import annotations

from collections.abc import Callable

from waygate_mcp.errors import WaygateError
from waygate_mcp.model.call import Call
from waygate_mcp.storage.history import NAMED, CallRecord, CallTally, write_calls
from waygate_mcp.storage.writer import BackgroundWriter

__all__ = ["CallNotes"]

NOTED = frozenset({"tools/call", "prompts/get", "resources/read"})
"""Methods that do something for somebody; lists and the like are counted by the metrics."""
KEPT_PER_S = 200.0
"""Calls a second that are kept whole for long; a row costs more than a quick call does."""
KEPT_AT_ONCE = 2_000.0
MAX_KEPT = 10_000
"""Rows that wait while the database is away."""
_BAD = frozenset({"failed", "tool_error"})


class CallNotes:
    """Notes calls for the background writer. Fulfils `model.ports.CallLog`.

    Calls that went well and those that failed have a budget each, so that neither hides the other.
    """

    __slots__ = ("_now", "_room", "_since_s", "_tally", "_writer")

    def __init__(self, writer: BackgroundWriter, now: Callable[[], float]) -> None:
        self._writer = writer
        self._now = now
        self._tally = CallTally(0.0)
        self._tally.is_closed = True
        self._since_s = now()
        self._room = [KEPT_AT_ONCE, KEPT_AT_ONCE]

    def note(self, call: Call, result: str, seconds: float, failure: WaygateError | None) -> None:
        """See CallLog."""
        method = call.method
        if method not in NOTED:
            return
        tally = self._tally
        if tally.is_closed:
            tally = self._begin()
        principal, provider = call.principal.id, call.provider
        is_error = result in _BAD
        name = call.name if provider and method in NAMED else ""
        tally.count((principal, provider, method, name), seconds, is_error=is_error)
        room = self._room
        if room[is_error] < 1.0 or len(tally.kept) >= MAX_KEPT:
            return
        room[is_error] -= 1.0
        error = None if failure is None else (failure.code, failure.safe_message)
        tally.kept.append(
            CallRecord(
                self._now(), call.request_id, principal, call.endpoint, method, provider,
                call.name, result, seconds, error,
            )
        )  # fmt: skip

    def _begin(self) -> CallTally:
        """Begin a tally: a few times a second at most, when the writer took the last one."""
        now_s = self._now()
        more = max(0.0, now_s - self._since_s) * KEPT_PER_S
        self._since_s = now_s
        self._room = [min(KEPT_AT_ONCE, each + more) for each in self._room]
        self._tally = CallTally(now_s)
        self._writer.add(write_calls, self._tally)
        return self._tally
