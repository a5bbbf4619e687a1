"""Children that outlived a gateway which was killed, found and ended by the next one.

Knows run-files, one for each child, written before the child starts; and /proc, by which a process is
recognised: by the marker in its environment, or by its id together with the moment it was started.
Ends nothing it cannot prove to be ours. Elsewhere than on Linux it finds nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from waygate_mcp.upstreams.environment import MARKER

__all__ = ["RunFiles", "kill_marked", "new_marker"]

_log = logging.getLogger(__name__)
_PROC = Path("/proc")
_MAX_BYTES = 4_096
_MAX_FILES = 10_000
_ROUNDS, _ROUND_S = 50, 0.02


class _Run(msgspec.Struct):
    """What a run-file says. Start times are in the clock ticks of `boot`."""

    marker: str
    gateway_pid: int
    gateway_start: int
    boot: str
    name: str = ""


_decode = msgspec.json.Decoder(_Run).decode


def new_marker() -> str:
    """Give a marker nobody else has."""
    return secrets.token_hex(16)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _boot() -> str:
    return _read(_PROC / "sys/kernel/random/boot_id").decode().strip()


def _start_of(pid: int) -> int:
    """Give when a process was started, 0 where there is none."""
    after_name = _read(_PROC / str(pid) / "stat").rpartition(b")")[2].split()
    return int(after_name[19]) if len(after_name) > 19 else 0


def _marked(marker: str) -> Iterator[int]:
    """Give the processes whose environment holds a marker."""
    entry = f"{MARKER}={marker}".encode()
    try:
        pids = [int(one) for one in os.listdir(_PROC) if one.isdigit()]  # noqa: PTH208 - names alone
    except OSError:
        return
    for pid in pids:
        if pid != os.getpid() and entry in _read(_PROC / str(pid) / "environ").split(b"\0"):
            yield pid


def kill_marked(marker: str) -> int:
    """End every process that has a marker, also those that left their group; give their number.

    Returns when they are gone, or after a second: on a busy machine even a killed process takes a moment.
    """
    found = set[int]()
    for _ in range(_ROUNDS):  # one that forks while we look is found the next time
        pids = list(_marked(marker))
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if not pids:
            break
        found.update(pids)
        time.sleep(_ROUND_S)
    return len(found)


class RunFiles:
    """The run-files in one folder. Without a folder nothing is written and nothing reaped."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def write(self, marker: str, name: str) -> None:
        """Note that a child with `marker` is about to start."""
        if self._folder is None:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = os.getpid()
        run = _Run(marker, own, _start_of(own), _boot(), name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(self._path(marker), flags, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(run))

    def remove(self, marker: str) -> None:
        """Note that nothing is left of a child."""
        if self._folder is not None:
            self._path(marker).unlink(missing_ok=True)

    def reap(self) -> int:
        """End what gateways that are gone have left behind; give the number of processes."""
        if self._folder is None or not self._folder.is_dir():
            return 0
        reaped = 0
        for path in sorted(self._folder.glob("child-*.json"))[:_MAX_FILES]:
            reaped += self._reap_one(path)
        return reaped

    def _reap_one(self, path: Path) -> int:
        """End the processes of one run-file, unless its gateway still runs."""
        try:
            run = _decode(_read(path)[:_MAX_BYTES])
        except (msgspec.DecodeError, UnicodeDecodeError):
            _log.warning("a run-file cannot be read and is removed: %s", path.name)
            path.unlink(missing_ok=True)
            return 0
        if not run.marker or path != self._path(run.marker):
            return 0
        if run.boot == _boot():
            if run.gateway_start and _start_of(run.gateway_pid) == run.gateway_start:
                return 0
            found = kill_marked(run.marker)
            if found:
                _log.warning("%d processes of %s had outlived a gateway", found, run.name[:100])
        else:
            found = 0
        path.unlink(missing_ok=True)
        return found

    def _path(self, marker: str) -> Path:
        assert self._folder is not None
        return self._folder / f"child-{marker}.json"
