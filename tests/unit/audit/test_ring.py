"""Records in the ring: kept at once, moved in their order, found after a process died, refused where it cannot be."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.audit import CLOCK, KEYS, lines_in, open_journal
from waygate_mcp.audit.files import Tombstone, read_head, write_beside
from waygate_mcp.audit.journal import Journal, JournalOptions
from waygate_mcp.audit.leftovers import find_leftovers, settle
from waygate_mcp.audit.reading import Filters, records
from waygate_mcp.audit.ring import Ring, left_in, ring_of
from waygate_mcp.audit.verify import verify
from waygate_mcp.errors import StorageError

BODY = b'"at":"2026-07-28T12:00:00.000Z","kind":"outcome"'
START = b'"at":"2026-07-28T12:00:00.000Z","kind":"start","name":"open"'
AT = "2026-07-28T12:00:00.000Z"
SLOW = JournalOptions(sync_s=60)
SIZE = 4096
Write = Callable[[int, Any], int]


def sequences(folder: Path) -> list[int]:
    return [json.loads(line)["sequence"] for line in lines_in(folder)]


def copy_of(journal: Journal, to: Path) -> Path:
    """What is left of a journal whose process is killed now: its files, and nobody's lock."""
    return Path(shutil.copytree(journal.folder, to, ignore=shutil.ignore_patterns("*.lock")))


# --- the ring alone


def test_what_was_put_is_moved_once_and_in_its_order(tmp_path: Path) -> None:
    ring, moved = Ring(tmp_path / "ring", SIZE), bytearray()
    ring.move(moved.extend)
    for number in range(500):
        line = b"line %d\n" % number
        if not ring.put(line):
            ring.move(moved.extend)
            assert ring.put(line)
    ring.move(moved.extend)
    ring.move(moved.extend)
    assert moved.splitlines() == [b"line %d" % number for number in range(500)]
    assert ring.close()
    assert not (tmp_path / "ring").exists()


def test_nothing_is_overwritten_before_it_was_moved_and_nothing_larger_is_taken(
    tmp_path: Path,
) -> None:
    ring = Ring(tmp_path / "ring", SIZE)
    assert ring.put(b"a" * SIZE)
    assert not ring.put(b"b")
    with pytest.raises(OSError, match="full"):
        ring.move(_fail)
    assert not ring.put(b"b")
    moved = bytearray()
    ring.move(moved.extend)
    assert moved == b"a" * SIZE
    assert not ring.put(b"b" * (SIZE + 1))
    assert ring.put(b"b")
    assert not ring.close()
    assert (tmp_path / "ring").read_bytes() == b"b" + b"a" * (SIZE - 1)


def _fail(_: memoryview) -> None:
    raise OSError(errno.ENOSPC, "the disk is full")


def test_a_disk_that_does_not_answer_holds_up_no_end(tmp_path: Path) -> None:
    ring, writing, answered = Ring(tmp_path / "ring", SIZE), threading.Event(), threading.Event()
    ring.put(b"one\n")

    def write(_: memoryview) -> None:
        writing.set()
        answered.wait(5)

    mover = threading.Thread(target=ring.move, args=(write,))
    mover.start()
    assert writing.wait(5)
    assert not ring.close(0.01)
    assert left_in(tmp_path / "ring") == [b"one\n"]
    answered.set()
    mover.join()
    assert ring.close()


def test_its_file_is_private_whole_and_new(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    ring = Ring(path, SIZE)
    assert (path.stat().st_mode & 0o777, path.stat().st_size) == (0o600, SIZE)
    with pytest.raises(FileExistsError):
        Ring(path, SIZE)
    ring.put(b"one\ntwo\nthr")
    assert left_in(path) == [b"one\n", b"two\n", b"thr"]
    assert left_in(tmp_path / "none") == []
    ring.close()


def test_where_it_has_no_room_nothing_is_left_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Write = os.write
    monkeypatch.setattr("os.write", lambda fd, data: real(fd, data[:10]))
    with pytest.raises(OSError, match="No space left"):
        Ring(tmp_path / "ring", SIZE)
    assert list(tmp_path.iterdir()) == []


# --- a journal with one


def test_a_record_is_in_the_ring_at_once_and_in_the_file_when_it_is_durable(tmp_path: Path) -> None:
    async def story() -> None:
        with open_journal(tmp_path, SLOW, ring_bytes=SIZE) as journal:
            sequence = journal.append(BODY)
            assert lines_in(tmp_path) == []
            assert len([line for line in left_in(ring_of(tmp_path, journal.chain)) if line]) == 1
            await journal.wait_durable(sequence)
            assert sequences(tmp_path) == [1]

    asyncio.run(story())
    assert not list(tmp_path.glob("*.ring"))


@given(st.lists(st.integers(0, 900), max_size=40), st.integers(300, 4000))
def test_with_and_without_a_ring_the_files_say_the_same(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], ring_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("ring")
    options = JournalOptions(sync_s=0.0, rotate_bytes=5000)
    with open_journal(folder, options, ring_bytes=ring_bytes) as journal:
        for size in sizes:
            journal.append(BODY + b',"name":"%b"' % (b"x" * size))
    assert sequences(folder) == list(range(1, len(sizes) + 1))
    assert verify(folder, KEYS, [journal.head()] if sizes else []).findings == []


def test_records_keep_their_order_where_a_file_ends_while_they_are_moved(tmp_path: Path) -> None:
    arrived, go_on = threading.Event(), threading.Event()
    with open_journal(tmp_path, SLOW, ring_bytes=800) as journal:
        journal.append(BODY)
        ring = journal._ring
        assert ring is not None
        move = ring.move

        def move_late(write: Callable[[memoryview], object]) -> None:
            if threading.current_thread() is journal._thread:
                arrived.set()
                assert go_on.wait(5)
            move(write)

        ring.move = move_late  # type: ignore[method-assign]
        journal._hurry.set()
        assert arrived.wait(5)  # the thread has chosen what to make durable
        journal.options = JournalOptions(sync_s=60, rotate_bytes=1)
        journal.append(BODY)  # the second file
        journal.options = SLOW
        journal.append(BODY + b',"name":"%b"' % (b"x" * 600))  # finds the ring full, and empties it
        journal.append(BODY)
        go_on.set()
    assert sequences(tmp_path) == [1, 2, 3, 4]
    assert verify(tmp_path, KEYS, [journal.head()]).findings == []


def test_it_goes_without_where_no_ring_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr("waygate_mcp.audit.ring.mmap.mmap", refuse)
    with open_journal(tmp_path, SLOW, ring_bytes=SIZE) as journal:
        journal.append(BODY)
        assert sequences(tmp_path) == [1]


async def test_a_full_disk_refuses_what_comes_and_loses_nothing_of_what_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Write = os.write
    with open_journal(tmp_path, SLOW, ring_bytes=SIZE) as journal:
        journal.append(BODY)
        with monkeypatch.context() as patch:
            patch.setattr("os.write", lambda fd, data: real(fd, data[:50]))
            with pytest.raises(StorageError, match="no space left"):
                await journal.wait_durable(journal.append(BODY))
            assert journal.problem == "no space left for a whole record"
            assert journal.durable.sequence == 0
            for _ in range(2):
                with pytest.raises(StorageError, match="no space left"):
                    journal.append(BODY)
            assert lines_in(tmp_path) == []
        assert journal.append(BODY) == 3
        assert not journal.problem
        assert sequences(tmp_path) == [1, 2, 3]
    assert verify(tmp_path, KEYS, [journal.head()]).findings == []


async def test_half_a_record_that_cannot_be_taken_back_leaves_the_rest_to_the_next_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Write = os.write

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with open_journal(tmp_path, SLOW, ring_bytes=SIZE) as journal:
        await journal.wait_durable(journal.append(BODY))
        with monkeypatch.context() as patch:
            patch.setattr("os.write", lambda fd, data: real(fd, data[:50]))
            patch.setattr("os.ftruncate", fail)
            with pytest.raises(StorageError, match="no space left"):
                await journal.wait_durable(journal.append(BODY))
        assert journal.append(BODY) == 3
        assert journal.number == 2
    found = verify(tmp_path, KEYS, [journal.head()]).findings
    assert [one.what for one in found] == ["added"]  # told, and no record is missed


def test_a_chain_that_could_not_be_ended_whole_is_finished_by_who_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> Journal:
        journal = Journal(tmp_path, KEYS, CLOCK.now, SLOW, ring_bytes=SIZE)
        await journal.wait_durable(journal.append(BODY))
        journal.append(BODY)
        with monkeypatch.context() as patch:
            patch.setattr("os.write", lambda *_: 0)
            head = journal.close()
        assert head is not None
        assert (head.sequence, head.is_closed) == (1, False)
        write_beside(tmp_path, head)
        return journal

    journal = asyncio.run(story())
    journal.release()
    (found,) = find_leftovers(tmp_path, "own", KEYS)
    assert found.sequence == 2
    assert sequences(tmp_path) == [1, 2]


# --- after a process died


async def test_what_had_not_been_moved_is_found_counted_and_moved(tmp_path: Path) -> None:
    with open_journal(tmp_path / "live", SLOW, ring_bytes=SIZE) as journal:
        await journal.wait_durable(journal.append(BODY))
        journal.append(START)
        journal.append(BODY)
        folder = copy_of(journal, tmp_path / "dead")
    assert sequences(folder) == [1]
    before = verify(folder, KEYS)
    assert (before.records, [one.what for one in before.findings]) == (3, ["unanchored"])
    assert [record["sequence"] for record, _ in records(folder)] == [1, 2, 3]
    assert [record["name"] for record, _ in records(folder, Filters(kind="start"))] == ["open"]
    (found,) = find_leftovers(folder, "own", KEYS)
    assert (found.sequence, list(found.open_calls)) == (3, [2])
    assert sequences(folder) == [1, 2, 3]
    assert find_leftovers(folder, "own", KEYS) == [
        found
    ]  # it may be killed before it has settled them
    assert sequences(folder) == [1, 2, 3]
    settle(folder, found, KEYS, AT)
    assert not list(folder.glob("*.ring"))
    assert verify(folder, KEYS).findings == []


def test_a_chain_that_is_in_the_ring_only_is_found(tmp_path: Path) -> None:
    with open_journal(tmp_path / "live", SLOW, ring_bytes=SIZE) as journal:
        journal.append(BODY)
        folder = copy_of(journal, tmp_path / "dead")
    assert verify(folder, KEYS).records == 1
    assert [record["sequence"] for record, _ in records(folder)] == [1]
    (found,) = find_leftovers(folder, "own", KEYS)
    assert found.sequence == 1
    assert sequences(folder) == [1]


def test_records_behind_those_that_were_let_go_are_found(tmp_path: Path) -> None:
    with open_journal(tmp_path / "live", SLOW, ring_bytes=SIZE) as journal:
        for _ in range(3):
            journal.append(BODY)
        folder = copy_of(journal, tmp_path / "dead")
    first = json.loads(left_in(ring_of(folder, journal.chain))[0])
    stone = Tombstone(journal.chain, 1, first["mac"], 1, AT).signed(KEYS)
    write_beside(folder, stone)
    assert [record["sequence"] for record, _ in records(folder)] == [2, 3]
    assert verify(folder, KEYS).records == 2
    (found,) = find_leftovers(folder, "own", KEYS)
    assert found.sequence == 3


async def test_a_record_half_moved_is_whole_again(tmp_path: Path) -> None:
    with open_journal(tmp_path / "live", SLOW, ring_bytes=SIZE) as journal:
        await journal.wait_durable(journal.append(BODY))
        journal.append(BODY)
        folder = copy_of(journal, tmp_path / "dead")
    (path,) = folder.glob("*.jsonl")
    second = left_in(ring_of(folder, journal.chain))[1]
    path.write_bytes(path.read_bytes() + second[:40])
    assert [one.what for one in verify(folder, KEYS).findings] == ["unanchored"]
    (found,) = find_leftovers(folder, "own", KEYS)
    assert found.sequence == 2
    assert sequences(folder) == [1, 2]


@pytest.mark.parametrize("cut", [1, 30, 100])
async def test_what_was_half_put_never_was(tmp_path: Path, cut: int) -> None:
    with open_journal(tmp_path / "live", SLOW, ring_bytes=SIZE) as journal:
        journal.append(BODY)
        journal.append(BODY)
        folder = copy_of(journal, tmp_path / "dead")
    ring = ring_of(folder, journal.chain)
    first, second = (line for line in left_in(ring) if line)
    ring.write_bytes((first + second[:-cut]).ljust(SIZE, b"\0"))
    (found,) = find_leftovers(folder, "own", KEYS)
    assert found.sequence == 1
    assert sequences(folder) == [1]


async def test_old_rounds_of_the_ring_are_told_from_the_last(tmp_path: Path) -> None:
    with open_journal(tmp_path / "live", JournalOptions(sync_s=0.0), ring_bytes=1000) as journal:
        for _ in range(50):
            await journal.wait_durable(journal.append(BODY))
        folder = copy_of(journal, tmp_path / "dead")
    assert sequences(folder) == list(range(1, 51))
    (found,) = find_leftovers(folder, "own", KEYS)
    assert found.sequence == 50
    assert sequences(folder) == list(range(1, 51))
    assert read_head(folder, journal.chain) is None


async def test_a_ring_of_another_chain_or_key_adds_nothing(tmp_path: Path) -> None:
    with (
        open_journal(tmp_path / "live", SLOW, ring_bytes=SIZE) as journal,
        open_journal(tmp_path / "other", SLOW, ring_bytes=SIZE) as other,
    ):
        for one in (journal, other):
            await one.wait_durable(one.append(BODY))
        other.append(BODY)
        folder = copy_of(journal, tmp_path / "dead")
        shutil.copy(ring_of(other.folder, other.chain), ring_of(folder, journal.chain))
    (found,) = find_leftovers(folder, "own", KEYS)
    assert found.sequence == 1
    forged = lines_in(folder)[0].replace(b'"sequence":1', b'"sequence":2')
    ring_of(folder, journal.chain).write_bytes(forged)
    assert verify(folder, KEYS).records == 1


def test_one_thread_puts_and_others_move_and_nothing_is_lost(tmp_path: Path) -> None:
    ring, moved, done = Ring(tmp_path / "ring", SIZE), bytearray(), threading.Event()

    def mover() -> None:
        while not done.is_set():
            ring.move(moved.extend)

    movers = [threading.Thread(target=mover) for _ in range(2)]
    for thread in movers:
        thread.start()
    for number in range(5000):
        line = b"line %d\n" % number
        if not ring.put(line):
            ring.move(moved.extend)
            assert ring.put(line)
    done.set()
    for thread in movers:
        thread.join()
    ring.move(moved.extend)
    assert moved.splitlines() == [b"line %d" % number for number in range(5000)]
    ring.close()
