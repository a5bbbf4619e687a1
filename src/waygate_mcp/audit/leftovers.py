"""What a process that died left behind: records on their way, calls without an end, a chain without a closed head.

Knows how open calls are found in a chain nobody writes any more. Refuses to add to a foreign chain: what
its process had written is moved to where it belongs, what became of its calls is recorded in the chain of
whoever found them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from waygate_mcp.audit.files import (
    Head,
    chains_in,
    is_live,
    read_head,
    read_tombstone,
    segments_of,
    write_beside,
)
from waygate_mcp.audit.keys import AuditKeys
from waygate_mcp.audit.ring import ring_of
from waygate_mcp.audit.verify import MAX_LINE_BYTES, lines_of, unmoved
from waygate_mcp.errors import StorageError

__all__ = ["Leftover", "find_leftovers", "settle"]

MAX_OPEN = 100_000
"""Open calls remembered of one chain; a process has far fewer in flight."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Leftover(msgspec.Struct, frozen=True):
    """A chain whose process is gone: its last whole record, and its calls without an end by their number."""

    chain: str
    sequence: int
    mac: str
    open_calls: Mapping[int, Mapping[str, Any]]


def find_leftovers(folder: Path, own: str, keys: AuditKeys) -> list[Leftover]:
    """Look through all chains that nobody writes and nobody closed, and finish their files. Blocks.

    Raises:
        StorageError: they cannot be read, or their last records not moved out of their rings.
    """
    found = []
    for chain in chains_in(folder):
        head = read_head(folder, chain)
        if chain == own or (head is not None and head.is_closed) or is_live(folder, chain):
            continue
        if segments_of(folder, chain):
            found.append(_look_through(folder, chain, keys))
    return found


def settle(folder: Path, leftover: Leftover, keys: AuditKeys, at: str) -> Head:
    """Sign how far the chain was, so that it is not looked through again. Blocks.

    Raises:
        StorageError: the head cannot be written.
    """
    head = Head(leftover.chain, leftover.sequence, leftover.mac, at, True).signed(keys)
    before = read_head(folder, leftover.chain)
    is_ours = before is not None and keys.is_signed(before.text(), before.signature)
    if before is not None and is_ours and before.sequence > head.sequence:
        # A tail that was cut off stays missed: the longer head is kept.
        head = msgspec.structs.replace(before, is_closed=True).signed(keys)
    try:
        write_beside(folder, head)
        (folder / f"{leftover.chain}.lock").unlink(missing_ok=True)
        ring_of(folder, leftover.chain).unlink(missing_ok=True)
    except OSError as exc:
        raise StorageError(f"cannot settle the audit chain {leftover.chain}: {exc}") from exc
    return head


def _look_through(folder: Path, chain: str, keys: AuditKeys) -> Leftover:
    stone = read_tombstone(folder, chain)
    sequence, mac = (0, "") if stone is None else (stone.sequence, stone.mac)
    open_calls: dict[int, dict[str, Any]] = {}

    def lines() -> Iterator[bytes]:
        for segment in segments:
            for _, line in lines_of(segment.path):
                yield line
        left = unmoved(folder, chain, sequence, mac, keys)
        if left:
            _move(segments[-1].path, [one.line for one in left])
        for one in left:
            yield one.line

    segments = segments_of(folder, chain)
    for line in lines():
        record = _record(line)
        if record is None:
            continue
        sequence, mac = record["sequence"], record["mac"]
        if record.get("kind") == "start" and len(open_calls) < MAX_OPEN:
            open_calls[sequence] = record
        elif record.get("kind") == "outcome" and "of" not in record:
            open_calls.pop(record.get("start", 0), None)
    return Leftover(chain, sequence, mac, open_calls)


def _move(path: Path, lines: list[bytes]) -> None:
    """Write records behind the last whole one of a file; the beginning of one stands in the way."""
    try:
        with path.open("rb+") as handle:
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(0, size - MAX_LINE_BYTES))
            rest = handle.read().rpartition(b"\n")[2]
            handle.seek(size - len(rest))
            handle.truncate()
            handle.writelines(lines)
            handle.flush()
            os.fsync(handle.fileno())
    except OSError as exc:
        raise StorageError(f"cannot finish {path}: {exc.strerror}") from exc


def _record(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = _decode(line)
    except msgspec.DecodeError:
        return None
    is_whole = isinstance(record.get("sequence"), int) and isinstance(record.get("mac"), str)
    return record if is_whole else None
