"""Finds every record that was changed, removed, added, reordered or cut off.

Knows the chain and its anchors; needs a copy of the folder and the keys, no database and no server.
Refuses to trust anything unsigned. A record is right where its MAC fits its bytes; its place is right
where its number and the MAC before it say so.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from waygate_mcp.audit.files import (
    Head,
    Tombstone,
    chains_in,
    is_live,
    read_head,
    read_tombstone,
    segments_of,
)
from waygate_mcp.audit.keys import MAC_BYTES, NO_MAC, AuditKeys
from waygate_mcp.audit.ring import left_in, ring_of
from waygate_mcp.errors import StorageError

__all__ = ["MAX_LINE_BYTES", "Finding", "Record", "Report", "lines_of", "unmoved", "verify"]

MAX_LINE_BYTES = 64 * 1024
MAX_FINDINGS = 10_000
PROGRESS_EVERY = 50_000

_HEX = 2 * MAC_BYTES
_MAC = b',"mac":"'
_TAIL = len(_MAC) + _HEX + len(b'"}')
_PREVIOUS = b',"previous":"'
_START = re.compile(rb'\{"chain":"([0-9TZa-f-]{29})","sequence":(\d{1,18}),')
_MAX_SINGLES = 100_000


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it was written.

    `what` is changed, removed, added, reordered, cut, anchor (a head or tombstone that is not ours),
    or, where it is no fault, a note: torn (the last record of a process that died is incomplete) or
    unanchored (nothing says how long this chain was).
    """

    what: str
    place: str
    message: str
    sequence: int = 0

    @property
    def is_note(self) -> bool:
        """Tell whether the chain is whole in spite of it."""
        return self.what in ("torn", "unanchored")


class Report(msgspec.Struct):
    """What a verification found. `more` counts findings beyond the first 10,000."""

    records: int = 0
    chains: int = 0
    findings: list[Finding] = msgspec.field(default_factory=list)
    more: int = 0

    @property
    def is_whole(self) -> bool:
        """Tell whether nothing was changed, removed, added, reordered or cut off."""
        return self.more == 0 and all(finding.is_note for finding in self.findings)

    def add(self, finding: Finding) -> None:
        """Note a finding, within the bound."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)
        else:
            self.more += 1


def verify(
    folder: Path,
    keys: AuditKeys,
    anchors: Iterable[Head] = (),
    on_progress: Callable[[int], None] | None = None,
) -> Report:
    """Verify all chains of a folder; `anchors` are heads kept elsewhere. Blocks.

    `on_progress` is told the number of records read, now and then.

    Raises:
        StorageError: the folder or a file in it cannot be read.
    """
    report = Report()
    kept: dict[str, list[Head]] = {}
    for head in anchors:
        kept.setdefault(head.chain, []).append(head)
    for chain in sorted({*chains_in(folder), *kept}):
        _Chain(folder, chain, keys, report, on_progress).verify(kept.get(chain, []))
        report.chains += 1
    return report


class Record(NamedTuple):
    """A line as it was written: `body` is what its MAC is of."""

    chain: bytes
    sequence: int
    body: bytes
    mac: bytes
    line: bytes


def _read_record(line: bytes, mac_of: Callable[[bytes], bytes] | None) -> Record | int:
    """Read a line with its end; where it was not written so, give the number it claims to have, 0 for none."""
    body, tail = line[: -_TAIL - 1], line[-_TAIL - 1 : -1]
    start = _START.match(body)
    if start is None:
        return 0
    mac = tail[len(_MAC) : -2]
    is_ours = tail.startswith(_MAC) and tail.endswith(b'"}')
    if is_ours and mac_of is not None:
        is_ours = hmac.compare_digest(mac_of(body), mac)
    return Record(start[1], int(start[2]), body, mac, line) if is_ours else int(start[2])


def unmoved(
    folder: Path, chain: str, sequence: int, previous: str, keys: AuditKeys | None = None
) -> list[Record]:
    """Give the records that stand in a chain's ring only, and follow the one with this number and MAC. Blocks.

    `previous` is empty where there is none before. Without `keys` nobody knows whether they are true.

    Raises:
        StorageError: the ring cannot be read.
    """
    path = ring_of(folder, chain)
    try:
        lines = left_in(path)
    except OSError as exc:
        raise StorageError(f"cannot read {path}: {exc.strerror}") from exc
    mac_of = None if keys is None else keys.mac
    read = (_read_record(line, mac_of) for line in lines if line.endswith(b"\n"))
    records = {
        one.sequence: one for one in read if isinstance(one, Record) and one.chain == chain.encode()
    }
    found: list[Record] = []
    mac = previous.encode() or NO_MAC
    while (one := records.get(sequence + 1)) is not None:
        if not one.body.endswith(_PREVIOUS + mac + b'"'):
            break
        found.append(one)
        sequence, mac = one.sequence, one.mac
    return found


class _Gaps:
    """Numbers that were passed over and may still turn up."""

    def __init__(self) -> None:
        self._singles: set[int] = set()
        self._ranges: list[tuple[int, int]] = []

    def add(self, first: int, last: int) -> None:
        if last - first + len(self._singles) < _MAX_SINGLES:
            self._singles.update(range(first, last + 1))
        else:
            self._ranges.append((first, last))

    def take(self, number: int) -> bool:
        if number in self._singles:
            self._singles.discard(number)
            return True
        for index, (first, last) in enumerate(self._ranges):
            if first <= number <= last:
                rest = ((first, number - 1), (number + 1, last))
                self._ranges[index : index + 1] = [one for one in rest if one[0] <= one[1]]
                return True
        return False

    def left(self) -> Iterator[tuple[int, int]]:
        found = list(self._ranges)
        for number in sorted(self._singles):
            if found and found[-1][1] == number - 1:
                found[-1] = (found[-1][0], number)
            else:
                found.append((number, number))
        yield from sorted(found)


class _Chain:
    """The verification of one chain."""

    def __init__(
        self,
        folder: Path,
        chain: str,
        keys: AuditKeys,
        report: Report,
        on_progress: Callable[[int], None] | None,
    ) -> None:
        self._folder = folder
        self._chain = chain
        self._id = chain.encode()
        self._keys = keys
        self._report = report
        self._on_progress = on_progress
        self._expected = 1
        self._previous: bytes | None = NO_MAC
        self._pruned = 0
        self._gaps = _Gaps()
        self._strange: list[tuple[str, int, int]] = []
        self._wanted: dict[int, Head] = {}

    def verify(self, kept: list[Head]) -> None:
        was_live = is_live(self._folder, self._chain)
        self._take_tombstone()
        heads = self._heads(kept)
        self._wanted = {head.sequence: head for head in heads}
        torn = ""
        for segment in segments_of(self._folder, self._chain):
            if torn:
                self._strange.append((torn, 0, self._expected))
            torn = self._read(segment.path)
        if not was_live and self._take_unmoved():
            torn = ""  # the record is whole where it came from
        self._judge_strange()
        for first, last in self._gaps.left():
            self._find("removed", self._chain, _said(first, last, "missing"), first)
        self._judge_end(max((head.sequence for head in heads), default=0), torn, was_live)
        if not heads and not was_live:
            self._find("unanchored", self._chain, "no head says how long this chain was")

    def _take_unmoved(self) -> bool:
        """Take the records a process that died had not moved into its file; tells whether there are any."""
        previous = self._previous
        if previous is None:
            return False
        last, before = self._expected - 1, previous.decode()
        left = unmoved(self._folder, self._chain, last, before, self._keys)
        for number, record in enumerate(left, start=1):
            self._count()
            self._follow(ring_of(self._folder, self._chain), number, record.body, record.mac)
        return bool(left)

    def _take_tombstone(self) -> None:
        stone: Tombstone | None = read_tombstone(self._folder, self._chain)
        if stone is None:
            if (self._folder / f"{self._chain}.pruned").exists():
                self._find("anchor", f"{self._chain}.pruned", "the tombstone cannot be read")
            return
        if stone.chain != self._chain or not self._keys.is_signed(stone.text(), stone.signature):
            self._find(
                "anchor", f"{self._chain}.pruned", "the tombstone was not signed with this key"
            )
            return
        self._pruned = stone.sequence
        self._expected = stone.sequence + 1
        self._previous = stone.mac.encode()

    def _heads(self, kept: list[Head]) -> list[Head]:
        beside = read_head(self._folder, self._chain)
        heads = [] if beside is None else [(f"{self._chain}.head", beside)]
        if beside is None and (self._folder / f"{self._chain}.head").exists():
            self._find("anchor", f"{self._chain}.head", "the head cannot be read")
        heads += [("a head kept elsewhere", head) for head in kept]
        right = []
        for place, head in heads:
            if head.chain == self._chain and self._keys.is_signed(head.text(), head.signature):
                right.append(head)
            else:
                self._find("anchor", place, "the head was not signed with this key")
        return right

    def _read(self, path: Path) -> str:
        """Check a file's records; gives the place of an incomplete last line, else nothing."""
        mac_of = self._keys.mac
        for number, line in lines_of(path):
            if not line.endswith(b"\n"):
                return f"{path.name}:{number}"
            self._count()
            record = _read_record(line, mac_of)
            if isinstance(record, int):
                self._strange.append((f"{path.name}:{number}", record, self._expected))
            elif record.sequence == self._expected and record.chain == self._id:
                self._follow(path, number, record.body, record.mac)
            else:
                self._place(path, number, record.chain, record.sequence, record.mac)
        return ""

    def _count(self) -> None:
        self._report.records += 1
        if self._on_progress is not None and self._report.records % PROGRESS_EVERY == 0:
            self._on_progress(self._report.records)

    def _follow(self, path: Path, number: int, body: bytes, mac: bytes) -> None:
        """Take the record that was expected."""
        if self._previous is not None and not body.endswith(_PREVIOUS + self._previous + b'"'):
            text = (
                "does not follow the record before it: the key was used for two chains of one name"
            )
            self._find("changed", f"{path.name}:{number}", text, self._expected)
        self._meet_head(path, number, self._expected, mac)
        self._previous = mac
        self._expected += 1

    def _place(self, path: Path, number: int, chain: bytes, sequence: int, mac: bytes) -> None:
        """Judge a record of ours that does not stand where it was written."""
        place = f"{path.name}:{number}"
        # Four cases: of another chain; let go already; further on; seen or passed over.
        if chain != self._id:
            self._find("added", place, f"is a record of chain {chain.decode()}", sequence)
        elif sequence <= self._pruned:
            if self._expected == self._pruned + 1:
                return  # its file was to be removed when the process was stopped
            self._find("added", place, "was let go before", sequence)
        elif sequence > self._expected:
            self._gaps.add(self._expected, sequence - 1)
            self._meet_head(path, number, sequence, mac)
            self._expected, self._previous = sequence + 1, mac
        elif self._gaps.take(sequence):
            self._find("reordered", place, "stands behind a later record", sequence)
        else:
            self._find("added", place, "stands here a second time", sequence)

    def _meet_head(self, path: Path, number: int, sequence: int, mac: bytes) -> None:
        head = self._wanted.get(sequence)
        if head is not None and head.mac.encode() != mac:
            text = "is not the record its head was signed for"
            self._find("changed", f"{path.name}:{number}", text, sequence)

    def _judge_strange(self) -> None:
        """Tell changed records from added ones: the former leave a gap where they stood."""
        end = self._expected
        for place, claimed, expected in self._strange:
            number = claimed if claimed and self._gaps.take(claimed) else 0
            if not number and self._gaps.take(expected):
                number = expected
            if not number and expected == end and claimed in (0, self._expected):
                # The last records of all leave no gap behind them.
                number = self._expected
                self._expected += 1
            if number:
                self._find("changed", place, "is not as it was written", number)
            else:
                self._find("added", place, "was never written by this server", claimed)

    def _judge_end(self, anchored: int, torn: str, was_live: bool) -> None:
        last = self._expected - 1
        if last < anchored:
            text = _said(last + 1, anchored, "missing at the end")
            self._find("cut", torn or self._chain, text, last + 1)
        elif torn and not was_live:
            self._find("torn", torn, "an incomplete record of a process that died", last + 1)

    def _find(self, what: str, place: str, message: str, sequence: int = 0) -> None:
        self._report.add(Finding(what, place, message, sequence))


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield a file's lines with their numbers; what is longer than any record comes in pieces.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        with path.open("rb") as handle:
            number = 0
            while line := handle.readline(MAX_LINE_BYTES):
                number += 1
                yield number, line
    except OSError as exc:
        raise StorageError(f"cannot read {path}: {exc.strerror}") from exc


def _said(first: int, last: int, what: str) -> str:
    if first == last:
        return f"record {first} is {what}"
    return f"records {first} to {last} are {what}"
