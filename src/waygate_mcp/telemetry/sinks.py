"""Where log lines end: a stream such as standard error, or a file that is rotated.

Knows how to write to a descriptor without waiting for it forever, and how several processes share
one file. Refuses to queue: the writer does. Both sinks are used by the writer's thread alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from waygate_mcp.telemetry.redaction import escape_line

ROTATE_BYTES = 20 * 1024 * 1024
ROTATE_FILES = 5
STALL_S = 1.0
"""How long a batch waits for a reader that does not read."""
PIECE_BYTES = 4096
"""What a pipe that is ready takes at once (PIPE_BUF), so that a write never waits."""

_COLOURS = {"debug": "2", "warning": "33", "error": "31", "critical": "1;31"}
_SHOWN_FIRST = ("timestamp", "level", "event")


class StreamSink:
    """Writes lines to a descriptor it does not own, as JSON or as text for people.

    A reader that stops reading costs one wait of `stall_s`; then lines are lost without waiting
    until it reads again.
    """

    name = "stream"

    def __init__(self, descriptor: int, *, console: bool = False, stall_s: float = STALL_S) -> None:
        self._descriptor = descriptor
        self._console = console
        self._colour = console and os.isatty(descriptor)
        self._stall_s = stall_s
        self._stalled = False
        self._torn = False
        self._own = _own_descriptor(descriptor)
        self._piece_bytes = _piece_bytes(descriptor, is_own=self._own is not None)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def write(self, lines: Sequence[Any], encoded: bytes) -> int:
        """Write a batch; give the number of lines that were lost.

        Raises:
            OSError: the other end is closed.
        """
        data = self._text(lines) if self._console else encoded
        if self._torn:
            data = b"\n" + data
        written = self._write(memoryview(data))
        if written == len(data):
            self._torn = self._stalled = False
            return 0
        self._stalled = True
        self._torn = self._torn or (written > 0 and data[written - 1] != 0x0A)
        return min(len(lines), data[written:].count(b"\n"))

    def close(self) -> None:
        """Leave the descriptor that was given open: it is not ours."""
        own, self._own = self._own, None
        if own is not None:
            os.close(own)
            self._piece_bytes = PIECE_BYTES

    def _write(self, data: memoryview) -> int:
        written = 0
        descriptor = self._descriptor if self._own is None else self._own
        deadline = time.monotonic() + (0 if self._stalled else self._stall_s)
        while written < len(data):
            left_ms = max(0, (deadline - time.monotonic()) * 1000)
            if not self._poll.poll(left_ms):
                break
            try:
                written += os.write(descriptor, data[written : written + self._piece_bytes])
            except BlockingIOError:
                # A non-blocking descriptor with less room than a piece.
                if time.monotonic() >= deadline:
                    break
                time.sleep(0.005)
        return written

    def _text(self, lines: Sequence[Any]) -> bytes:
        text = "".join(render_line(_fields(line), colour=self._colour) for line in lines)
        return text.encode("utf-8", "backslashreplace")


def _own_descriptor(descriptor: int) -> int | None:
    """Open a pipe once more, so that it does not wait for us and still does for its other users.

    Each call of the system costs the event loop a change of threads, so there should be one for a
    batch, where the 4 KiB a pipe surely takes are twelve lines. None where that cannot be had.
    """
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        return None
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None


def _piece_bytes(descriptor: int, *, is_own: bool) -> int:
    """Give how much is written at once: all, to what never waits; else what is sure not to."""
    if is_own or stat.S_ISREG(os.fstat(descriptor).st_mode):
        return sys.maxsize
    return PIECE_BYTES


class FileSink:
    """Appends JSON lines to a file, and moves it aside when it has grown to `rotate_bytes`.

    `waygate.log` becomes `waygate.log.1`, and so on up to `.5`; the oldest is removed. Several
    processes may write to the same file: each batch is one append, and whoever rotates holds a lock
    on the file it moves.
    """

    def __init__(
        self,
        path: Path,
        *,
        rotate_bytes: int = ROTATE_BYTES,
        rotate_files: int = ROTATE_FILES,
        write: Callable[[int, bytes], int] = os.write,
    ) -> None:
        self.name = str(path)
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._rotate_files = rotate_files
        self._write_bytes = write
        self._descriptor: int | None = None
        self._torn = False

    def write(self, lines: Sequence[Any], encoded: bytes) -> int:
        """Append a batch.

        Raises:
            OSError: nothing, or not all, could be written; the disk may be full.
        """
        descriptor = self._current(len(encoded))
        data = b"\n" + encoded if self._torn else encoded
        written = self._write_bytes(descriptor, data)
        if written != len(data):
            # The next batch begins on a line of its own.
            self._torn = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._torn = False
        return 0

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _current(self, coming_bytes: int) -> int:
        if self._descriptor is None or not self._is_current(self._descriptor):
            self._reopen()
        descriptor = self._open_descriptor()
        size = os.fstat(descriptor).st_size
        if size and size + coming_bytes > self._rotate_bytes:
            self._rotate(descriptor)
        return self._open_descriptor()

    def _open_descriptor(self) -> int:
        assert self._descriptor is not None
        return self._descriptor

    def _is_current(self, descriptor: int) -> bool:
        # Another process, or a person, may have moved the file aside.
        try:
            named = self._path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(descriptor))

    def _reopen(self) -> None:
        self.close()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)

    def _rotate(self, descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            if self._is_current(descriptor):
                for number in range(self._rotate_files - 1, 0, -1):
                    older = self._numbered(number)
                    if older.exists():
                        older.replace(self._numbered(number + 1))
                self._path.replace(self._numbered(1))
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        self._reopen()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def render_line(fields: dict[str, Any], *, colour: bool = False) -> str:
    """Write one log line for people: time, level, event, then `name=value`; one line always."""
    stamp = str(fields.get("timestamp", ""))[11:23]
    level = str(fields.get("level", ""))
    event = escape_line(str(fields.get("event", "")))
    rest = " ".join(
        f"{escape_line(name)}={_shown(value)}"
        for name, value in fields.items()
        if name not in _SHOWN_FIRST and name != "exception"
    )
    text = f"{stamp} {level:<8} {event}{'  ' if rest else ''}{rest}\n"
    if colour and level in _COLOURS:
        text = f"\x1b[{_COLOURS[level]}m{text[:-1]}\x1b[0m\n"
    return text + _traceback(fields.get("exception"))


def _shown(value: object) -> str:
    if not isinstance(value, str):
        return escape_line(str(value))
    text = escape_line(value)
    return f'"{text}"' if not text or " " in text else text


def _traceback(exception: object) -> str:
    if not isinstance(exception, str):
        return ""
    return "".join(f"    {escape_line(line)}\n" for line in exception.splitlines())


def _fields(line: Any) -> dict[str, Any]:
    if isinstance(line, dict):
        return line
    fields: dict[str, Any] = msgspec.to_builtins(line)
    return fields
