"""The numbers of several workers, put together."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from waygate_mcp.telemetry.sharing import SharedFolder, Snapshot, add_cells, clear_folder
from waygate_mcp.telemetry.tallies import Cell, Labels

CELL_SIZE = 13


def snapshot(pid: int = 1, **gauges: float) -> Snapshot:
    return Snapshot(
        pid=pid, histograms={"x": [(["a", 200], [1.0] * CELL_SIZE)]}, counters={}, gauges=gauges
    )


def test_each_process_sees_the_others_and_not_itself(tmp_path: Path) -> None:
    first, second = SharedFolder(tmp_path, is_alive=lambda _: True), SharedFolder(tmp_path)
    first.write(snapshot(1, sessions=3))
    first.write(snapshot(1, sessions=4))
    assert first.others() == []
    assert second.others()[0].histograms == snapshot().histograms
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_dead_worker_counted_stays_and_what_it_had_open_goes(tmp_path: Path) -> None:
    SharedFolder(tmp_path).write(snapshot(77, sessions=3))
    (found,) = SharedFolder(tmp_path, is_alive=lambda pid: pid != 77).others()
    assert found.histograms == snapshot().histograms
    assert found.gauges == {}


def test_whether_a_worker_lives_is_asked_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SharedFolder(tmp_path).write(snapshot(os.getpid(), sessions=1))
    assert SharedFolder(tmp_path).others()[0].gauges == {"sessions": 1}

    def gone(*_: int) -> None:
        raise ProcessLookupError

    def not_ours(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", not_ours)
    assert SharedFolder(tmp_path).others()[0].gauges == {"sessions": 1}
    monkeypatch.setattr(os, "kill", gone)
    assert SharedFolder(tmp_path).others()[0].gauges == {}


def test_files_that_are_no_snapshots_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "x.metrics").write_bytes(b"rubbish")
    (tmp_path / "y.metrics").write_bytes(b"")
    (tmp_path / "z.metrics").mkdir()
    assert SharedFolder(tmp_path).others() == []


def test_a_new_start_forgets_the_old_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "metrics"
    clear_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    SharedFolder(folder).write(snapshot())
    (folder / "1.draft").write_text("")
    (folder / "other").write_text("")
    clear_folder(folder)
    assert [file.name for file in folder.iterdir()] == ["other"]


def test_cells_add_up_and_foreign_shapes_are_passed_over() -> None:
    total: dict[Labels, Cell] = {("a", 200): [1.0] * CELL_SIZE}
    add_cells(
        total,
        [(["a", 200], [2.0] * CELL_SIZE), (["b", 200], [1.0] * CELL_SIZE), (["a", 200], [1.0])],
    )
    assert total == {("a", 200): [3.0] * CELL_SIZE, ("b", 200): [1.0] * CELL_SIZE}
