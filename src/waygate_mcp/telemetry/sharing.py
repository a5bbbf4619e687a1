"""The numbers of several worker processes, put together.

Knows one folder into which each worker writes what it has counted, as a whole file every two
seconds, and how to add up what the others wrote. What a worker that died had counted goes on
counting until the server starts anew, because counters must not fall; what it had open does not.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from waygate_mcp.telemetry.tallies import BUCKETS_S, Cell, Labels

SUFFIX = ".metrics"
MAX_FILE_BYTES = 8 * 1024 * 1024


class Snapshot(msgspec.Struct):
    """All numbers of one process at one moment."""

    pid: int
    histograms: dict[str, list[tuple[list[str | int], list[float]]]]
    counters: dict[str, dict[str, float]]
    gauges: dict[str, float]


class SharedFolder:
    """Writes this process's snapshot and reads those of the others."""

    def __init__(self, folder: Path, *, is_alive: Callable[[int], bool] | None = None) -> None:
        self._folder = folder
        self._is_alive = is_alive or _is_alive
        # The id alone would let a worker that got a dead one's number overwrite its counts.
        self._own = folder / f"{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"

    def write(self, snapshot: Snapshot) -> None:
        """Write the snapshot; a reader sees the old one or the new one, never a part.

        Raises:
            OSError: the folder cannot be written.
        """
        draft = self._own.with_suffix(".draft")
        draft.write_bytes(msgspec.msgpack.encode(snapshot))
        draft.replace(self._own)

    def others(self) -> list[Snapshot]:
        """Give the last snapshot of every other process; dead ones without their gauges.

        Files that cannot be read or are no snapshots are passed over.
        """
        found = (_read(file) for file in self._folder.glob(f"*{SUFFIX}") if file != self._own)
        snapshots = [snapshot for snapshot in found if snapshot is not None]
        for snapshot in snapshots:
            if not self._is_alive(snapshot.pid):
                snapshot.gauges.clear()
        return snapshots


def clear_folder(folder: Path) -> None:
    """Make `folder` (mode 700) and remove what an earlier server left: its counts are over.

    Raises:
        OSError: the folder cannot be made or written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in (*folder.glob(f"*{SUFFIX}"), *folder.glob("*.draft")):
        file.unlink(missing_ok=True)


def add_cells(total: dict[Labels, Cell], more: Iterable[tuple[list[str | int], Cell]]) -> None:
    """Add the cells of a snapshot to `total`; those of another shape are passed over."""
    for labels, cell in more:
        if len(cell) != len(BUCKETS_S) + 2:
            continue
        sums = total.setdefault(tuple(labels), [0] * len(cell))
        for index, number in enumerate(cell):
            sums[index] += number


def _read(file: Path) -> Snapshot | None:
    try:
        with file.open("rb") as handle:
            data = handle.read(MAX_FILE_BYTES)
        return msgspec.msgpack.decode(data, type=Snapshot)
    except (OSError, msgspec.MsgspecError):
        # It was just replaced or removed, or is not ours: the next scrape finds it.
        return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
