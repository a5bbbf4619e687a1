"""Records on their way to their file, in memory that stays when the process is killed.

Knows one small file, mapped into memory: what is put there is in the kernel's hands at once, as after a `write`,
for a quarter of what that costs. It is filled from its beginning to its end, then anew, and nothing is
overwritten before it was moved on. Refuses to know what a record is. One thread puts; any may move.

Whoever finds the file of a process that died reads it whole (`left_in`): which of its lines were moved already,
and which is half written, their numbers and MACs say.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Callable
from pathlib import Path

__all__ = ["RING_BYTES", "Ring", "left_in", "ring_of"]

RING_BYTES = 512 * 1024
"""A tenth of a second of the most records one process writes."""


def ring_of(folder: Path, chain: str) -> Path:
    """Give the file of a chain's ring."""
    return folder / f"{chain}.ring"


class Ring:
    """The memory and its file, which is made here: all of it is on the disk's books before the first record."""

    def __init__(self, path: Path, size_bytes: int = RING_BYTES) -> None:
        """Make the file.

        Raises:
            OSError: it cannot be made, has no room, or cannot be mapped.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            if os.write(descriptor, bytes(size_bytes)) != size_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._memory = mmap.mmap(descriptor, size_bytes)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        self._path = path
        self._size = size_bytes
        self._end = 0
        self._moved = 0
        self._moving = threading.Lock()

    def put(self, data: bytes) -> bool:
        """Keep some records; False where they find no room before others are moved."""
        start = self._end
        end = start + len(data)
        if end > self._size:
            with self._moving:
                if self._moved < start or len(data) > self._size:
                    return False
                self._moved = self._end = 0
            start, end = 0, len(data)
        self._memory[start:end] = data
        self._end = end
        return True

    def move(self, write: Callable[[memoryview], object]) -> None:
        """Hand what was put and not moved yet to `write`; it counts as moved unless that raises."""
        with self._moving:
            start, end = self._moved, self._end
            if start == end:
                return
            with memoryview(self._memory) as memory, memory[start:end] as waiting:
                write(waiting)
            self._moved = end

    def close(self, within_s: float = 1.0) -> bool:
        """Let go of the memory, and of the file where nothing is left in it; tell whether that is so.

        Where a move does not end in time (a disk that does not answer), all stays as it is.
        """
        if not self._moving.acquire(timeout=within_s):
            return False
        try:
            is_empty = self._moved == self._end
            if is_empty:
                self._path.unlink(missing_ok=True)
            self._memory.close()
        finally:
            self._moving.release()
        return is_empty


def left_in(path: Path) -> list[bytes]:
    """Give all lines of a ring nobody fills any more, moved or not, whole or not; none where there is no ring.

    Raises:
        OSError: it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    with os.fdopen(descriptor, "rb") as handle:
        return handle.read(RING_BYTES).replace(b"\0", b"").splitlines(keepends=True)
