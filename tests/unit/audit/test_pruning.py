"""Old files are let go, and what is left still verifies."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.audit import CLOCK, KEYS, lines_in, open_journal, write_journal
from waygate_mcp.audit.files import read_tombstone, segments_of
from waygate_mcp.audit.journal import JournalOptions
from waygate_mcp.audit.pruning import prune
from waygate_mcp.audit.verify import verify

AT = "2026-07-28T12:00:00.000Z"


def age(folder: Path, count: int) -> None:
    for segment in segments_of(folder)[:count]:
        os.utime(segment.path, (1000, 1000))


def test_old_files_go_and_their_tombstone_says_what_went(tmp_path: Path) -> None:
    head = write_journal(tmp_path, 30, rotate_bytes=2000)
    files = len(segments_of(tmp_path))
    age(tmp_path, 2)
    first, second = prune(tmp_path, KEYS, 2000, AT)
    assert read_tombstone(tmp_path, head.chain) == second
    assert second.count == second.sequence > first.sequence
    assert len(segments_of(tmp_path)) == files - 2
    report = verify(tmp_path, KEYS, [head])
    assert (report.records, report.findings) == (30 - second.count, [])
    assert prune(tmp_path, KEYS, 2000, AT) == []


def test_a_whole_chain_may_go_and_its_end_is_still_known(tmp_path: Path) -> None:
    head = write_journal(tmp_path, 30, rotate_bytes=2000)
    prune(tmp_path, KEYS, CLOCK.now() + 10, AT)
    assert segments_of(tmp_path) == []
    assert verify(tmp_path, KEYS, [head]).is_whole


def test_the_file_that_is_being_written_stays(tmp_path: Path) -> None:
    with open_journal(tmp_path, JournalOptions(0.001, 300)) as journal:
        for _ in range(6):
            journal.append(b'"kind":"outcome"')
        prune(tmp_path, KEYS, CLOCK.now() + 10, AT)
        assert len(segments_of(tmp_path)) == 1
        journal.append(b'"kind":"outcome"')
    assert verify(tmp_path, KEYS, [journal.head()]).findings == []


def test_what_was_tampered_with_is_left_for_the_verifier(tmp_path: Path) -> None:
    write_journal(tmp_path, 30, rotate_bytes=2000)
    path = segments_of(tmp_path)[0].path
    whole = path.read_bytes()
    lines = lines_in(tmp_path)
    for forged in (whole.replace(b"tool1", b"fool1"), b"{\n", b"".join(lines[1:3])):
        path.write_bytes(forged)
        assert prune(tmp_path, KEYS, CLOCK.now() + 10, AT) == []
    path.write_bytes(whole)
    (tmp_path / f"{segments_of(tmp_path)[0].chain}.pruned").write_bytes(
        b'{"chain":"x","sequence":1,"mac":"x","count":1,"at":"x"}'
    )
    assert prune(tmp_path, KEYS, CLOCK.now() + 10, AT) == []
