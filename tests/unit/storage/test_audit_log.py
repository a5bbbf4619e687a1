"""How a record becomes a row. What the databases do with it is tested on both of them."""

from __future__ import annotations

from datetime import UTC, datetime

from waygate_mcp.storage.audit_log import _row


def test_a_row_holds_what_can_be_asked_for_and_the_line() -> None:
    row = _row(
        {"chain": "c", "sequence": 1, "at": "2026-07-28T12:00:00.000Z", "kind": "lifecycle"}, "{}"
    )
    assert row["at_utc"] == datetime(2026, 7, 28, 12, tzinfo=UTC)
    assert (row["kind"], row["principal"], row["record"]) == ("lifecycle", None, "{}")
