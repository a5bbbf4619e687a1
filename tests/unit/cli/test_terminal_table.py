"""Tables on a terminal."""

from __future__ import annotations

import pytest

from waygate_mcp.cli.terminal_table import print_rich_table


def test_text_is_never_taken_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_rich_table(["name"], [["[bold]x[/bold]"], [":smile:"]], width=60)
    out = capsys.readouterr().out
    assert "[bold]x[/bold]" in out
    assert ":smile:" in out


def test_long_text_is_folded_and_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    print_rich_table(["name", "value"], [["a", "x" * 200]], width=40)
    out = capsys.readouterr().out
    assert out.count("x") == 200
    assert max(map(len, out.splitlines())) <= 40
