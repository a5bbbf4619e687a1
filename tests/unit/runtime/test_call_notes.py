"""Which calls are counted, which are kept whole, and what of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.providers import make_call
from waygate_mcp.errors import UnknownNameError
from waygate_mcp.runtime import call_notes
from waygate_mcp.runtime.call_notes import CallNotes
from waygate_mcp.storage.history import CallRecord, CallTally, write_calls


class Desk:
    """A clock, and as much of the writer as the notes use."""

    def __init__(self) -> None:
        self.now_s = 5.0
        self.tallies: list[CallTally] = []
        self.notes = CallNotes(self, lambda: self.now_s)  # type: ignore[arg-type]

    def add(self, sink: Any, record: Any) -> bool:
        assert sink is write_calls
        self.tallies.append(record)
        return True

    def note(
        self, times: int = 1, result: str = "ok", name: str = "x", provider: str = "box"
    ) -> None:
        call = make_call("tools/call", {"name": name, "arguments": {"secret": "hunter2"}})
        call.provider = provider
        failure = UnknownNameError("tool", name) if result == "failed" else None
        for _ in range(times):
            self.notes.note(call, result, 0.5, failure)


def test_a_call_is_kept_without_its_arguments_and_a_list_is_not_noted() -> None:
    desk = Desk()
    call = make_call("tools/call", {"name": "x", "arguments": {"secret": "hunter2"}})
    desk.notes.note(call, "failed", 0.5, UnknownNameError("tool", "x"))
    desk.notes.note(make_call("tools/list", {}), "ok", 0.5, None)
    (tally,) = desk.tallies
    assert tally.kept == [CallRecord(
        5.0, call.request_id, call.principal.id, "default", "tools/call", call.provider,
        call.name, "failed", 0.5, ("unknown_name", "Unknown tool: x"),
    )]  # fmt: skip
    assert "hunter2" not in repr(tally.kept)


def test_calls_are_counted_until_the_writer_takes_the_tally() -> None:
    desk = Desk()
    desk.note(3)
    desk.note(2, "tool_error")
    desk.tallies[0].is_closed = True
    desk.note()
    first, second = desk.tallies
    ((use, cell),) = first.uses.items()
    assert (use[1:], cell) == (("box", "tools/call", "x"), [5, 2, 2.5, 0.5])
    assert [cell[0] for cell in second.uses.values()] == [1]


def test_beyond_the_budget_calls_are_counted_only_and_failures_have_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(call_notes, "KEPT_AT_ONCE", 10.0)
    monkeypatch.setattr(call_notes, "KEPT_PER_S", 4.0)
    desk = Desk()
    desk.note(50)
    desk.note(3, "failed")
    assert [one.outcome for one in desk.tallies[0].kept] == ["ok"] * 10 + ["failed"] * 3
    desk.tallies[0].is_closed = True
    desk.now_s += 0.5
    desk.note(50)
    assert len(desk.tallies[1].kept) == 2
    assert sum(cell[0] for tally in desk.tallies for cell in tally.uses.values()) == 103


def test_while_nobody_takes_the_tally_what_is_kept_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(call_notes, "MAX_KEPT", 7)
    desk = Desk()
    desk.note(50)
    assert len(desk.tallies[0].kept) == 7


def test_names_nobody_offers_are_one_use() -> None:
    desk = Desk()
    for number in range(20):
        desk.note(name=f"guess{number}", provider="", result="failed")
    assert [use[1:] for use in desk.tallies[0].uses] == [("", "tools/call", "")]


def test_uses_without_end_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waygate_mcp.storage.history.MAX_USES", 3)
    desk = Desk()
    for number in range(20):
        desk.note(name=f"tool{number}")
    uses = desk.tallies[0].uses
    assert len(uses) == 4
    assert sum(cell[0] for cell in uses.values()) == 20
