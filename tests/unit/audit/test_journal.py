"""One chain: what is appended stands there at once, is durable soon, and is refused where it cannot be written."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.audit import KEYS, lines_in, open_journal
from waygate_mcp.audit import journal as journal_module
from waygate_mcp.audit.files import write_beside
from waygate_mcp.audit.journal import Journal, JournalOptions
from waygate_mcp.audit.keys import NO_MAC
from waygate_mcp.audit.verify import verify
from waygate_mcp.errors import StorageError

BODY = b'"at":"2026-07-28T12:00:00.000Z","kind":"outcome"'
SLOW = JournalOptions(sync_s=60)


def failing(monkeypatch: pytest.MonkeyPatch, name: str, number: int = errno.ENOSPC) -> None:
    def fail(*_: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(f"os.{name}", fail)


async def test_a_record_stands_in_the_file_before_append_is_left(tmp_path: Path) -> None:
    with open_journal(tmp_path, SLOW) as journal:
        assert journal.append(BODY) == 1
        assert journal.append(BODY) == 2
        first, second = (json.loads(line) for line in lines_in(tmp_path))
    assert first["previous"] == NO_MAC.decode()
    assert second["previous"] == first["mac"]
    assert (second["chain"], second["sequence"]) == (journal.chain, 2)
    (path,) = tmp_path.glob("*.jsonl")
    assert path.stat().st_mode & 0o777 == 0o600


def test_closing_makes_all_durable_and_gives_the_closed_head(tmp_path: Path) -> None:
    journal = Journal(tmp_path, KEYS, lambda: 0.0, SLOW)
    journal.append(BODY)
    head = journal.close()
    assert head is not None
    assert (head.sequence, head.is_closed) == (1, True)
    assert journal.close() is None
    journal.release()
    write_beside(tmp_path, head)
    assert verify(tmp_path, KEYS).findings == []
    with pytest.raises(StorageError, match="closed"):
        journal.append(BODY)


def test_a_journal_nobody_wrote_leaves_nothing(tmp_path: Path) -> None:
    with open_journal(tmp_path / "audit"):
        pass
    assert list(tmp_path.iterdir()) == []


async def test_whoever_waits_is_told_once_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    real = os.fdatasync
    all_wait = threading.Event()

    def sync(descriptor: int) -> None:
        all_wait.wait(10)
        real(descriptor)
        order.append("synced")

    monkeypatch.setattr(journal_module, "_sync", sync)
    with open_journal(tmp_path, SLOW) as journal:

        async def call() -> None:
            await journal.wait_durable(journal.append(BODY))
            order.append("effect")

        async def go_on() -> None:
            all_wait.set()

        await asyncio.gather(*(call() for _ in range(100)), go_on())
        assert order[0] == "synced"
        assert journal.durable.sequence == 100
        # One call of the disk serves all who wait; the first may have been alone, and one may have been under way
        # when the loop heard of the one before.
        assert order.count("synced") <= 3
        await journal.wait_durable(1)  # long there: no further wait
        assert order.count("effect") == 100


async def test_a_file_is_followed_by_the_next_where_it_is_full(tmp_path: Path) -> None:
    with open_journal(tmp_path, JournalOptions(0.001, 500)) as journal:
        for _ in range(10):
            await journal.wait_durable(journal.append(BODY))
    assert len(list(tmp_path.glob("*.jsonl"))) > 3
    report = verify(tmp_path, KEYS, [journal.head()])
    assert (report.records, report.findings) == (10, [])


async def test_a_day_begins_a_file(tmp_path: Path) -> None:
    now = 0.0
    journal = Journal(tmp_path, KEYS, lambda: now)
    journal.turn_day()  # nothing was written, nothing begins
    journal.append(BODY)
    journal.turn_day()
    assert journal.number == 1
    now = 90_000.0
    journal.turn_day()
    assert journal.number == 2
    journal.append(BODY)
    journal.close()
    journal.release()
    assert verify(tmp_path, KEYS, [journal.head()]).findings == []


@pytest.mark.parametrize("name", ["write", "open"])
async def test_what_cannot_be_written_is_refused_and_heals_by_itself(
    tmp_path: Path, name: str
) -> None:
    with open_journal(tmp_path) as journal:
        if name == "write":
            journal.append(BODY)
        with pytest.MonkeyPatch.context() as monkeypatch:
            failing(monkeypatch, name)
            with pytest.raises(StorageError, match="No space left") as caught:
                journal.append(BODY)
            assert "so nothing is done" in caught.value.safe_message
            assert (journal.problem, journal.failures) == ("No space left on device", 1)
        before = journal.tip.sequence
        assert journal.append(BODY) == before + 1
        assert journal.problem is None
    assert verify(tmp_path, KEYS, [journal.head()]).findings == []


async def test_half_a_record_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[[int, bytes], int] = os.write
    with open_journal(tmp_path) as journal:
        journal.append(BODY)
        with monkeypatch.context() as patch:
            patch.setattr("os.write", lambda fd, data: real(fd, data[:50]))
            with pytest.raises(StorageError, match="no space left"):
                journal.append(BODY)
        assert len(lines_in(tmp_path)) == 1
        journal.append(BODY)
    assert verify(tmp_path, KEYS, [journal.head()]).findings == []


async def test_half_a_record_that_cannot_be_taken_back_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[[int, bytes], int] = os.write
    with open_journal(tmp_path) as journal:
        with monkeypatch.context() as patch:
            patch.setattr("os.write", lambda fd, data: real(fd, data[:50]))
            failing(patch, "ftruncate", errno.EIO)
            with pytest.raises(StorageError, match="no space left"):
                journal.append(BODY)
        journal.append(BODY)
        assert journal.number == 2
    found = verify(tmp_path, KEYS, [journal.head()]).findings
    assert [one.what for one in found] == ["added"]  # told, and no record is missed


async def test_a_disk_that_fails_is_told_to_all_who_wait_and_the_next_file_heals_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with open_journal(tmp_path, SLOW) as journal:
        with monkeypatch.context() as patch:
            patch.setattr(journal_module, "_sync", fail)
            waits = [journal.wait_durable(journal.append(BODY)) for _ in range(3)]
            told = await asyncio.gather(*waits, return_exceptions=True)
            assert [type(one) for one in told] == [StorageError] * 3
            assert journal.sync_problem == "Input/output error"
        await journal.wait_durable(journal.append(BODY))
        assert not journal.problem
        assert (journal.number, journal.durable.sequence) == (2, 4)


async def test_a_disk_that_does_not_answer_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "WAIT_S", 0.0)
    with (
        open_journal(tmp_path, SLOW) as journal,
        pytest.raises(StorageError, match="does not answer"),
    ):
        await journal.wait_durable(journal.append(BODY) + 1)


async def test_a_file_somebody_removed_is_noticed(tmp_path: Path) -> None:
    with open_journal(tmp_path, SLOW) as journal:
        await journal.wait_durable(journal.append(BODY))
        next(tmp_path.glob("*.jsonl")).unlink()
        with pytest.raises(StorageError, match="its file was removed"):
            await journal.wait_durable(journal.append(BODY))
        await journal.wait_durable(journal.append(BODY))
        assert journal.number == 2
    found = verify(tmp_path, KEYS, [journal.head()]).findings
    assert [(one.what, one.sequence) for one in found] == [("removed", 1)]
