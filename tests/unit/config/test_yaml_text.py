"""YAML as plain values: what is taken, what is refused, and at what cost."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waygate_mcp.config.yaml_text import MAX_BYTES, MAX_VALUES, dotted, parse_yaml
from waygate_mcp.errors import ConfigError


def parse(text: str) -> Any:
    return parse_yaml(text.encode()).value


def refusal(data: bytes | str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(data.encode() if isinstance(data, str) else data)
    return caught.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("# only a comment", None),
        ("---", None),
        ("a: 1", {"a": 1}),
        ("a: -5\nb: +5\nc: 010\nd: 0x1F\ne: 0o17", {"a": -5, "b": 5, "c": 10, "d": 31, "e": 15}),
        ("a: 1.5\nb: .5\nc: 1e3\nd: -2.", {"a": 1.5, "b": 0.5, "c": 1000.0, "d": -2.0}),
        ("a: true\nb: False\nc: yes\nd: off", {"a": True, "b": False, "c": "yes", "d": "off"}),
        ("a: ~\nb: null\nc:\nd: ''", {"a": None, "b": None, "c": None, "d": ""}),
        ("a: '1'\nb: \"true\"\nc: 2026-07-28", {"a": "1", "b": "true", "c": "2026-07-28"}),
        ("a: 12:30:45\nb: 1_000", {"a": "12:30:45", "b": "1_000"}),
        ("a: |\n  one\n  two\nb: >\n  three\n  four\n", {"a": "one\ntwo\n", "b": "three four\n"}),
        ("[1, [2, {a: b}], []]", [1, [2, {"a": "b"}], []]),
        ("- a\n-\n  - b", ["a", ["b"]]),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("a: &x 5\nb: *x", {"a": 5, "b": 5}),
        ("\ufeffa: 1", {"a": 1}),
    ],
)
def test_plain_yaml_gives_plain_values(text: str, expected: Any) -> None:
    assert parse(text) == expected


def test_each_value_and_key_has_its_place() -> None:
    text = parse_yaml(b"a:\n  b: [x, y]\n")
    assert text.place(("a", "b"), of_key=True) == (2, 3)
    assert text.place(("a", "b")) == (2, 6)
    assert text.place(("a", "b", 1)) == (2, 10)


def test_what_is_not_there_has_the_place_of_what_is_around_it() -> None:
    text = parse_yaml(b"a:\n  b: 1\n")
    assert text.place(("a", "missing")) == (2, 3)
    assert parse_yaml(b"").place(("a",)) is None


def test_a_path_is_written_for_people() -> None:
    assert dotted(("endpoints", "dev", "bind", 0)) == "endpoints.dev.bind[0]"
    assert dotted(()) == ""


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        ("a: 1\nb: 2\na: 3", "twice, first in line 1", 3),
        ("a: {x: 1, x: 2}", "twice", 1),
        ("a: !!python/object/apply:os.system ['id']", "tags", 1),
        ("a: !!str 1", "tags", 1),
        ("a: !x [1]", "tags", 1),
        ("!x a: 1", "tags", 1),
        ("a: 1\n---\nb: 2", "second document", 2),
        ("a: &x [*x]", "unknown anchor", 1),
        ("a: *nowhere", "unknown anchor", 1),
        ("x: &d {a: 1}\ny:\n  <<: *d", "merge keys", 3),
        ("1: x", "a key must be text", 1),
        ("true: x", "a key must be text", 1),
        ("~: x", "a key must be text", 1),
        ("? [a]\n: 1", "a key must be text", 1),
        ("? {a: b}\n: 1", "a key must be text", 1),
        ("a: &k 1\n*k : 2", "a key must be text", 2),
        ("&k a: 1", "cannot have an anchor", 1),
        ("a: .inf", "not a number we take", 1),
        ("a: .NaN", "not a number we take", 1),
        ("a: 1e999", "too large", 1),
        ("a: [1,\nb: 2", "not YAML", 2),
        ("a: b: c", "not YAML", 1),
        ("a:\n\t- b", "not YAML", 2),
        ("%YAML 3.0\n---\na: 1", "not YAML", 1),
        ('a: "\\ud800"', "half a character", 1),
        ('"\\udfff": 1', "half a character", 1),
        ('a: "\\U00110000"', "not YAML", None),
        ('a: "\\UFFFFFFFF"', "not YAML", None),
    ],
)
def test_hostile_or_mistaken_yaml_is_refused_with_its_line(
    text: str, words: str, line: int | None
) -> None:
    error = refusal(text)
    assert words in str(error)
    assert error.problems[0].line == line


def test_a_quoted_word_is_a_key_even_if_it_looks_like_a_number() -> None:
    assert parse("'1': x\n'<<': y") == {"1": "x", "<<": "y"}


def test_bytes_that_are_no_text_are_refused_with_their_line() -> None:
    error = refusal(b"a: 1\nb: \xff\n")
    assert "UTF-8" in str(error)
    assert error.problems[0].line == 2


def test_characters_yaml_forbids_are_refused() -> None:
    assert "not YAML" in str(refusal(b"a: \x00"))
    assert "not YAML" in str(refusal(b"a: \x1b[2J"))


def test_a_huge_file_is_refused_before_it_is_read() -> None:
    assert "larger than" in str(refusal(b"a" * (MAX_BYTES + 1)))


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "a:\n"])
def test_deep_nesting_is_refused_early(opening: str) -> None:
    text = opening * 5000
    if opening == "a:\n":
        text = "".join(f"{' ' * depth}a:\n" for depth in range(1000))
    started = time.perf_counter()
    assert "nested deeper" in str(refusal(text))
    assert time.perf_counter() - started < 5


def test_a_bomb_of_aliases_counts_as_what_it_stands_for() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert str(MAX_VALUES) in str(refusal("\n".join(lines)))


@pytest.mark.no_cover  # many times the same lines
def test_the_number_of_values_is_bounded() -> None:
    assert "more than" in str(refusal(f"[{'1,' * (MAX_VALUES + 1)}]"))


def test_the_source_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^my\.yaml: line 1"):
        parse_yaml(b"a: [", source="my.yaml")


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=200)
    | st.text("ab: -[]{}&*!|>'\"%#\n\t?,<01.\\~", max_size=60).map(str.encode)
)
def test_whatever_comes_is_parsed_or_refused_and_never_crashes(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        parse_yaml(data)
