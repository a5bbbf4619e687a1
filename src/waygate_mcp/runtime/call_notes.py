"""Notes of calls for the background writer: a tuple each, and nothing that is awaited.

Knows which calls are noted. Refuses to know rows: `storage.history` does.
"""

from __future__ import annotations

from collections.abc import Callable

from waygate_mcp.errors import WaygateError
from waygate_mcp.model.call import Call
from waygate_mcp.storage.history import CallRecord, write_calls
from waygate_mcp.storage.writer import BackgroundWriter

__all__ = ["CallNotes"]

NOTED = frozenset({"tools/call", "prompts/get", "resources/read"})
"""Methods that do something for somebody; lists and the like are counted by the metrics."""


class CallNotes:
    """Notes calls for the background writer. Fulfils `model.ports.CallLog`."""

    __slots__ = ("_add", "_now", "_writer")

    def __init__(self, writer: BackgroundWriter, now: Callable[[], float]) -> None:
        self._writer = writer
        self._add = writer.add
        self._now = now

    @property
    def is_full(self) -> bool:
        """See CallLog."""
        return self._writer.is_full

    async def wait_for_room(self) -> None:
        """See CallLog."""
        await self._writer.wait_for_room()

    def note(self, call: Call, result: str, seconds: float, failure: WaygateError | None) -> None:
        """See CallLog."""
        if call.method not in NOTED:
            return
        record = CallRecord(
            self._now(),
            call.request_id,
            call.principal.id,
            call.endpoint,
            call.method,
            call.provider,
            call.name,
            result,
            seconds,
            None if failure is None else (failure.code, failure.safe_message),
        )
        self._add(write_calls, record)
