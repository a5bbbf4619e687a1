"""One chain of the journal, written by one process: append, rotate, make durable.

Knows bytes, MACs and files. Refuses to know what a record means. Each record is handed to the kernel, so a
process that is killed loses nothing that was appended: into a ring (`audit/ring.py`) where there is one,
else by one `write` each. A thread moves what is in the ring into the file and calls `fdatasync` a moment
later, or at once for those who wait (one call serves all who wait). `append` is called by one thread only.

What cannot be written is not part of the chain: `append` raises and the next one tries again.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from waygate_mcp.audit.files import Head, new_chain, sync_folder
from waygate_mcp.audit.keys import NO_MAC, AuditKeys
from waygate_mcp.audit.ring import Ring, ring_of
from waygate_mcp.errors import StorageError
from waygate_mcp.telemetry.timestamps import Stamp

__all__ = ["REFUSAL", "Journal", "JournalOptions", "Tip"]

REFUSAL = "The audit journal cannot be written, so nothing is done; see /health."
"""What a client reads whose call is refused for want of a record."""

WAIT_S = 10.0
"""How long a caller waits for the disk before its call is refused."""

_CLOSE_S = 10.0
_NO_SPACE = "no space left for a whole record"
_DAY_S = 86_400
_sync = getattr(os, "fdatasync", os.fsync)


class JournalOptions(msgspec.Struct, frozen=True):
    """`sync_s` is how long a record may be in the page cache only; the others bound one file."""

    sync_s: float = 0.1
    rotate_bytes: int = 64 * 1024 * 1024


class Tip(NamedTuple):
    """The last record of a chain."""

    sequence: int
    mac: bytes


class _File:
    """An open file of records, and how many bytes of it are whole ones."""

    __slots__ = ("fd", "size")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Write whole records, all or none.

        Raises:
            _LostError: a part of them could not be taken back.
            OSError: they were not written.
        """
        written = os.write(self.fd, data)
        if written == len(data):
            self.size += written
            return
        try:
            os.ftruncate(self.fd, self.size)
        except OSError as exc:
            raise _LostError(errno.ENOSPC, _NO_SPACE) from exc
        raise OSError(errno.ENOSPC, _NO_SPACE)


class _LostError(OSError):
    """A file ends in a part of a record, and nothing can be written behind it."""


class Journal:
    """One chain. Opens its first file with its first record; `close` ends it.

    `options` may be replaced at any time. `durable` is the last record on the disk. `write_problem` says why
    the last record could not be written, `sync_problem` why what was written is not on the disk; None where
    all is well. `failures` counts both. `ring_bytes` is the size of the ring, 0 for none; where none can be made,
    there is none.
    """

    def __init__(
        self,
        folder: Path,
        keys: AuditKeys,
        now: Callable[[], float],
        options: JournalOptions | None = None,
        *,
        ring_bytes: int = 0,
    ) -> None:
        self.folder = folder
        self.keys = keys
        self.options = options or JournalOptions()
        self.chain = new_chain(now())
        self._tip = (0, NO_MAC)  # one object, since the thread reads both together
        self.durable = self.tip
        self.write_problem: str | None = None
        self.sync_problem: str | None = None
        self.failures = 0
        self.number = 0
        self._now = now
        self._chain = self.chain.encode()
        self._mac = keys.mac
        self._file: _File | None = None
        self._lock_fd = -1
        self._size = 0
        self._ring_bytes = ring_bytes
        self._ring: Ring | None = None
        self._day = 0
        self._retired: list[int] = []
        self._has_new_name = False
        self._is_lost = False
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._is_dirty = False
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    def append(self, body: bytes) -> int:
        """Write one record and give its number. `body` is the inside of a JSON object.

        Raises:
            StorageError: it was not written.
        """
        if self._file is None or self._is_lost or self._size >= self.options.rotate_bytes:
            self._open_next()
        before, mac = self._tip
        sequence = before + 1
        line = b'{"chain":"%b","sequence":%d,%b,"previous":"%b"' % (
            self._chain,
            sequence,
            body,
            mac,
        )
        mac = self._mac(line)
        data = b'%b,"mac":"%b"}\n' % (line, mac)
        ring = self._ring
        if ring is None or self.write_problem is not None or not ring.put(data):
            self._write_at_once(data)
        self._size += len(data)
        self._tip = (sequence, mac)
        if not self._is_dirty:
            self._is_dirty = True
            self._wake.set()
        return sequence

    @property
    def tip(self) -> Tip:
        """The last record written."""
        return Tip(*self._tip)

    @property
    def problem(self) -> str | None:
        """Why the journal is not well, None where it is."""
        return self.write_problem or self.sync_problem

    def turn_day(self) -> None:
        """Begin a new file where the last one was begun on another day (UTC).

        Raises:
            StorageError: it cannot be made.
        """
        if self._file is not None and int(self._now() // _DAY_S) != self._day:
            self._open_next()

    async def wait_durable(self, sequence: int) -> None:
        """Wait until a record is on the disk. All who wait at once share one `fdatasync`.

        Raises:
            StorageError: the disk failed, or not in time; the record may or may not be there.
        """
        if self.durable.sequence >= sequence:
            return
        loop = asyncio.get_running_loop()
        self._loop = loop
        future: asyncio.Future[None] = loop.create_future()
        self._waiters.append((sequence, future))
        self._hurry.set()
        self._wake.set()
        try:
            async with asyncio.timeout(WAIT_S):
                await future
        except TimeoutError:
            self.failures += 1
            raise _error("the disk does not answer") from None

    def close(self) -> Head | None:
        """End the chain: all on the disk, the head closed; gives it, None where nothing was written.

        Where not all of it could be written the head stays open: who comes next looks what the ring holds.
        Blocks for the disk. Safe to call twice.
        """
        if self._is_closed:
            return None
        self._is_closed = True
        self._hurry.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)
        is_whole = self._ring is None or self._ring.close()
        self._ring = None
        if self._file is not None:
            os.close(self._file.fd)
            self._file = None
        return self.head(is_closed=is_whole) if self.durable.sequence else None

    def release(self) -> None:
        """Let go of the lock: from now on the chain is nobody's."""
        if self._lock_fd >= 0:
            (self.folder / f"{self.chain}.lock").unlink(missing_ok=True)
            os.close(self._lock_fd)
            self._lock_fd = -1

    def head(self, *, is_closed: bool = False) -> Head:
        """Give how far the chain is on the disk, signed."""
        sequence, mac = self.durable
        at = _stamp(self._now())
        return Head(self.chain, sequence, mac.decode(), at, is_closed).signed(self.keys)

    def _open_next(self) -> None:
        """Begin the next file; the one before is made durable and closed by the thread."""
        if self._is_closed:
            raise self._not_written(OSError(errno.EBADF, "it is closed"))
        number = self.number + 1
        path = self.folder / f"{self.chain}.{number:06d}.jsonl"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_lock()
            descriptor = os.open(path, flags, 0o600)
        except OSError as exc:
            raise self._not_written(exc) from exc
        if self._file is not None:
            self._retired.append(self._file.fd)
        self._has_new_name = True
        self._file = _File(descriptor)
        self._size = 0
        self._is_lost = False
        self.number = number
        self._day = int(self._now() // _DAY_S)
        if self._thread is None:
            self._make_ring()
            self._thread = threading.Thread(target=self._run, name="audit-sync", daemon=True)
            self._thread.start()

    def _take_lock(self) -> None:
        if self._lock_fd < 0:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self.folder / f"{self.chain}.lock", flags, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._lock_fd = descriptor

    def _make_ring(self) -> None:
        if self._ring_bytes:
            with suppress(OSError):  # no room, or a file system that maps nothing: it goes without
                self._ring = Ring(ring_of(self.folder, self.chain), self._ring_bytes)

    def _write_at_once(self, data: bytes) -> None:
        """Write what waits in the ring, and then a record.

        Raises:
            StorageError: that was not possible.
        """
        assert self._file is not None, "`append` opens it"
        try:
            if self._ring is not None:
                self._ring.move(self._write_moved)
            self._file.write(data)
        except OSError as exc:
            raise self._not_written(exc) from exc
        if self.write_problem is not None:
            self.write_problem = None

    def _not_written(self, exc: OSError) -> StorageError:
        if isinstance(exc, _LostError):
            self._is_lost = True
        self.write_problem = exc.strerror or "cannot write"
        self.failures += 1
        return _error(self.write_problem)

    def _empty_ring(self) -> tuple[_File | None, str | None]:
        """Move what waits into the file; gives which, and what went wrong: `append` tries it itself then."""
        moved: list[_File] = []
        ring = self._ring
        if ring is not None:
            try:
                ring.move(lambda data: moved.append(self._write_moved(data)))
            except OSError as exc:
                self._not_written(exc)
                return None, self.write_problem
        return (moved[0] if moved else None), None

    def _write_moved(self, data: memoryview) -> _File:
        """Write what stood in the ring. The file is chosen while nobody else moves: records keep their order."""
        file = self._file
        assert file is not None, "a ring is made when the first file is open"
        file.write(data)
        return file

    def _run(self) -> None:
        """Make durable what was written, until the journal is closed."""
        while True:
            self._wake.wait()
            if not self._is_closed:
                self._hurry.wait(self.options.sync_s)  # let records gather, unless somebody waits
            self._wake.clear()
            self._hurry.clear()
            self._is_dirty = False
            # In this order: the records up to `tip` are in `file`, in what they were moved into, or in a file
            # that is in the list by then; one that is retired after that is synced twice.
            tip, file = self.tip, self._file
            moved_into, unmoved = self._empty_ring()
            retired, self._retired = self._retired, []
            has_new_name, self._has_new_name = self._has_new_name, False
            written = {one.fd for one in (file, moved_into) if one is not None}
            current = tuple(written.difference(retired))
            error = _make_durable((*retired, *current), self.folder if has_new_name else None)
            for descriptor in retired:
                os.close(descriptor)
            if error is None and any(os.fstat(descriptor).st_nlink == 0 for descriptor in current):
                error = "its file was removed"
            self.sync_problem = error
            if error is not None:
                self._is_lost = (
                    True  # what a disk has lost once it does not write again: a new file
                )
                self.failures += 1
            elif unmoved is None:
                self.durable = tip
            self._tell(error or unmoved)
            if self._is_closed and (self.durable.sequence == self.tip.sequence or error or unmoved):
                return

    def _tell(self, error: str | None) -> None:
        if self._waiters and self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._release_waiters, error)
            except RuntimeError:  # the loop is closed, and nobody waits any more
                self._waiters.clear()

    def _release_waiters(self, error: str | None) -> None:
        done = self.durable.sequence
        waiting, self._waiters = self._waiters, []
        for sequence, future in waiting:
            if future.done():
                continue
            if sequence <= done:
                future.set_result(None)
            elif error is not None:
                future.set_exception(_error(error))
            else:
                self._waiters.append((sequence, future))
        if self._waiters:
            self._hurry.set()
            self._wake.set()


def _error(reason: str) -> StorageError:
    return StorageError(f"the audit journal: {reason}", safe_message=REFUSAL)


def _make_durable(descriptors: tuple[int, ...], folder: Path | None) -> str | None:
    """Give what went wrong, None where everything is on the disk."""
    try:
        for descriptor in descriptors:
            _sync(descriptor)
        if folder is not None:
            sync_folder(folder)
    except OSError as exc:
        return exc.strerror or "the disk failed"
    return None


def _stamp(now_s: float) -> str:
    return Stamp(lambda: now_s).now()
