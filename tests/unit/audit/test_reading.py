"""Records for people and for other tools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.audit import lines_in, open_trail, write_journal
from waygate_mcp.audit.reading import Filters, Follower, as_cef, parse, records

RECORD = {
    "chain": "c",
    "sequence": 4,
    "at": "2026-07-28T12:00:00.000Z",
    "kind": "outcome",
    "principal": "key:ada",
    "method": "tools/call",
    "name": "a=b|c\nd\\",
    "outcome": "ok",
}


@pytest.mark.parametrize(
    ("filters", "is_wanted"),
    [
        (Filters(), True),
        (Filters(kind="outcome", principal="key:ada", outcome="ok"), True),
        (Filters(kind="start"), False),
        (Filters(request_id="r"), False),
        (Filters(since="2026-07-28T12:00:00.000Z", until="2026-07-28T12:00:00.001Z"), True),
        (Filters(since="2026-07-28T12:00:01Z"), False),
        (Filters(until="2026-07-28T12:00:00.000Z"), False),
    ],
)
def test_filters_choose(filters: Filters, is_wanted: bool) -> None:
    assert filters.wants(RECORD) is is_wanted


def test_records_come_in_their_order_and_what_is_none_is_left_out(tmp_path: Path) -> None:
    write_journal(tmp_path, 20, rotate_bytes=1000)
    first = min(tmp_path.glob("*.jsonl"))
    first.write_bytes(b"not json\n" + first.read_bytes())
    found = list(records(tmp_path))
    assert [record["sequence"] for record, _ in found] == list(range(1, 21))
    assert [line for _, line in found] == lines_in(tmp_path)[1:]
    assert [record["sequence"] for record, _ in records(tmp_path, Filters(name="tool3"))] == [4]


def test_a_follower_reads_what_is_new_and_whole(tmp_path: Path) -> None:
    with open_trail(tmp_path) as trail:
        trail.note("one")
        follower, skipping = Follower(tmp_path, trail.journal.chain), Follower(tmp_path)
        skipping.skip()
        trail.note("two")
        trail.note("three")
        (path,) = tmp_path.glob("*.jsonl")
        with path.open("ab") as handle:
            handle.write(b'{"half')
        assert [json.loads(line)["name"] for line in follower.read(2)] == ["one", "two"]
        assert [json.loads(line)["name"] for line in follower.read(2)] == ["three"]
        assert follower.read(2) == []
        assert [json.loads(line)["name"] for line in skipping.read(9)] == ["two", "three"]
    assert Follower(tmp_path / "nowhere").read(5) == []


def test_cef_escapes_what_would_break_its_line() -> None:
    line = as_cef(RECORD, "1.0")
    assert line.startswith("CEF:0|Waygate|Waygate MCP|1.0|outcome|outcome tools/call ok|3|")
    assert "fname=a\\=b|c\\nd\\\\ " in line
    assert "\n" not in line
    odd = as_cef({"kind": "a|b\n"}, "1.0")
    assert "|a\\|b |" in odd


def test_what_is_no_record_is_none() -> None:
    assert parse(b"[]\n") is None
    assert parse(b"{\n") is None
