"""The verifier finds every record that was changed, removed, added or reordered, and every cut tail."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.audit import KEYS, MASTER, lines_in, write_journal
from waygate_mcp.audit.files import Head, Tombstone, write_beside
from waygate_mcp.audit.keys import AuditKeys
from waygate_mcp.audit.verify import Finding, Report, verify

COUNT = 30
NUMBERS = st.integers(0, COUNT - 1)


class Copy:
    """A copy of a journal that may be tampered with."""

    def __init__(self, folder: Path, head: Head) -> None:
        self.folder = folder
        self.head = head
        self.path = min(folder.glob("*.jsonl"))
        self.lines = lines_in(folder)

    def write(self, lines: list[bytes]) -> None:
        """Put these lines where the record was, in one file, as a forger would."""
        for path in self.folder.glob("*.jsonl"):
            path.unlink()
        self.path.write_bytes(b"".join(lines))

    def verify(self, *anchors: Head, keys: AuditKeys = KEYS) -> Report:
        return verify(self.folder, keys, anchors)

    def findings(self, *anchors: Head) -> list[Finding]:
        return self.verify(*anchors).findings


@pytest.fixture(scope="module")
def original() -> Iterator[tuple[Path, Head]]:
    with TemporaryDirectory() as name:
        yield Path(name), write_journal(Path(name), COUNT, rotate_bytes=2000)


@pytest.fixture
def copy(original: tuple[Path, Head], tmp_path: Path) -> Copy:
    return copied(original, tmp_path / "copy")


def copied(original: tuple[Path, Head], target: Path) -> Copy:
    folder, head = original
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target)
    return Copy(target, head)


def fresh(original: tuple[Path, Head]) -> Copy:
    """A copy for one example of a property; it lies beside the original and replaces the last."""
    return copied(original, original[0].with_name(original[0].name + "-copy"))


def whats(findings: list[Finding]) -> set[str]:
    return {one.what for one in findings}


def test_what_was_written_is_whole_over_several_files(copy: Copy) -> None:
    assert len(list(copy.folder.glob("*.jsonl"))) > 2
    report = copy.verify(copy.head)
    assert report == Report(records=COUNT, chains=1)
    assert report.is_whole


@settings(max_examples=80, deadline=None)
@given(number=NUMBERS, at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_each_changed_byte_is_found_at_its_place(
    original: tuple[Path, Head], number: int, at: int, byte: int
) -> None:
    copy = fresh(original)
    line = bytearray(copy.lines[number])
    at %= len(line) - 1  # the line's end is another test
    if line[at] == byte or byte in b"\n":
        byte = line[at] ^ 1
    line[at] = byte
    copy.write([*copy.lines[:number], bytes(line), *copy.lines[number + 1 :]])
    findings = copy.findings()
    assert [(one.what, one.sequence) for one in findings] == [("changed", number + 1)]
    assert findings[0].place == f"{copy.path.name}:{number + 1}"


@settings(max_examples=30, deadline=None)
@given(gone=st.sets(NUMBERS, min_size=1, max_size=5))
def test_each_removed_record_is_found(original: tuple[Path, Head], gone: set[int]) -> None:
    copy = fresh(original)
    copy.write([line for number, line in enumerate(copy.lines) if number not in gone])
    findings = copy.findings()
    assert whats(findings) <= {"removed", "cut"}
    assert {one.sequence - 1 for one in findings} <= gone
    said = set()
    for one in findings:  # each tells of a run of numbers
        first = last = one.sequence
        if one.message.startswith("records "):
            last = int(one.message.split()[3])
        said |= set(range(first - 1, last))
    assert said == gone


@settings(max_examples=30, deadline=None)
@given(number=NUMBERS, at=st.integers(0, COUNT))
def test_each_copied_record_is_found(original: tuple[Path, Head], number: int, at: int) -> None:
    copy = fresh(original)
    copy.write([*copy.lines[:at], copy.lines[number], *copy.lines[at:]])
    findings = copy.findings()
    # Put before its own place, the copy makes what it was put before stand too late.
    assert [one.sequence for one in findings if one.what == "added"] == [number + 1]
    late = range(at + 1, number + 1)
    assert [one.sequence for one in findings if one.what == "reordered"] == list(late)


@settings(max_examples=30, deadline=None)
@given(at=st.integers(0, COUNT), sequence=st.integers(0, COUNT + 5))
def test_each_forged_record_is_found(original: tuple[Path, Head], at: int, sequence: int) -> None:
    copy = fresh(original)
    forged = json.loads(copy.lines[0]) | {"sequence": sequence, "mac": "f" * 32}
    line = json.dumps(forged, separators=(",", ":")).encode() + b"\n"
    copy.write([*copy.lines[:at], line, *copy.lines[at:]])
    report = copy.verify()
    assert not report.is_whole
    assert report.findings[-1].place == f"{copy.path.name}:{at + 1}"


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(COUNT)))
def test_each_order_but_the_right_one_is_found(
    original: tuple[Path, Head], order: list[int]
) -> None:
    copy = fresh(original)
    copy.write([copy.lines[number] for number in order])
    findings = copy.findings()
    if order == sorted(order):
        assert findings == []
        return
    assert whats(findings) == {"reordered"}
    late = {number + 1 for index, number in enumerate(order) if number < max(order[: index + 1])}
    assert {one.sequence for one in findings} == late


@settings(max_examples=20, deadline=None)
@given(left=st.integers(0, COUNT - 1))
def test_each_cut_tail_is_found_by_the_anchored_head(
    original: tuple[Path, Head], left: int
) -> None:
    copy = fresh(original)
    copy.write(copy.lines[:left])
    beside = copy.findings()
    assert [(one.what, one.sequence) for one in beside] == [("cut", left + 1)]
    # Whoever cuts the tail removes the head as well: one that is kept elsewhere finds it all the same.
    (copy.folder / f"{copy.head.chain}.head").unlink()
    assert whats(copy.findings()) == {"unanchored"}
    assert whats(copy.findings(copy.head)) == {"cut"}


def test_a_tail_cut_in_the_middle_of_a_record_is_found(copy: Copy) -> None:
    copy.write([*copy.lines[:-1], copy.lines[-1][:40]])
    findings = copy.findings()
    assert [(one.what, one.place) for one in findings] == [("cut", f"{copy.path.name}:{COUNT}")]


def test_a_chain_that_is_gone_altogether_is_found_by_a_head_kept_elsewhere(copy: Copy) -> None:
    for path in copy.folder.iterdir():
        path.unlink()
    assert copy.verify().is_whole  # nothing is left that could tell
    assert whats(copy.findings(copy.head)) == {"cut"}


def test_a_record_of_another_chain_is_found(copy: Copy, tmp_path: Path) -> None:
    write_journal(tmp_path / "other", 3)
    foreign = lines_in(tmp_path / "other")[1]
    copy.write([*copy.lines[:1], foreign, *copy.lines[1:]])
    assert [(one.what, one.sequence) for one in copy.findings()] == [("added", 2)]


def test_the_wrong_key_verifies_nothing(copy: Copy) -> None:
    report = copy.verify(keys=AuditKeys(MASTER[::-1]))
    assert not report.is_whole
    assert whats(report.findings) == {"changed", "anchor", "unanchored"}


def test_a_forged_head_is_no_anchor(copy: Copy) -> None:
    forged = msgspec.structs.replace(copy.head, sequence=COUNT - 5)
    copy.write(copy.lines[: COUNT - 5])
    write_beside(copy.folder, forged)
    assert whats(copy.findings()) == {"anchor", "unanchored"}
    assert whats(copy.findings(copy.head)) == {"anchor", "cut"}


def test_a_head_of_another_history_is_found(copy: Copy) -> None:
    other = msgspec.structs.replace(copy.head, mac="0" * 32).signed(KEYS)
    assert whats(copy.findings(other)) == {"changed"}


def test_a_forged_tombstone_hides_nothing(copy: Copy) -> None:
    mac = json.loads(copy.lines[4])["mac"]
    stone = Tombstone(copy.head.chain, 5, mac, 5, "2026-07-28T12:00:00.000Z")
    copy.write(copy.lines[5:])
    write_beside(copy.folder, stone)
    assert whats(copy.findings()) == {"anchor", "removed"}
    write_beside(copy.folder, stone.signed(KEYS))
    assert copy.findings() == []


def test_what_was_let_go_and_is_still_there_is_no_fault_at_the_beginning(copy: Copy) -> None:
    mac = json.loads(copy.lines[4])["mac"]
    stone = Tombstone(copy.head.chain, 5, mac, 5, "2026-07-28T12:00:00.000Z").signed(KEYS)
    write_beside(copy.folder, stone)
    assert copy.findings() == []
    copy.write([*copy.lines, copy.lines[0]])
    assert whats(copy.findings()) == {"added"}


@pytest.mark.parametrize("ending", ["head", "pruned"])
def test_a_damaged_anchor_is_told(copy: Copy, ending: str) -> None:
    (copy.folder / f"{copy.head.chain}.{ending}").write_bytes(b"{")
    assert "anchor" in whats(copy.findings())


def test_findings_are_bounded_and_counted(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waygate_mcp.audit.verify.MAX_FINDINGS", 3)
    copy.write([line.replace(b"tool", b"fool") for line in copy.lines])
    report = copy.verify()
    assert (len(report.findings), report.more) == (3, COUNT - 3)
    assert not report.is_whole


def test_progress_is_told(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waygate_mcp.audit.verify.PROGRESS_EVERY", 10)
    told: list[int] = []
    verify(copy.folder, KEYS, on_progress=told.append)
    assert told == [10, 20, 30]


def test_a_large_gap_is_told_once(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waygate_mcp.audit.verify._MAX_SINGLES", 3)
    copy.write([copy.lines[0], *copy.lines[20:], copy.lines[10]])
    findings = copy.findings()
    assert [(one.what, one.sequence) for one in findings] == [
        ("reordered", 11),
        ("removed", 2),
        ("removed", 12),
    ]
