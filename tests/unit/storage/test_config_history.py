"""How a row becomes an entry. What the databases do with it is tested on both of them."""

from __future__ import annotations

from datetime import UTC, datetime

from waygate_mcp.storage.config_history import _entry


def test_an_entry_says_whether_its_text_is_the_file_s() -> None:
    row = {
        "id": 7,
        "digest": "0" * 64,
        "text": "a: (secret)",
        "applied_at_utc": datetime(2026, 7, 28, tzinfo=UTC),
        "applied_by": "file",
        "reason": "start",
    }
    entry = _entry(row)
    assert (entry.number, entry.applied_by, entry.is_masked) == (7, "file", True)
