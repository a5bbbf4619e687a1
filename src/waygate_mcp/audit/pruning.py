"""Letting old files go, so that what is left still verifies.

Knows that a signed tombstone says how many records are gone and what the last of them was; it is on
the disk before a file is removed. Refuses to remove the newest file of a chain somebody writes.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from waygate_mcp.audit.files import (
    Segment,
    Tombstone,
    chains_in,
    is_live,
    read_tombstone,
    segments_of,
    write_beside,
)
from waygate_mcp.audit.keys import NO_MAC, AuditKeys
from waygate_mcp.audit.verify import lines_of
from waygate_mcp.errors import StorageError

__all__ = ["prune"]


class _Last(msgspec.Struct):
    sequence: int
    mac: str


def prune(folder: Path, keys: AuditKeys, before_s: float, at: str) -> list[Tombstone]:
    """Remove files whose last record is older than `before_s` (seconds since 1970). Blocks.

    Gives the tombstones that were written. A file that does not hold what it should is left for the
    verifier to report.

    Raises:
        StorageError: something could not be read or removed; what was removed has its tombstone.
    """
    stones = []
    for chain in chains_in(folder):
        segments = segments_of(folder, chain)
        if is_live(folder, chain):
            segments = segments[:-1]
        for segment in segments:
            try:
                if segment.path.stat().st_mtime >= before_s:
                    break
                stone = _stone(folder, segment, keys, at)
                if stone is None:
                    break
                write_beside(folder, stone)
                segment.path.unlink()
            except OSError as exc:
                raise StorageError(f"cannot prune {segment.path}: {exc.strerror}") from exc
            stones.append(stone)
    return stones


def _stone(folder: Path, segment: Segment, keys: AuditKeys, at: str) -> Tombstone | None:
    """Write what stands for a file; None where it does not follow what was let go before."""
    before = read_tombstone(folder, segment.chain)
    if before is not None and not keys.is_signed(before.text(), before.signature):
        return None
    gone = before or Tombstone(segment.chain, 0, NO_MAC.decode(), 0, at)
    sequence, mac = gone.sequence, gone.mac
    for _, line in lines_of(segment.path):
        try:
            last = msgspec.json.decode(line, type=_Last)
        except msgspec.DecodeError:
            return None
        if last.sequence <= gone.sequence:
            continue
        if (
            last.sequence != sequence + 1
            or keys.mac(line[: line.rfind(b',"mac":"')]) != last.mac.encode()
        ):
            return None
        sequence, mac = last.sequence, last.mac
    return Tombstone(segment.chain, sequence, mac, sequence, at).signed(keys)
