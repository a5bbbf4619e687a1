"""What upstreams can do, kept in a small file over restarts. Fulfils `model.ports.FactStore`.

Knows the file, and what makes an upstream another one. Refuses to hold secrets: what was put in for a
reference is left out of the key, and values of headers and variables too. A file that is damaged, too
large or not ours alone is ignored with a warning and written anew: nothing depends on it but that
`initialize` is answered without contacting anybody.
Spec: protocol.md 2.5 and 5, "Capabilities".
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from waygate_mcp.config.file_lock import locked
from waygate_mcp.config.secrets import SecretText
from waygate_mcp.errors import LimitError
from waygate_mcp.model.facts import Facts
from waygate_mcp.model.ports import Supervisor
from waygate_mcp.telemetry.logs import get_logger
from waygate_mcp.upstreams.opening import UpstreamConfig

__all__ = ["FILE_NAME", "FactFile", "facts_key"]

FILE_NAME = "upstreams.json"
MAX_BYTES = 8 * 1024 * 1024
MAX_ENTRIES = 512
MAX_INSTRUCTIONS = 8 * 1024
"""Characters; no more than half of them are ever shown to a client."""
LOCK_WAIT_S = 5.0
DELAY_S = 0.2
"""Seconds in which what is found together is written together."""

_log = get_logger("runtime.facts")


class _Entry(msgspec.Struct, frozen=True):
    name: str
    key: str
    facts: Facts


class _File(msgspec.Struct, frozen=True):
    format: Literal[1]
    upstreams: list[_Entry]


_Entries = dict[tuple[str, str], Facts]
"""By name and key: what was configured before is known again when it comes back."""

_decode = msgspec.json.Decoder(_File).decode


class FactFile:
    """The facts of all upstreams of this data folder, in memory and in a file.

    `now` gives seconds since 1970. `load` before use, `close` after. Several processes may share the
    file: each writes what it knows over what it finds there.
    """

    def __init__(self, path: Path, supervisor: Supervisor, now: Callable[[], float]) -> None:
        self._path = path
        self._supervisor = supervisor
        self._now = now
        self._entries: _Entries = {}
        self._is_changed = False
        self._writing: asyncio.Task[None] | None = None

    def recall(self, name: str, key: str) -> Facts | None:
        """See FactStore."""
        return self._entries.get((name, key))

    def keep(self, name: str, key: str, facts: Facts) -> None:
        """See FactStore."""
        text = facts.instructions
        facts = msgspec.structs.replace(
            facts,
            instructions=None if text is None else text[:MAX_INSTRUCTIONS],
            found_at_s=round(self._now(), 3),
        )
        old = self.recall(name, key)
        if old is not None and old == msgspec.structs.replace(facts, found_at_s=old.found_at_s):
            return
        self._entries[name, key] = facts
        self._is_changed = True
        if self._writing is None or self._writing.done():
            try:
                self._writing = self._supervisor.start(self._write_soon(), name="keep-facts")
            except LimitError as exc:  # closing, or overrun: `close` writes
                _log.debug("upstream_facts_wait", reason=str(exc))

    async def load(self) -> None:
        """Read the file, if there is a sound one."""
        try:
            self._entries = await asyncio.to_thread(_read, self._path)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as exc:  # msgspec's errors are values that are wrong
            _log.warning(
                "upstream_facts_ignored", file=self._path.name, reason=_reason(exc),
                mend="nothing to do: it is written anew",
            )  # fmt: skip
            self._is_changed = True

    async def close(self) -> None:
        """Write what was not written yet."""
        if self._writing is not None and not self._writing.done():
            self._writing.cancel()
            await asyncio.wait({self._writing})
        if self._is_changed:
            await self._write()

    async def _write_soon(self) -> None:
        while self._is_changed:
            await asyncio.sleep(DELAY_S)
            await self._write()

    async def _write(self) -> None:
        self._is_changed = False
        try:
            await asyncio.to_thread(_merge, self._path, dict(self._entries))
        except OSError as exc:
            _log.warning("upstream_facts_not_kept", file=self._path.name, reason=_reason(exc))
        except asyncio.CancelledError:
            # The thread goes on, and nobody waits for it: whoever closes must not take it for done.
            self._is_changed = True
            raise


def facts_key(config: UpstreamConfig) -> str:
    """Tell one upstream from another that has its name: a digest of what is reached, and how.

    Secrets do not go in: neither values of headers and variables, nor text in which a reference was
    resolved.
    """
    told = [
        _plain(config.url),
        config.http,
        sorted(config.headers),
        _plain(config.command),
        [_plain(argument) for argument in config.args],
        sorted(config.env),
        _plain(config.cwd),
        config.era,
    ]
    return hashlib.blake2b(
        msgspec.json.encode(told), digest_size=16, person=b"waygate-facts"
    ).hexdigest()


def _plain(text: str | None) -> str | None:
    return "${}" if isinstance(text, SecretText) else text


def _read(path: Path) -> _Entries:
    """Give what a file holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not ours alone, too large, or not what we write.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(descriptor, "rb") as handle:
        info = os.fstat(handle.fileno())
        if not stat.S_ISREG(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o022:
            raise ValueError("others can write it")
        data = handle.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES} bytes")
    found = _decode(data).upstreams
    if len(found) > MAX_ENTRIES:
        raise ValueError(f"it has more than {MAX_ENTRIES} entries")
    return {(entry.name, entry.key): entry.facts for entry in found}


def _merge(path: Path, ours: _Entries) -> None:
    """Write what we know together with what others wrote, in one step and for us alone.

    Of what both know the newer is kept. One process at a time, so that nobody's facts are lost.

    Raises:
        OSError: it cannot be written, or another process holds the file for too long.
    """
    with locked(path, LOCK_WAIT_S):
        _write(path, ours)


def _write(path: Path, ours: _Entries) -> None:
    try:
        theirs = _read(path)
    except (OSError, ValueError):
        theirs = {}
    newer = {
        key: facts
        for key, facts in theirs.items()
        if key not in ours or ours[key].found_at_s < facts.found_at_s
    }
    both = sorted((ours | newer).items(), key=lambda one: -one[1].found_at_s)
    entries = [_Entry(*key, facts) for key, facts in both[:MAX_ENTRIES]]
    data = msgspec.json.format(msgspec.json.encode(_File(1, entries)), indent=1)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data + b"\n")
            handle.flush()
            os.fsync(handle.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _reason(exc: Exception) -> str:
    return (exc.strerror or "cannot be read") if isinstance(exc, OSError) else str(exc)[:200]
