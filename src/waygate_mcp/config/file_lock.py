"""One process at a time at a file that several share.

Knows a lock beside the file, which goes with the process that holds it. Refuses to know the file.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["locked"]

_POLL_S = 0.01


@contextmanager
def locked(path: Path, wait_s: float) -> Iterator[None]:
    """Keep other processes out of `path`, waiting for them for `wait_s` at most; for threads, not for the loop.

    Raises:
        OSError: no lock, or not in time.
    """
    lock = path.with_name(f"{path.name}.lock")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        give_up_s = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up_s:
                    raise
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)
