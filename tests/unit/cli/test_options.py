"""From options to settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from waygate_mcp.cli.options import settings_from


def test_options_come_before_the_environment_and_those_not_given_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAYGATE_PORT", "1001")
    monkeypatch.setenv("WAYGATE_HOST", "127.0.0.2")
    settings = settings_from(port=1002, host=None)
    assert (settings.port, settings.host) == (1002, "127.0.0.2")


def test_variables_nobody_reads_are_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAYGATE_PROT", "1")
    settings_from()
    assert "did you mean WAYGATE_PORT?" in capsys.readouterr().err
