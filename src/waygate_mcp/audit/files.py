"""The files of the journal: `CHAIN.NUMBER.jsonl`, and beside them heads, tombstones, locks and rings.

Knows names, and how a head and a tombstone are written, signed and read. Refuses to know records.

    20261128T032100Z-ab12cd34ef56.000001.jsonl   records, one a line
    20261128T032100Z-ab12cd34ef56.head           how far the chain was, signed
    20261128T032100Z-ab12cd34ef56.pruned         where it begins since older files were let go, signed
    20261128T032100Z-ab12cd34ef56.lock           held by the process that writes it
    20261128T032100Z-ab12cd34ef56.ring           its last records, on their way to the file (`ring.py`)
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from waygate_mcp.audit.keys import AuditKeys
from waygate_mcp.errors import StorageError

__all__ = [
    "FOLDER",
    "Head",
    "Segment",
    "Tombstone",
    "chains_in",
    "is_live",
    "new_chain",
    "read_head",
    "read_tombstone",
    "segments_of",
    "sync_folder",
    "write_beside",
]

FOLDER = "audit"
"""Name of the journal's folder in the data folder."""

_SEGMENT = re.compile(r"(\d{8}T\d{6}Z-[0-9a-f]{12})\.(\d{6,9})\.jsonl")
_BESIDE = re.compile(r"(\d{8}T\d{6}Z-[0-9a-f]{12})\.(head|pruned)")
_MAX_BESIDE_BYTES = 4096

T = TypeVar("T", "Head", "Tombstone")


class Segment(msgspec.Struct, frozen=True, order=True):
    """One file of records."""

    chain: str
    number: int
    path: Path


class Head(msgspec.Struct, frozen=True):
    """How far a chain was: everything up to `sequence` was on the disk.

    `is_closed` says that its process ended it, or that the end was found and settled after a crash.
    """

    chain: str
    sequence: int
    mac: str
    at: str
    is_closed: bool = False
    signature: str = ""

    def text(self) -> bytes:
        """Give what is signed."""
        return f"head|{self.chain}|{self.sequence}|{self.mac}|{self.at}|{self.is_closed:d}".encode()

    def signed(self, keys: AuditKeys) -> Head:
        """Give the same head with its signature."""
        return msgspec.structs.replace(self, signature=keys.sign(self.text()))


class Tombstone(msgspec.Struct, frozen=True):
    """What was let go of a chain: `count` records, the last being `sequence` with this MAC."""

    chain: str
    sequence: int
    mac: str
    count: int
    at: str
    signature: str = ""

    def text(self) -> bytes:
        """Give what is signed."""
        return f"pruned|{self.chain}|{self.sequence}|{self.mac}|{self.count}|{self.at}".encode()

    def signed(self, keys: AuditKeys) -> Tombstone:
        """Give the same tombstone with its signature."""
        return msgspec.structs.replace(self, signature=keys.sign(self.text()))


def new_chain(now_s: float) -> str:
    """Invent the id of a chain that begins now; ids sort by time."""
    return f"{datetime.fromtimestamp(now_s, UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(6)}"


def segments_of(folder: Path, chain: str | None = None) -> list[Segment]:
    """Give all files of records, or those of one chain, in their order.

    Raises:
        StorageError: the folder cannot be read.
    """
    found = []
    for name in _names(folder):
        match = _SEGMENT.fullmatch(name)
        if match and chain in (None, match[1]):
            found.append(Segment(match[1], int(match[2]), folder / name))
    return sorted(found)


def chains_in(folder: Path) -> list[str]:
    """Give every chain anything here speaks of, oldest first.

    Raises:
        StorageError: the folder cannot be read.
    """
    matches = (_SEGMENT.fullmatch(name) or _BESIDE.fullmatch(name) for name in _names(folder))
    return sorted({match[1] for match in matches if match})


def is_live(folder: Path, chain: str) -> bool:
    """Tell whether a process writes this chain now."""
    try:
        descriptor = os.open(folder / f"{chain}.lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def read_head(folder: Path, chain: str) -> Head | None:
    """Give the head beside a chain, None where there is none that can be read; its signature is not checked."""
    return _read(folder / f"{chain}.head", Head)


def read_tombstone(folder: Path, chain: str) -> Tombstone | None:
    """Give the tombstone beside a chain, None where there is none; its signature is not checked."""
    return _read(folder / f"{chain}.pruned", Tombstone)


def write_beside(folder: Path, what: Head | Tombstone) -> None:
    """Write a head or a tombstone beside its chain: wholly or not at all, and on the disk.

    Raises:
        OSError: it was not written.
    """
    ending = "head" if isinstance(what, Head) else "pruned"
    path = folder / f"{what.chain}.{ending}"
    draft = folder / f".{path.name}.{secrets.token_hex(4)}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(msgspec.json.encode(what) + b"\n")
            handle.flush()
            os.fsync(handle.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable.

    Raises:
        OSError: the disk did not.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _names(folder: Path) -> Sequence[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return ()
    except OSError as exc:
        raise StorageError(f"cannot read the audit folder {folder}: {exc.strerror}") from exc


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as handle:
            return msgspec.json.decode(handle.read(_MAX_BESIDE_BYTES), type=kind)
    except (OSError, msgspec.DecodeError):
        return None
