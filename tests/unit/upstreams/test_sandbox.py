from __future__ import annotations

from pathlib import Path

import pytest

from waygate_mcp.errors import ConfigError
from waygate_mcp.upstreams.sandbox import describe, probe, wrap


def test_a_program_that_is_missing_or_does_not_work_is_no_sandbox() -> None:
    assert probe("no-such-bubblewrap") is None
    assert probe("false") is None


def test_auto_takes_what_works_and_none_takes_nothing(tmp_path: Path) -> None:
    assert wrap("auto", None, ["p", "a"], [tmp_path]) == ["p", "a"]
    assert wrap("none", "/bwrap", ["p", "a"], [tmp_path]) == ["p", "a"]
    walled = wrap("auto", "/bwrap", ["p", "a"], [tmp_path, tmp_path / "missing"])
    assert walled[0] == "/bwrap"
    assert walled[-3:] == ["--", "p", "a"]
    assert walled[walled.index("--tmpfs") + 1] == str(tmp_path)
    assert walled.count("--tmpfs") == 1
    assert "--unshare-pid" in walled


def test_walls_that_are_demanded_and_do_not_work_are_an_error() -> None:
    with pytest.raises(ConfigError):
        wrap("bubblewrap", None, ["p"], [])


def test_it_says_what_a_child_gets() -> None:
    assert "bubblewrap" in describe("auto", "/usr/bin/bwrap")
    assert "bubblewrap" not in describe("auto", None)
    assert "bubblewrap" not in describe("none", "/usr/bin/bwrap")
