"""JSON with comments."""

from __future__ import annotations

import pytest

from waygate_mcp.importers.jsonc import parse_jsonc


def test_comments_and_trailing_commas_are_left_out() -> None:
    text = """\ufeff{
      // a server, as VS Code writes it
      "servers": { /* none
        yet */ "a": {"args": ["-y", "x",], },
      },
    }"""
    assert parse_jsonc(text) == {"servers": {"a": {"args": ["-y", "x"]}}}


def test_what_looks_like_a_comment_between_quotes_is_text() -> None:
    text = r'{"url": "https://x//y", "a": "/* no */", "b": "\"// no,]", "c": ",}"}'
    assert parse_jsonc(text) == {
        "url": "https://x//y", "a": "/* no */", "b": '"// no,]', "c": ",}"
    }  # fmt: skip


def test_a_fault_has_its_place_in_the_file() -> None:
    with pytest.raises(ValueError, match="line 3 column 9"):
        parse_jsonc("{\n/* two\nlines*/ x")


def test_a_key_that_stands_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="the key 'a' stands twice"):
        parse_jsonc('{"a": 1, "a": 2}')


def test_endless_nesting_is_refused() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_jsonc("[" * 200_000)


def test_a_comment_that_does_not_end_is_no_work_without_end() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        parse_jsonc('{"a": 1 ' + "/* " * 200_000)
