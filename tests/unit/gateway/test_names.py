"""Public names: prefixes, 64 characters, patterns."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waygate_mcp.gateway.names import is_allowed_by, public_name


def test_without_a_prefix_a_name_is_itself_whatever_it_is() -> None:
    for name in ("greet", "a.b/c d", "é" * 100):
        assert public_name("", name) == name


def test_a_prefix_stands_before_the_name() -> None:
    assert public_name("weather__", "forecast") == "weather__forecast"


def test_a_name_of_64_characters_stays_and_a_longer_one_keeps_55() -> None:
    assert public_name("p__", "x" * 61) == "p__" + "x" * 61
    long = public_name("p__", "x" * 62)
    assert len(long) == 64
    assert long.startswith("p__" + "x" * 52 + "_")


def test_long_names_with_the_same_beginning_stay_different() -> None:
    names = {public_name("p__", "x" * 70 + str(number)) for number in range(50)}
    assert len(names) == 50


def test_what_clients_do_not_take_in_a_name_becomes_a_dash_below_and_stays_different() -> None:
    spaced, dotted = public_name("p__", "a b"), public_name("p__", "a.b")
    assert spaced != dotted
    for name in (spaced, dotted):
        assert re.fullmatch(r"p__a_b_[a-z2-7]{8}", name)
    assert public_name("p__", "a_b") == "p__a_b"


@given(st.text(min_size=1, max_size=200))
def test_any_name_under_a_prefix_is_one_every_client_takes(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", public_name("alias__", name))
    assert public_name("alias__", name) == public_name("alias__", name)


@pytest.mark.parametrize(
    ("allow", "deny", "name", "is_allowed"),
    [
        (None, (), "anything", True),
        ((), (), "anything", False),
        (("get_*",), (), "get_it", True),
        (("get_*",), (), "forget_it", False),
        (("*",), (), "line\nbreak", True),
        (("a", "b*"), (), "bc", True),
        (("a",), (), "ab", False),
        (None, ("drop_*",), "drop_all", False),
        (("*",), ("drop_*",), "drop_all", False),
        (("*",), ("drop_*",), "keep", True),
        (("a.c",), (), "abc", False),
        (("a",), (), "a\n", False),
    ],
)
def test_deny_wins_and_an_empty_allow_list_allows_nothing(
    allow: tuple[str, ...] | None, deny: tuple[str, ...], name: str, is_allowed: bool
) -> None:
    assert is_allowed_by(allow, deny)(name) is is_allowed
