"""What a row says of a record."""

from __future__ import annotations

import pytest

from waygate_mcp.storage.history import MAX_TEXT, _day, _storable


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("plain", "plain"),
        ("a\0b", "a\N{REPLACEMENT CHARACTER}b"),
        ("é\0\ud800", "é\N{REPLACEMENT CHARACTER}?"),
        ("x" * (MAX_TEXT + 1), "x" * MAX_TEXT),
    ],
)
def test_a_text_from_outside_is_made_storable(text: str, stored: str) -> None:
    assert _storable(text) == stored


def test_a_day_is_one_of_utc() -> None:
    assert _day(1_795_910_399.9) == "2026-11-28"
    assert _day(1_795_910_400.0) == "2026-11-29"
