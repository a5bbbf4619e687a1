"""What a process that died left behind: calls without an end, and a chain without a closed head.

Knows how open calls are found in a chain nobody writes any more. Refuses to write into a foreign
chain: what became of its calls is recorded in the chain of whoever found them.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from waygate_mcp.audit.verify import lines_of
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


def find_leftovers(folder: Path, own: str) -> list[Leftover]:
    """Look through all chains that nobody writes and nobody closed. Blocks.

    Raises:
        StorageError: they cannot be read.
    """
    found = []
    for chain in chains_in(folder):
        head = read_head(folder, chain)
        if chain == own or (head is not None and head.is_closed) or is_live(folder, chain):
            continue
        if segments_of(folder, chain):
            found.append(_look_through(folder, chain))
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
    except OSError as exc:
        raise StorageError(f"cannot settle the audit chain {leftover.chain}: {exc}") from exc
    return head


def _look_through(folder: Path, chain: str) -> Leftover:
    stone = read_tombstone(folder, chain)
    sequence, mac = (0, "") if stone is None else (stone.sequence, stone.mac)
    open_calls: dict[int, dict[str, Any]] = {}
    for segment in segments_of(folder, chain):
        for _, line in lines_of(segment.path):
            record = _record(line)
            if record is None:
                continue
            sequence, mac = record["sequence"], record["mac"]
            if record.get("kind") == "start" and len(open_calls) < MAX_OPEN:
                open_calls[sequence] = record
            elif record.get("kind") == "outcome" and "of" not in record:
                open_calls.pop(record.get("start", 0), None)
    return Leftover(chain, sequence, mac, open_calls)


def _record(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = _decode(line)
    except msgspec.DecodeError:
        return None
    is_whole = isinstance(record.get("sequence"), int) and isinstance(record.get("mac"), str)
    return record if is_whole else None
