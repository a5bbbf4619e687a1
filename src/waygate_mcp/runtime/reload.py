"""From one generation to the next: load, validate, build, swap one reference, drain, close.

    serving n ──request──▶ loading ──▶ building n+1 ──▶ swapped: n+1 serves
        ▲                     │             │               └▶ n drains, then closes
        └──── n stays ◀───────┴─────────────┘  with the path of what is wrong

What it is made of is the document and the files plugins were run from; `watch` looks at both. One
reload at a time; requests that come meanwhile become one more after it. The step that swaps is
one assignment, so there is no moment without a whole configuration (threat model rule 42).
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from waygate_mcp.auth.bootstrap import BootstrapKey
from waygate_mcp.config.document import Document
from waygate_mcp.config.load import load_document, parse_document, place_in, read_document
from waygate_mcp.errors import ConfigError, WaygateError
from waygate_mcp.runtime.builders import MakeGuard, open_generation
from waygate_mcp.runtime.foundation import Foundation
from waygate_mcp.runtime.generation import Generation
from waygate_mcp.runtime.keeper import Keeper
from waygate_mcp.telemetry.logs import get_logger

__all__ = ["ReloadReport", "Reloader"]

Guard = TypeVar("Guard")
Stamp = tuple[int, int, int] | None
"""A file at one moment: when it was written, in ns, its size in bytes, its inode."""

_log = get_logger("runtime.reload")


class ReloadReport(msgspec.Struct, frozen=True):
    """How a reload went. `number` is the generation now in force.

    `problems` are one line each, with place and path, where the old one stayed.
    """

    is_done: bool
    number: int
    reason: str
    problems: tuple[str, ...] = ()


class Reloader(Generic[Guard]):
    """Owns every generation of a house, the one in force and those that drain."""

    def __init__(
        self,
        foundation: Foundation,
        path: Path | None,
        make_guard: MakeGuard[Guard],
        bootstrap: Callable[[], BootstrapKey],
        put_in_force: Callable[[Generation[Guard]], None],
    ) -> None:
        self.last: ReloadReport | None = None
        self.text: bytes | None = None
        """The text of the document in force, None where there is no file."""
        self.on_report: Callable[[ReloadReport], object] | None = None
        self._foundation = foundation
        self._path = path
        self._make_guard = make_guard
        self._bootstrap = bootstrap
        self._put_in_force = put_in_force
        self._keeper: Keeper[Guard] | None = None
        self._seen: dict[Path, Stamp] = {}
        self._moved = asyncio.Event()
        self._retired: set[Keeper[Guard]] = set()
        self._lock = asyncio.Lock()
        self._is_requested = False

    async def first(self) -> None:
        """Build the first generation and put it in force.

        Raises:
            WaygateError: it cannot be built; nothing is left open.
        """
        await self._advance()

    async def reload(self, reason: str) -> ReloadReport:
        """Build the next generation and put it in force; whatever fails leaves the old one."""
        async with self._lock:
            try:
                number = await self._advance()
            except WaygateError as exc:
                self.last = self._failed(reason, exc)
            else:
                self.last = self._done(reason, number)
            if self.on_report is not None:
                self.on_report(self.last)
            return self.last

    async def apply(
        self, text: bytes, reason: str, commit: Callable[[], Awaitable[None]]
    ) -> ReloadReport:
        """Put a text in force that is not in the document's file yet.

        It is built whole first, so that what cannot be opened is never written; then `commit` writes it,
        and the next instant it is in force.

        Raises:
            WaygateError: it cannot be built, or `commit` raised it; the old generation stays.
        """
        async with self._lock:
            self.last = self._done(reason, await self._advance(text, commit))
            if self.on_report is not None:
                self.on_report(self.last)
            return self.last

    def request(self, reason: str) -> None:
        """Reload soon. While one waits to begin, further requests are the same one."""
        if not self._is_requested:
            self._is_requested = True
            self._foundation.supervisor.start(self._requested(reason), name="reload")

    def watch(self) -> None:
        """Reload when the document or a file of a plugin changes, until the supervisor ends it."""
        if self._path is not None:
            self._foundation.supervisor.start(self._watch(), name="watch-files")

    async def drain(self, timeout_s: float | None = None) -> bool:
        """Wait until no generation is in use; True where that came within the time."""
        keepers = [*self._retired, *([self._keeper] if self._keeper else [])]
        if timeout_s is None:
            timeout_s = keepers[-1].generation.document.limits.drain_s if keepers else 0
        try:
            async with asyncio.timeout(timeout_s):
                for keeper in keepers:
                    await keeper.generation.calls.wait_idle()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Close every generation, whoever still uses it."""
        keepers = [*self._retired, *([self._keeper] if self._keeper else [])]
        self._keeper = None
        self._retired.clear()
        for keeper in keepers:
            await keeper.close()

    async def _advance(
        self, text: bytes | None = None, commit: Callable[[], Awaitable[None]] | None = None
    ) -> int:
        seen: dict[Path, Stamp] = {}
        try:
            number = await self._build(seen, text, commit)
        except BaseException:
            # The old generation stays, and any file of the failed one may be what has to be mended.
            self._follow(self._seen | seen)
            raise
        self._follow(seen)
        return number

    async def _build(
        self,
        seen: dict[Path, Stamp],
        text: bytes | None,
        commit: Callable[[], Awaitable[None]] | None,
    ) -> int:
        """Build and put in force; `seen` gets the files it is made of, as they were before a look.

        `text` stands for what is in the document's file, and is there once `commit` has been awaited.
        """

        def see(file: Path) -> None:
            seen.setdefault(file, _stamp(file))

        folder = None
        if self._path is not None:
            see(self._path)
            folder = self._path.parent
            if text is None:
                # A small file, but a disk may be slow, and the loop serves others meanwhile.
                text = await asyncio.to_thread(read_document, self._path)
        document = await asyncio.to_thread(self._read, text)
        old = self._keeper
        number = old.number + 1 if old else 1
        new = Keeper(
            self._foundation.supervisor,
            number,
            partial(
                open_generation,
                self._foundation,
                number,
                document,
                self._make_guard,
                self._bootstrap,
                folder,
                see,
            ),
        )
        try:
            generation = await new.open()
        except ConfigError as exc:
            if text is None:
                raise
            raise await asyncio.to_thread(place_in, exc, text, source=str(self._path)) from exc
        if commit is not None:
            try:
                await commit()
            except BaseException:
                await new.close()
                raise
            if self._path is not None:
                seen[self._path] = _stamp(self._path)
        self._keeper = new
        self.text = text
        self._put_in_force(generation)
        if old is not None:
            self._retired.add(old)
            self._foundation.live.hub.announce_everything()
            self._foundation.supervisor.start(self._retire(old), name=f"retire-{old.number}")
        return number

    def _read(self, text: bytes | None) -> Document:
        settings = self._foundation.settings
        if text is None:
            return load_document(None, settings)
        return parse_document(text, settings, source=str(self._path))

    async def _retire(self, old: Keeper[Guard]) -> None:
        """Let the calls of an old generation end, then close it.

        None can last longer than the limits it began under.
        """
        limits, calls = old.generation.document.limits, old.generation.calls
        try:
            async with asyncio.timeout(limits.call_timeout_s + limits.parked_call_timeout_s):
                await calls.wait_idle()
        except TimeoutError:
            _log.warning("generation_closed_in_use", generation=old.number, calls=calls.count)
        self._retired.discard(old)
        await old.close()

    async def _requested(self, reason: str) -> None:
        self._is_requested = False
        await self.reload(reason)

    def _follow(self, seen: dict[Path, Stamp]) -> None:
        """Watch these files from now on; where they lie elsewhere, the watcher begins anew."""
        is_moved = _folders(seen) != _folders(self._seen)
        self._seen = seen
        if is_moved:
            self._moved.set()

    def _is_stale(self) -> bool:
        return any(_stamp(file) != stamp for file, stamp in list(self._seen.items()))

    async def _watch(self) -> None:
        # Loaded by those who asked for it only: it costs every other start its time.
        watchfiles: Any = importlib.import_module("watchfiles")
        while True:
            self._moved = asyncio.Event()
            # Folders, not files: editors replace a file by another of the same name. And a look every
            # few seconds besides, for file systems that tell of nothing and links that lead elsewhere.
            async for _ in watchfiles.awatch(
                *_folders(self._seen),
                recursive=False,
                stop_event=self._moved,
                yield_on_timeout=True,
            ):
                if self._is_stale():
                    await self.reload("file changed")
            if not self._moved.is_set():
                return

    def _done(self, reason: str, number: int) -> ReloadReport:
        _log.info("reloaded", generation=number, reason=reason)
        return ReloadReport(is_done=True, number=number, reason=reason)

    def _failed(self, reason: str, exc: WaygateError) -> ReloadReport:
        problems = (
            tuple(str(problem) for problem in exc.problems)
            if isinstance(exc, ConfigError)
            else (str(exc),)
        )
        number = self._keeper.number if self._keeper else 0
        _log.error("reload_failed", generation=number, reason=reason, problems=problems)
        return ReloadReport(is_done=False, number=number, reason=reason, problems=problems)


def _stamp(file: Path) -> Stamp:
    """Give what changes when a file is written or replaced; None where there is none."""
    try:
        info = file.stat()
    except OSError:
        return None
    return info.st_mtime_ns, info.st_size, info.st_ino


def _folders(files: Iterable[Path]) -> list[Path]:
    """Give the folders there are of these files."""
    return sorted({file.parent.resolve() for file in files if file.parent.is_dir()})
