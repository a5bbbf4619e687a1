"""Counters of several workers: one count over processes, and what happens where the lock is held."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from waygate_mcp.model.ports import Bucket
from waygate_mcp.policy import shared_counters
from waygate_mcp.policy.counters import LocalCounters
from waygate_mcp.policy.shared_counters import SharedCounters


def bucket(name: str = "one", burst: int = 100) -> Bucket:
    return Bucket(name, "key", burst, 1_000.0, burst * 1_000.0)


def nobody() -> None:
    raise AssertionError("counted alone")


def take_many(path: Path, tries: int) -> int:
    missed: list[int] = []
    alone = LocalCounters(time.monotonic)
    with SharedCounters(path, alone, lambda: missed.append(1)) as store:
        passed = 0
        for _ in range(tries):
            before = len(missed)
            passed += store.take((bucket(),)) is None and len(missed) == before
    return passed


def test_processes_count_together(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    context = multiprocessing.get_context("spawn")
    # Its processes end by themselves: one that is ended by a signal while it writes its coverage may hang.
    with ProcessPoolExecutor(3, mp_context=context) as pool:
        results = [pool.submit(take_many, path, 100) for _ in range(3)]
        assert sum(each.result(timeout=60) for each in results) == 100
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_bucket_is_known_by_who_opens_the_file_next(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    for expected in (True, False):
        with SharedCounters(path, LocalCounters(time.monotonic), nobody) as store:
            assert (store.take((bucket(burst=1),)) is None) is expected


def test_while_another_holds_the_lock_a_worker_counts_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    missed: list[int] = []
    alone = LocalCounters(time.monotonic)
    with SharedCounters(path, alone, lambda: missed.append(1)) as store:
        other = os.open(path, os.O_RDWR)
        fcntl.flock(other, fcntl.LOCK_EX)
        passed = [store.take((bucket(burst=2),)) is None for _ in range(4)]
        assert passed == [True, True, False, False]
        assert len(missed) == 4
        os.close(other)
        assert store.take((bucket(burst=2),)) is None
    assert len(missed) == 4


def test_where_all_slots_are_in_debt_a_newcomer_shares_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_counters, "SLOTS", 8)
    monkeypatch.setattr(shared_counters, "MAX_PLACES", 4)
    path = tmp_path / "counters"
    with SharedCounters(path, LocalCounters(time.monotonic), nobody) as store:
        passed = [store.take((bucket(f"flood {n}", 1),)) is None for n in range(50)]
        assert sum(passed) == 8
        assert store.take((bucket("two of them"), bucket("two more"))) is None


def test_a_file_that_cannot_be_mapped_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(shared_counters, "SLOTS", 0)
    with (
        pytest.raises(ValueError, match="empty"),
        SharedCounters(tmp_path / "counters", LocalCounters(time.monotonic), nobody),
    ):
        pass
    assert len(os.listdir("/proc/self/fd")) == before
