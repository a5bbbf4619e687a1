from __future__ import annotations

from waygate_mcp.upstreams.outside_text import clipped


def test_what_moves_a_terminal_or_breaks_a_line_is_escaped() -> None:
    assert clipped("a\x1b[2J\nb\u202ec") == "a\\x1b[2J\\nb\\u202ec"


def test_long_text_is_clipped_and_says_so() -> None:
    assert clipped("x" * 10, 4) == "xxxx…"
    assert clipped(b"x" * 10_000_000, 4) == "xxxx…"
    assert clipped(b"\xff\xfe", 4) == "\ufffd\ufffd"
