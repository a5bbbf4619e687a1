"""What a process that died left behind: its open calls, and the head nobody closed."""

from __future__ import annotations

from pathlib import Path

from tests.support.audit import CLOCK, KEYS, lines_in, open_trail, write_journal
from waygate_mcp.audit.files import read_head, write_beside
from waygate_mcp.audit.journal import Journal, JournalOptions
from waygate_mcp.audit.leftovers import find_leftovers, settle
from waygate_mcp.audit.trail import Trail
from waygate_mcp.audit.verify import verify
from waygate_mcp.telemetry.redaction import Redactor
from waygate_mcp.testing.fakes import call_of

AT = "2026-07-28T12:00:00.000Z"


def die_with_an_open_call(folder: Path) -> Journal:
    """Write a chain as a killed process leaves it: not closed, the lock free, half a record at its end."""
    journal = Journal(folder, KEYS, CLOCK.now, JournalOptions())
    trail = Trail(journal, Redactor(), CLOCK.now, CLOCK.monotonic)
    done, left = call_of("tools/call", "done"), call_of("tools/call", "left")
    for call in (done, left):
        trail.begin(call)
    trail.end(done, "ok", 0.1)
    trail.mark_unknown("another-chain", 2, {"name": "older"})
    journal.close()
    journal.release()
    (path,) = folder.glob("*.jsonl")
    path.write_bytes(path.read_bytes() + b'{"chain":"half')
    return journal


def test_open_calls_are_found_and_the_chain_is_settled_once(tmp_path: Path) -> None:
    dead = die_with_an_open_call(tmp_path)
    (found,) = find_leftovers(tmp_path, "own", KEYS)
    assert (found.chain, found.sequence) == (dead.chain, 4)
    assert {start: record["name"] for start, record in found.open_calls.items()} == {2: "left"}
    head = settle(tmp_path, found, KEYS, AT)
    assert head.is_closed
    assert read_head(tmp_path, dead.chain) == head
    assert find_leftovers(tmp_path, "own", KEYS) == []
    report = verify(tmp_path, KEYS)
    assert report.is_whole
    assert [one.what for one in report.findings] == ["torn"]


def test_chains_that_are_ours_live_or_closed_are_left_alone(tmp_path: Path) -> None:
    write_journal(tmp_path, 3)
    with open_trail(tmp_path) as live:
        live.note("started")
        assert find_leftovers(tmp_path, "own", KEYS) == []
    assert find_leftovers(tmp_path, live.journal.chain, KEYS) == []


def test_a_tail_cut_from_a_dead_chain_stays_missed_after_it_was_settled(tmp_path: Path) -> None:
    head = write_journal(tmp_path, 5)
    (path,) = tmp_path.glob("*.jsonl")
    path.write_bytes(b"".join(lines_in(tmp_path)[:3]))
    open_head = type(head)(head.chain, head.sequence, head.mac, AT).signed(KEYS)
    write_beside(tmp_path, open_head)
    (found,) = find_leftovers(tmp_path, "own", KEYS)
    assert found.sequence == 3
    settle(tmp_path, found, KEYS, AT)
    assert [one.what for one in verify(tmp_path, KEYS).findings] == ["cut"]
