"""A lock beside a file: one process at a time, and never for ever."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from waygate_mcp.config.file_lock import locked


def test_a_lock_is_free_again_when_its_block_ends(tmp_path: Path) -> None:
    file = tmp_path / "names.json"
    with locked(file, 0.0), pytest.raises(BlockingIOError), locked(file, 0.0):
        pass
    with locked(file, 0.0):
        assert [found.name for found in tmp_path.iterdir()] == ["names.json.lock"]


def test_whoever_holds_it_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "names.json"
    with (tmp_path / "names.json.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        paused: list[float] = []

        def give_back(seconds: float) -> None:
            paused.append(seconds)
            fcntl.flock(other, fcntl.LOCK_UN)

        monkeypatch.setattr("waygate_mcp.config.file_lock.time.sleep", give_back)
        with locked(file, 5.0):
            assert len(paused) == 1
