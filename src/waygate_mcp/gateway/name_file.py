"""Claims of public names in one file of the data folder.

Knows one JSON file, readable by its owner only, replaced as a whole, shared by all processes of a data
folder. Refuses to know what a claim means. A file that cannot be read is put aside, with a warning, and
begun anew: names are then claimed by whoever publishes them first, as at the very first start.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from waygate_mcp.config.file_lock import locked
from waygate_mcp.errors import StorageError
from waygate_mcp.gateway.name_table import keep_claim
from waygate_mcp.model.catalog import NameClaim

__all__ = ["NameFile"]

_log = logging.getLogger(__name__)

MAX_BYTES = 64 * 1024 * 1024
MAX_CLAIMS = 50_000
LOCK_WAIT_S = 5.0

_Claims = dict[tuple[str, str, str], NameClaim]
_Held = dict[tuple[str, str, str], dict[tuple[str, str, str], None]]


class _Content(msgspec.Struct):
    """The file. `version` is that of its format."""

    version: int
    claims: list[NameClaim]


_decode = msgspec.json.Decoder(_Content).decode


class NameFile:
    """A `model.ports.NameStore` in `path`; beside it lie its lock and, for a moment, a draft.

    Work on the disk is done in a thread, and waits for another process for `LOCK_WAIT_S` at most.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def load(self) -> Sequence[NameClaim]:
        """See NameStore."""
        return await asyncio.to_thread(self._load)

    async def claim(self, wanted: Mapping[NameClaim, NameClaim | None]) -> Sequence[NameClaim]:
        """See NameStore."""
        return await asyncio.to_thread(self._claim, dict(wanted))

    def _load(self) -> Sequence[NameClaim]:
        try:
            return tuple(self._read()[0].values())
        except OSError as exc:
            _log.warning("%s cannot be read: %s", self._path, exc.strerror)
            return ()

    def _claim(self, wanted: Mapping[NameClaim, NameClaim | None]) -> Sequence[NameClaim]:
        try:
            with locked(self._path, LOCK_WAIT_S):
                claims, held = self._read()
                changed = False
                for claim, void in wanted.items():
                    if claims.get(claim.key) in (None, void):
                        keep_claim(claims, held, claim)
                        changed = True
                in_force = [claims[claim.key] for claim in wanted if claim.key in claims]
                if changed:
                    _bound(claims, held)
                    self._write(claims)
                return in_force
        except OSError as exc:
            raise StorageError(f"cannot write {self._path}: {exc.strerror or exc}") from exc

    def _read(self) -> tuple[_Claims, _Held]:
        """Read all claims.

        Raises:
            OSError: there is a file, and it cannot be opened.
        """
        claims: _Claims = {}
        held: _Held = {}
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return claims, held
        try:
            if len(data) > MAX_BYTES:
                raise msgspec.ValidationError(f"it is larger than {MAX_BYTES} bytes")
            content = _decode(data)
            if content.version != 1:
                raise msgspec.ValidationError(f"it has version {content.version}, not 1")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            aside = self._path.with_name(f"{self._path.name}.unreadable")
            _log.warning("%s is begun anew, the old one is %s: %s", self._path, aside.name, exc)
            with suppress(OSError):  # a folder nobody may write into: writing will say so
                self._path.replace(aside)
            return claims, held
        for claim in content.claims:
            keep_claim(claims, held, claim)
        return claims, held

    def _write(self, claims: _Claims) -> None:
        """Replace the file, so that whoever reads finds all of the old or all of the new."""
        draft = self._path.with_name(f".{self._path.name}.{os.urandom(8).hex()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(_Content(1, list(claims.values()))))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise


def _bound(claims: _Claims, held: _Held) -> None:
    """Forget whole holders where there is too much, those known for longest first."""
    while len(claims) > MAX_CLAIMS:
        for key in held.pop(next(iter(held))):
            claims.pop(key, None)
