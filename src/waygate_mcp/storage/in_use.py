"""Who uses a file of SQLite: any number of processes, or one that replaces it.

Knows a lock beside the file, which goes with the process that holds it. Refuses to know SQLite's own
locks, which say nothing about a process that is between two statements.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from waygate_mcp.errors import StorageError

__all__ = ["locked_alone", "use"]


def use(path: Path) -> int:
    """Say that this process uses the database at `path`; gives a descriptor to close when it does not.

    Raises:
        StorageError: it is being replaced now, or the folder does not let us.
    """
    return _lock(path, fcntl.LOCK_SH, "the database is being restored; start again when it is done")


@contextmanager
def locked_alone(path: Path) -> Iterator[None]:
    """Keep everybody out while the file is replaced.

    Raises:
        StorageError: some process uses it.
    """
    descriptor = _lock(path, fcntl.LOCK_EX, "a server or command uses the database; stop it first")
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path, how: int, refusal: str) -> int:
    lock = path.with_name(f"{path.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise StorageError(f"cannot open {lock}: {exc.strerror}") from exc
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(descriptor)
        raise StorageError(refusal) from exc
    return descriptor
