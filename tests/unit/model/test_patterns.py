from __future__ import annotations

import time

import pytest

from waygate_mcp.model.patterns import any_of


@pytest.mark.parametrize(
    ("patterns", "name", "matches"),
    [
        (["*"], "anything\nat all", True),
        (["a*"], "abc", True),
        (["a*"], "ba", False),
        (["a", "b"], "b", True),
        (["a"], "aa", False),
        (["a.c"], "abc", False),
        (["[ab]"], "a", False),
        ([], "a", False),
    ],
)
def test_a_star_stands_for_any_text_and_nothing_else_means_anything(
    patterns: list[str], name: str, matches: bool
) -> None:
    assert (any_of(patterns).match(name) is not None) is matches


def test_many_stars_beside_each_other_cost_no_more_than_one() -> None:
    began = time.process_time()
    assert any_of(["*" * 200 + "b"]).match("a" * 2_000) is None
    assert time.process_time() - began < 5
