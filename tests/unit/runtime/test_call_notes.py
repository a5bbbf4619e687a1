"""Which calls are noted, and what of them."""

from __future__ import annotations

from typing import Any

from tests.support.providers import make_call
from waygate_mcp.errors import UnknownNameError
from waygate_mcp.runtime.call_notes import CallNotes
from waygate_mcp.storage.history import CallRecord, write_calls


class Writer:
    def __init__(self) -> None:
        self.is_full = False
        self.waited = 0
        self.added: list[tuple[Any, Any]] = []

    def add(self, sink: Any, record: Any) -> bool:
        self.added.append((sink, record))
        return True

    async def wait_for_room(self) -> None:
        self.waited += 1


async def test_a_call_is_noted_without_its_arguments_and_a_list_is_not() -> None:
    writer: Any = Writer()
    notes = CallNotes(writer, lambda: 5.0)
    call = make_call("tools/call", {"name": "x", "arguments": {"secret": "hunter2"}})
    notes.note(call, "failed", 0.5, UnknownNameError("tool", "x"))
    notes.note(make_call("tools/list", {}), "ok", 0.5, None)
    ((sink, record),) = writer.added
    assert sink is write_calls
    assert record == CallRecord(
        5.0, call.request_id, call.principal.id, "default", "tools/call", call.provider,
        call.name, "failed", 0.5, ("unknown_name", "Unknown tool: x"),
    )  # fmt: skip
    assert "hunter2" not in repr(record)


async def test_it_is_full_when_the_writer_is() -> None:
    writer: Any = Writer()
    notes = CallNotes(writer, lambda: 5.0)
    found = [notes.is_full]
    writer.is_full = True
    assert [*found, notes.is_full] == [False, True]
    await notes.wait_for_room()
    assert writer.waited == 1
