"""Public names and URIs: prefixes, 64 characters, patterns, marks, and what is unfit to be shown."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waygate_mcp.gateway.names import (
    UriMark,
    hidden_character,
    is_allowed_by,
    public_name,
)


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


def test_an_entry_with_two_names_is_meant_by_either() -> None:
    assert is_allowed_by(("new",), ())("new", "old")
    assert is_allowed_by(("old",), ())("new", "old")
    assert not is_allowed_by(("other",), ())("new", "old")
    assert not is_allowed_by(None, ("old",))("new", "old")
    assert not is_allowed_by(("new",), ("old",))("new", "old")


# --- what is unfit to be shown


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a\x00b", "U+0000"),
        ("a\nb", "U+000A"),
        ("a\x1b[31mb", "U+001B"),
        ("a\x7f", "U+007F"),
        ("a\u200bb", "U+200B"),
        ("a\u202eb", "U+202E"),
        ("\ufeffa", "U+FEFF"),
        ("a\u00adb", "U+00AD"),
        ("a\u2028b", "U+2028"),
        ("a\u00a0b", "U+00A0"),
        ("a\u3164b", "U+3164"),
        ("a\ufe0fb", "U+FE0F"),
        ("a\U000e0041", "U+E0041"),
        ("a\ue000", "U+E000"),
        ("a\ud800", "U+D800"),
        ("a\u0378", "U+0378"),
    ],
)
def test_a_character_that_cannot_be_seen_is_named(text: str, code: str) -> None:
    assert hidden_character(text) == f"the character {code}, which cannot be seen"


def test_white_space_at_an_end_cannot_be_seen_either() -> None:
    for text in (" a", "a ", "\u00e9 "):
        assert hidden_character(text) == "white space at an end"


@pytest.mark.parametrize(
    "text", ["greet", "Odd name. \u00e9", "a b", "\u65e5\u672c", "memo://a/%20", "caf\u0065\u0301"]
)
def test_what_can_be_seen_is_fit(text: str) -> None:
    assert hidden_character(text) is None


# --- marks of URIs


def test_a_mark_stands_in_the_scheme_and_ui_stays_one() -> None:
    mark = UriMark("two")
    for own, public in (
        ("memo://a", "two+memo://a"),
        ("memo://{day}", "two+memo://{day}"),
        ("urn:x:1", "two+urn:x:1"),
        ("plain", "two+plain"),
        ("ui://w/1", "ui://two/w/1"),
        ("UI://w", "two+UI://w"),
    ):
        assert mark.add(own) == public
        assert mark.remove(public) == own


@pytest.mark.parametrize(
    "uri", ["memo://a", "tw+memo://a", "two+ui://w", "ui://w", "ui://twos/w", "", "two"]
)
def test_what_does_not_bear_the_mark_is_not_of_this_binding(uri: str) -> None:
    assert UriMark("two").remove(uri) is None


URIS = st.one_of(
    st.text(max_size=30),
    st.builds("{}{}".format, st.sampled_from(["ui://", "two+", "ui://two/", "three+"]), st.text()),
)


@given(URIS)
def test_a_mark_can_be_taken_off_again(uri: str) -> None:
    assert UriMark("two").remove(UriMark("two").add(uri)) == uri
    assert UriMark().remove(UriMark().add(uri)) == uri


@given(URIS)
def test_what_bears_a_mark_is_what_the_mark_was_put_on(uri: str) -> None:
    own = UriMark("two").remove(uri)
    assert own is None or UriMark("two").add(own) == uri


@given(URIS, URIS)
def test_two_marks_never_make_the_same(one: str, other: str) -> None:
    assert UriMark("two").add(one) != UriMark("three").add(other)
