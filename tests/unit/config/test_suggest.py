"""The nearest known word."""

from __future__ import annotations

import pytest

from waygate_mcp.config.suggest import nearest


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("tols", "tools"),
        ("Tools", "tools"),
        ("call-timeout-s", "call_timeout_s"),
        ("call_timout_s", "call_timeout_s"),
        ("zzz", None),
        ("", None),
    ],
)
def test_the_nearest_word_is_found_or_nothing(word: str, expected: str | None) -> None:
    assert nearest(word, ["tools", "bind", "call_timeout_s"]) == expected


def test_a_huge_word_costs_nothing() -> None:
    assert nearest("x" * 1_000_000, ["tools"]) is None


def test_no_known_words_give_no_suggestion() -> None:
    assert nearest("tools", []) is None
