"""Changing the document while it is in force: looked at, applied, kept, rolled back.

Knows the order of an apply. The file stays the truth: a document is built whole before it is written, recorded
before it is written, and in force right after; whatever fails on the way leaves file and configuration as they were.

    plan ─▶ build the next generation ─▶ is the file still the one it was planned against? ─▶ entry in the
    history ─▶ file written in one step ─▶ in force ─▶ other workers are told

Killed before the file is written, the history has an entry too many, and the next start adds one that says what
the file holds; killed after it, the next start finds file and history in agreement. Refuses to know who may do this:
its callers have asked.
Spec: threat model rules 28, 33, 37 and 42.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from waygate_mcp.config.changes import MAX_CHANGES, Change, changes_between
from waygate_mcp.config.client_block import document_notes
from waygate_mcp.config.document import Document
from waygate_mcp.config.files import alone_in, read_text, write_whole
from waygate_mcp.config.load import examine_document, parse_document, place_in
from waygate_mcp.config.quarantine import quarantine_notes
from waygate_mcp.config.yaml_text import MAX_BYTES, dotted, parse_yaml
from waygate_mcp.errors import ConfigError, ConfigProblem, StorageError, UnknownNameError
from waygate_mcp.model.applied import AppliedDocument, digest_of
from waygate_mcp.model.ports import AuditTrail
from waygate_mcp.runtime.clear_secrets import clear_secrets, without_secrets, without_secrets_in
from waygate_mcp.runtime.document_record import DocumentRecord
from waygate_mcp.runtime.foundation import Foundation
from waygate_mcp.runtime.generation import Generation
from waygate_mcp.runtime.house import House
from waygate_mcp.runtime.reload import Reloader
from waygate_mcp.runtime.remote_changes import unsafe_changes
from waygate_mcp.runtime.upstreams import examine_upstreams
from waygate_mcp.telemetry.logs import get_logger

__all__ = [
    "Applied",
    "ApplyBrokenError",
    "ConfigDesk",
    "DocumentChangedError",
    "NotKeptError",
    "Plan",
    "Wish",
    "desk_of",
]

_IN_A_RECORD = 20
"""Problems an audit record names: its size is bounded."""

_log = get_logger("runtime.config_desk")


class DocumentChangedError(ConfigError):
    """The document is not the one a change was planned against, or somebody else changes it now."""


class ApplyBrokenError(ConfigError):
    """The document's file cannot be read or written."""


class NotKeptError(ConfigError):
    """The history has no text of that document that could be put in force."""


class Plan(msgspec.Struct, frozen=True):
    """What a text would change. `base` is the digest of the document in force it is compared with."""

    digest: str
    base: str
    problems: tuple[ConfigProblem, ...] = ()
    changes: tuple[Change, ...] = ()
    omitted: bool = False
    notes: tuple[str, ...] = ()


class Wish(msgspec.Struct, frozen=True):
    """Who wants something put in force, why, and against which document it was planned."""

    base: str
    by: str
    reason: str = ""
    request_id: str = ""


class Applied(msgspec.Struct, frozen=True):
    """What was put in force: its entry in the history, and the generation that serves it."""

    entry: AppliedDocument
    generation: int
    changes: tuple[Change, ...]
    omitted: bool


def desk_of(house: House[Any]) -> ConfigDesk:
    """Give the desk of a house."""
    return ConfigDesk(
        house.foundation,
        house.reloader,
        house.document_record,
        house.document_path,
        house.current,
    )


class ConfigDesk:
    """The desk of one house. `current` gives the generation in force, `trail` where acts are recorded."""

    def __init__(
        self,
        foundation: Foundation,
        reloader: Reloader[Any],
        record: DocumentRecord,
        path: Path | None,
        current: Callable[[], Generation[Any]],
    ) -> None:
        self._foundation = foundation
        self._reloader = reloader
        self._record = record
        self._path = path
        self._current = current

    @property
    def has_file(self) -> bool:
        """Tell whether there is a document to be changed, and not only what is built in."""
        return self._path is not None

    @property
    def text(self) -> str:
        """The text of the document in force; empty where there is no file."""
        return (self._reloader.text or b"").decode("utf-8")

    @property
    def digest(self) -> str:
        """The digest of the document in force."""
        return digest_of(self._reloader.text or b"")

    async def file_digest(self) -> str | None:
        """Give the digest of what the file holds now; None where it cannot be read."""
        try:
            return digest_of((await self._read()).encode())
        except ConfigError:
            return None

    async def plan(self, text: str) -> Plan:
        """Say what is wrong with a text and what it would change. Nothing is changed."""
        plan, _ = await self._planned(text, is_trusted=False)
        return plan

    async def apply(self, text: str, wish: Wish) -> Applied:
        """Put a text in force and into the file.

        Raises:
            ConfigError: it is not valid, may not come from here, or cannot be opened.
            DocumentChangedError: the file is not the one it was planned against.
            ApplyBrokenError: the file cannot be written.
            StorageError: it cannot be recorded.
            WaygateError: a plugin cannot be opened.
        """
        return await self._apply("config.apply", text, wish, is_trusted=False)

    async def roll_back(self, number: int, wish: Wish) -> Applied:
        """Put a document of the history in force again, and into the file.

        It was in force before, so that it may hold what the admin API may not change otherwise.

        Raises:
            UnknownNameError: there is no such entry.
            NotKeptError: its text is not whole.
            WaygateError: as `apply`.
        """
        entry = await self.entry(number)
        if entry.is_masked:
            raise NotKeptError("secrets stood in it in clear, so that its text was not kept")
        reason = wish.reason or f"rollback to {number}"
        wish = msgspec.structs.replace(wish, reason=reason)
        return await self._apply("config.rollback", entry.text, wish, is_trusted=True)

    async def history(self, *, skip: int, limit: int) -> tuple[int, list[AppliedDocument]]:
        """Give how many documents were put in force, and some of them, newest first.

        Raises:
            StorageError: the database cannot be asked.
        """
        return await self._record.history.page(skip=skip, limit=limit)

    async def entry(self, number: int) -> AppliedDocument:
        """Give one document that was put in force.

        Raises:
            UnknownNameError: there is none of that number.
            StorageError: the database cannot be asked.
        """
        found = await self._record.history.find(number)
        if found is None:
            raise UnknownNameError("document", str(number))
        return found

    async def _planned(self, text: str, *, is_trusted: bool) -> tuple[Plan, Document | None]:
        data = text.encode()
        digest = digest_of(data)
        settings, old = self._foundation.settings, self._current().document
        try:
            document = await asyncio.to_thread(parse_document, data, settings)
        except ConfigError as exc:
            return Plan(digest, self.digest, exc.problems), None
        known = await self._foundation.secrets.gather(document)
        folder = None if self._path is None else self._path.parent
        problems = await asyncio.to_thread(
            examine_document, document, settings, folder, known, examine_upstreams
        )
        there = clear_secrets(parse_yaml(self._reloader.text or b"").value)
        problems += [
            ConfigProblem(dotted(path), "a secret stands here in clear; write `${secret:NAME}`")
            for path, secret in clear_secrets(parse_yaml(data).value)
            if (path, secret) not in there  # what is in the file already is no new leak
        ]
        if not is_trusted:
            problems += unsafe_changes(old, document)
        if problems:
            problems = list(place_in(ConfigError(problems=problems), data, source="text").problems)
        changes = changes_between(old, document, without_secrets_in)
        modes = {name: document.quarantine_of(name) for name in document.enabled_upstreams()}
        plan = Plan(
            digest,
            self.digest,
            tuple(problems),
            tuple(changes[:MAX_CHANGES]),
            len(changes) > MAX_CHANGES,
            (*document_notes(document), *quarantine_notes(modes)),
        )
        return plan, document

    async def _apply(self, action: str, text: str, wish: Wish, *, is_trusted: bool) -> Applied:
        if self._path is None:
            raise DocumentChangedError(
                "this server was started without a document; write one and start it again"
            )
        async with self._record.lock:
            act = _Act(self._trail(), action, wish)
            if self.digest != wish.base or await self.file_digest() != wish.base:
                act.note("refused", why="it was changed")
                raise DocumentChangedError("was changed since this was planned; plan it again")
            plan, _ = await self._planned(text, is_trusted=is_trusted)
            if plan.problems:
                act.note("refused", problems=[one.path for one in plan.problems[:_IN_A_RECORD]])
                raise ConfigError(problems=plan.problems)
            act.note("begun", digest=plan.digest)
            commit = _Commit(self._path, text, wish, self._record)
            try:
                report = await self._reloader.apply(text.encode(), "admin API", commit)
            except BaseException:
                act.note("failed", digest=plan.digest)
                raise
            assert commit.entry is not None
            act.note("done", digest=plan.digest, number=commit.entry.number)
        if self._foundation.peers is not None:
            self._foundation.peers.tell_of_document()
        return Applied(commit.entry, report.number, plan.changes, plan.omitted)

    def _trail(self) -> AuditTrail | None:
        is_recorded = self._current().document.audit.enabled
        return self._foundation.audit.trail if is_recorded else None

    async def _read(self) -> str:
        path = self._path
        return "" if path is None else await asyncio.to_thread(_text_of, path)


class _Act:
    """The audit records of one change; None of them where nothing is recorded."""

    def __init__(self, trail: AuditTrail | None, action: str, wish: Wish) -> None:
        self._trail = trail
        self._action = action
        self._wish = wish

    def note(self, outcome: str, **details: Any) -> None:
        """Record how far it is.

        Raises:
            StorageError: it cannot be recorded; what was not begun must not be done.
        """
        if self._trail is not None:
            wish = self._wish
            self._trail.record(
                self._action,
                principal=wish.by,
                outcome=outcome,
                details={"base": wish.base, "reason": wish.reason, **details},
                request_id=wish.request_id,
            )


class _Commit:
    """The moment of an apply at which it becomes true: recorded, then written. `entry` is its record."""

    def __init__(self, path: Path, text: str, wish: Wish, record: DocumentRecord) -> None:
        self.entry: AppliedDocument | None = None
        self._path = path
        self._text = text
        self._wish = wish
        self._history = record.history

    async def __call__(self) -> None:
        """Record and write it.

        Raises:
            WaygateError: neither was done.
        """
        with ExitStack() as stack:
            await asyncio.to_thread(self._lock, stack)
            kept = await asyncio.to_thread(without_secrets, self._text)
            self.entry = await self._history.add(
                digest_of(self._text.encode()), kept, self._wish.by, self._wish.reason
            )
            assert self.entry is not None
            try:
                await asyncio.to_thread(write_whole, self._path, self._text)
            except BaseException as exc:
                await self._take_back(self.entry)
                if isinstance(exc, ConfigError):
                    cause = exc.__cause__
                    why = cause.strerror if isinstance(cause, OSError) else "it is no regular file"
                    raise ApplyBrokenError(f"cannot be written: {why}") from exc
                raise

    def _lock(self, stack: ExitStack) -> None:
        """Keep others out until it is written, and make sure that nobody was there before."""
        try:
            stack.enter_context(alone_in(self._path.resolve().parent))
        except ConfigError as exc:
            raise DocumentChangedError("is being changed by somebody else; do it again") from exc
        if digest_of(_text_of(self._path).encode()) != self._wish.base:
            raise DocumentChangedError("was changed meanwhile; plan it again")

    async def _take_back(self, entry: AppliedDocument) -> None:
        try:
            await self._history.remove(entry.number)
        except StorageError as exc:
            # The next reload finds that the file is another one, and says so there.
            _log.warning("history_entry_left", number=entry.number, reason=str(exc))


def _text_of(path: Path) -> str:
    try:
        return read_text(path, limit_bytes=MAX_BYTES) or ""
    except ConfigError as exc:
        raise ApplyBrokenError("cannot be read") from exc
