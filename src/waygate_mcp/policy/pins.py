"""Which definitions of upstreams are trusted, in the memory of one process.

Knows what is pinned, what was last seen, and what waits; hears of decisions made elsewhere by asking the
store for what is new. Refuses to know where pins are kept and who decides. A name is trusted where the
last definition this process saw under it is one that was approved and no other waits. Without a store
that was read once, nothing is.
Spec: threat model rules 5, 24, 34 and 39.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from waygate_mcp.errors import LimitError, StorageError
from waygate_mcp.model.catalog import Entry, Kind
from waygate_mcp.model.pins import INSTRUCTIONS, PINNED_KINDS, Pin, Sighting
from waygate_mcp.model.ports import PinStore, Supervisor
from waygate_mcp.policy.definitions import UnsafeDefinitionError, digest_of
from waygate_mcp.policy.poison import find_signs
from waygate_mcp.telemetry.logs import get_logger

__all__ = ["HeldCounts", "Pins", "UpstreamPins"]

POLL_S = 0.5
CLOSE_S = 5.0
MAX_PINS = 10_000
"""Pins of one upstream. One that renames its tools for ever shows no more new ones."""

MAX_NAME_BYTES = 1024

WRITES_AT_ONCE = 20
WRITE_EVERY_S = 5.0
"""An upstream that changes all the time makes the store write this often, and no oftener."""

IN_THREAD_BYTES = 32 * 1024
"""More than this is looked at outside the thread that serves."""

_KEPT_LISTS = 256
_KEPT_DIGESTS = 20_000
_NAMED_IN_LOG = 5
_MAX_NAME_CHARS = 200

_log = get_logger("policy.pins")

_Key = tuple[str, str]
_ADVICE: _Key = (INSTRUCTIONS, "")
_KINDS = {kind.value: kind for kind in PINNED_KINDS}
OnChange = Callable[[str, frozenset[Kind]], None]
"""Told of an upstream whose lists look different from now on, and which; never raises."""

HeldCounts = Mapping[str, int]


class _Known(msgspec.Struct):
    """What is in force for one entry, what waits, and what this process saw last."""

    accepted: frozenset[str] = frozenset()
    waiting: str | None = None
    last_seen: str | None = None

    @property
    def is_held(self) -> bool:
        return self.waiting is not None or not self.accepted


class _Screened(msgspec.Struct, frozen=True):
    """A list that was looked at: at which state of the pins, and what of it may be shown."""

    entries: tuple[Entry, ...]
    epoch: int
    shown: tuple[Entry, ...]


class Pins:
    """All pins of a process. `open` reads the store, `follow` keeps up with it until `close`.

    `on_change` may be set until then. The store is written to by tasks of their own: one that is cut off in
    the middle, because a client went away, would leave its connection to the database behind.
    """

    def __init__(
        self,
        store: PinStore,
        supervisor: Supervisor,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self._supervisor = supervisor
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closing = False
        self.on_change: OnChange = _nobody
        self.is_loaded = False
        self._monotonic = monotonic
        self._upstreams: dict[str, UpstreamPins] = {}
        self._version = 0
        self._has_failed = False
        self._wake = asyncio.Event()

    async def open(self) -> None:
        """Read the store. Where that fails the operator is told, and nothing is trusted until it works."""
        await self.poll()

    def follow(self) -> None:
        """Begin to keep up with the store."""
        self._start(self._follow(), "pins")

    async def close(self) -> None:
        """Let what reads or writes the store come to its end, and end."""
        self._is_closing = True
        self._wake.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_S)

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._supervisor.start(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _follow(self) -> None:
        while not self._is_closing:
            try:
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            await self.poll()

    async def poll(self) -> None:
        """Take over what is new in the store, and store what could not be stored before."""
        try:
            found = await self.store.load(self._version)
        except StorageError as exc:
            self._note_failure(exc)
            return
        is_first, self.is_loaded = not self.is_loaded, True
        self._has_failed = False
        self.take(found)
        if is_first:
            for name, upstream in self._upstreams.items():
                upstream.begin_anew()
                self.on_change(name, frozenset(Kind))
        for upstream in tuple(self._upstreams.values()):
            epoch = upstream.epoch
            await upstream.flush()
            if epoch != upstream.epoch:
                self.on_change(upstream.name, frozenset(Kind))

    def of(self, upstream: str) -> UpstreamPins:
        """Give the pins of one upstream."""
        found = self._upstreams.get(upstream)
        if found is None:
            found = self._upstreams[upstream] = UpstreamPins(upstream, self, self._monotonic)
        return found

    def held_counts(self) -> HeldCounts:
        """Count what is held back, by upstream."""
        return {name: upstream.held for name, upstream in self._upstreams.items()}

    def take(self, pins: Iterable[Pin]) -> None:
        """Put pins of the store in force, and tell whose lists look different now."""
        changed: dict[str, set[Kind]] = {}
        for pin in pins:
            self._version = max(self._version, pin.version)
            if self.of(pin.upstream).take(pin):
                kinds = changed.setdefault(pin.upstream, set())
                kinds.add(_KINDS.get(pin.kind, Kind.TOOL))
        for name, kinds in changed.items():
            self.on_change(name, frozenset(kinds))

    async def see(self, sightings: Sequence[Sighting], on_failure: Callable[[], None]) -> None:
        """Store what was seen, to the end whatever becomes of who waits; `on_failure` is told otherwise."""

        async def write() -> None:
            try:
                found = await self.store.see(sightings)
            except StorageError as exc:
                self._note_failure(exc)
                on_failure()
            except BaseException:
                on_failure()
                raise
            else:
                # `version` is left alone: others may have stored what we did not read yet.
                for pin in found:
                    self.of(pin.upstream).take(pin)

        try:
            writing = self._start(write(), "pins:see")
        except LimitError:  # the server stops
            on_failure()
            return
        await asyncio.wait({writing})

    def wake(self) -> None:
        """Let `follow` look at once."""
        self._wake.set()

    def _note_failure(self, exc: StorageError) -> None:
        if not self._has_failed:
            _log.error("pins_unavailable", problem=str(exc), is_loaded=self.is_loaded)
        self._has_failed = True


class UpstreamPins:
    """The pins of one upstream.

    `trusted` are the names of each kind that may be called. `epoch` grows when what is shown may change.
    """

    def __init__(self, name: str, owner: Pins, monotonic: Callable[[], float]) -> None:
        self.name = name
        self.trusted: dict[Kind, set[str]] = {kind: set() for kind in PINNED_KINDS}
        self._owner = owner
        self._monotonic = monotonic
        self._known: dict[_Key, _Known] = {}
        self._unsafe: dict[_Key, str] = {}
        self._unsaved: dict[_Key, Sighting] = {}
        self._digests: dict[tuple[Kind, bytes], str | UnsafeDefinitionError] = {}
        self._screened: OrderedDict[tuple[Kind, int], _Screened] = OrderedDict()
        self._advice: tuple[str, str] = ("", "")
        self.epoch = 0
        self._writes = float(WRITES_AT_ONCE)
        self._counted_s = monotonic()

    @property
    def held(self) -> int:
        """How many definitions are held back or dropped."""
        return sum(known.is_held for known in self._known.values()) + len(self._unsafe)

    @property
    def unsafe(self) -> Mapping[_Key, str]:
        """What was dropped, by kind and name, and why."""
        return self._unsafe

    def is_held(self, kind: str, name: str) -> bool:
        """Tell whether an entry is known and must not be used."""
        known = self._known.get((kind, name))
        return (kind, name) in self._unsafe or (known is not None and not self._is_trusted(known))

    def held_names(self, kind: str) -> list[str]:
        """Give the names of a kind that are known and must not be used."""
        known = self._known.keys() | self._unsafe.keys()
        return sorted(name for of, name in known if of == kind and self.is_held(of, name))

    def begin_anew(self) -> None:
        """Look at every list again."""
        self.epoch += 1

    def take(self, pin: Pin) -> bool:
        """Put a pin of the store in force; tell whether that changed what is shown."""
        key = (pin.kind, pin.name)
        known = self._known.setdefault(key, _Known())
        before = (known.accepted, known.waiting)
        known.accepted, known.waiting = frozenset(pin.accepted), pin.waiting_digest
        ours = self._unsaved.get(key)
        if ours is not None and ours.digest not in known.accepted:
            known.waiting = ours.digest  # seen here later than what the store knows
        self._settle(key, known)
        if before == (known.accepted, known.waiting):
            return False
        self.epoch += 1
        return True

    async def screen(
        self, kind: Kind, entries: tuple[Entry, ...], *, trusts_first: bool
    ) -> tuple[Entry, ...]:
        """Give the entries that may be shown; the same tuple again for the same entries and pins.

        What is new is stored first: trusted by that where `trusts_first` and it bears no grave sign.
        """
        if not self._owner.is_loaded:
            return ()
        kept = self._screened.get((kind, id(entries)))
        if kept is not None and kept.entries is entries and kept.epoch == self.epoch:
            return kept.shown
        digests = await self._digests_of(kind, entries)
        new = self._compare(kind, entries, digests)
        is_change = any((kind.value, entry.name) in self._known for entry, _ in new)
        signs = await _grave_signs(new) if new and trusts_first else {}
        sightings = [self._sighting(one, digest, signs, trusts_first) for one, digest in new]
        self._unsaved |= {(one.kind, one.name): one for one in sightings}
        self._tell_of(sightings, signs)
        await self.flush()
        if is_change:  # others are shown the earlier one still
            self._owner.on_change(self.name, frozenset({kind}))
        return self._show(kind, entries, digests)

    def advice(self, text: str | None, *, trusts_first: bool) -> str | None:
        """Give the upstream's advice to models where that text is trusted.

        It is asked for where nothing can be awaited, so what is new is stored a moment later.
        """
        if text is None or not self._owner.is_loaded:
            return None
        definition = json.dumps({"instructions": text})
        if self._advice[0] != text:
            try:
                self._advice = (text, digest_of(INSTRUCTIONS, definition))
            except UnsafeDefinitionError:
                return None
        digest = self._advice[1]
        known = self._known.get(_ADVICE)
        if known is None or digest not in (*known.accepted, known.waiting):
            is_grave = any(sign.is_grave for sign in find_signs(definition))
            trusts = trusts_first and known is None and not is_grave
            sighting = Sighting(self.name, INSTRUCTIONS, "", digest, definition, trusts)
            known = self._known.setdefault(_ADVICE, _Known())
            if trusts:
                known.accepted = frozenset({digest})
            else:
                known.waiting = digest
                self._tell_of([sighting], {})
            self._unsaved[_ADVICE] = sighting
            self._owner.wake()
        known.last_seen = digest
        return text if self._is_trusted(known) else None

    async def flush(self) -> None:
        """Store what is not stored yet, unless that was done too often of late."""
        if not self._unsaved or not self._may_write():
            return
        pending, self._unsaved = self._unsaved, {}

        def restore() -> None:
            self._unsaved = pending | self._unsaved

        await self._owner.see(tuple(pending.values()), restore)

    # --- looking

    async def _digests_of(
        self, kind: Kind, entries: tuple[Entry, ...]
    ) -> list[str | UnsafeDefinitionError]:
        """Give the digest of each entry, or why it has none."""
        if len(self._digests) > _KEPT_DIGESTS:
            self._digests.clear()
        known = self._digests
        wanted = {one.definition for one in entries if (kind, one.definition) not in known}
        if sum(map(len, wanted)) > IN_THREAD_BYTES:
            found = await asyncio.to_thread(_digests, kind, wanted)
        else:
            found = _digests(kind, wanted)
        known |= found
        return [found.get((kind, one.definition)) or known[kind, one.definition] for one in entries]

    def _compare(
        self,
        kind: Kind,
        entries: tuple[Entry, ...],
        digests: Sequence[str | UnsafeDefinitionError],
    ) -> list[tuple[Entry, str]]:
        """Note what was seen, and hold back at once what changed. Gives what the store does not know."""
        new: list[tuple[Entry, str]] = []
        for entry, digest in zip(entries, digests, strict=True):
            key = (kind.value, entry.name)
            known = self._known.get(key)
            unfit = str(digest) if isinstance(digest, UnsafeDefinitionError) else _unfit(entry.name)
            if unfit or isinstance(digest, UnsafeDefinitionError):
                self._drop(kind, entry.name, unfit)
                continue
            if known is None and len(self._known) >= MAX_PINS:
                self._drop(kind, entry.name, f"more than {MAX_PINS} definitions were seen")
                continue
            self._unsafe.pop(key, None)
            if known is None:
                new.append((entry, digest))
                continue
            known.last_seen = digest
            if digest not in known.accepted and digest != known.waiting:
                known.waiting = digest
                self.epoch += 1
                new.append((entry, digest))
            self._settle(key, known)
        return new

    def _show(
        self,
        kind: Kind,
        entries: tuple[Entry, ...],
        digests: Sequence[str | UnsafeDefinitionError],
    ) -> tuple[Entry, ...]:
        """Choose what may be shown, now that the store knows all of it or could not be told."""
        shown = []
        for entry, digest in zip(entries, digests, strict=True):
            known = self._known.get((kind.value, entry.name))
            if known is None or isinstance(digest, UnsafeDefinitionError):
                continue
            known.last_seen = digest
            self._settle((kind.value, entry.name), known)
            if known.waiting is None and digest in known.accepted:
                shown.append(entry)
        found = entries if len(shown) == len(entries) else tuple(shown)
        key = (kind, id(entries))
        self._screened[key] = _Screened(entries, self.epoch, found)
        self._screened.move_to_end(key)
        while len(self._screened) > _KEPT_LISTS:
            self._screened.popitem(last=False)
        return found

    def _sighting(
        self, entry: Entry, digest: str, signs: Mapping[str, str], trusts_first: bool
    ) -> Sighting:
        text = entry.definition.decode("utf-8", "replace")
        is_new = (entry.kind.value, entry.name) not in self._known
        trusts = trusts_first and is_new and entry.name not in signs
        return Sighting(self.name, entry.kind.value, entry.name, digest, text, trusts)

    def _drop(self, kind: Kind, name: str, reason: str) -> None:
        """Leave out a definition that cannot be pinned."""
        key = (kind.value, name)
        self.trusted[kind].discard(name)
        if key not in self._unsafe and len(self._unsafe) < MAX_PINS:
            self._unsafe[key] = reason
            _log.warning(
                "definition_dropped", upstream=self.name, kind=kind.value,
                name=name[:_MAX_NAME_CHARS], reason=reason,
            )  # fmt: skip

    def _is_trusted(self, known: _Known) -> bool:
        return known.waiting is None and known.last_seen in known.accepted

    def _settle(self, key: _Key, known: _Known) -> None:
        """Let calls pass, or not."""
        kind = _KINDS.get(key[0])
        if kind is None:
            return
        if self._is_trusted(known) and key not in self._unsafe:
            self.trusted[kind].add(key[1])
        else:
            self.trusted[kind].discard(key[1])

    def _tell_of(self, sightings: Sequence[Sighting], signs: Mapping[str, str]) -> None:
        """Tell the operator of what is held back, in one line however much it is."""
        held = [one for one in sightings if not one.is_trusted]
        changed = [one for one in held if (one.kind, one.name) in self._known]
        for what, found in (
            ("changed", changed),
            ("new", [one for one in held if one not in changed]),
        ):
            if found:
                _log.warning(
                    "definitions_held", upstream=self.name, what=what, count=len(found),
                    names=[one.name[:_MAX_NAME_CHARS] for one in found[:_NAMED_IN_LOG]],
                    signs=[signs[one.name] for one in found[:_NAMED_IN_LOG] if one.name in signs],
                    mend=f"waygate upstreams diff {self.name}",
                )  # fmt: skip

    def _may_write(self) -> bool:
        """Tell whether the store may be written to now."""
        now_s = self._monotonic()
        earned = (now_s - self._counted_s) / WRITE_EVERY_S
        self._writes = min(self._writes + earned, float(WRITES_AT_ONCE))
        self._counted_s = now_s
        may = self._writes >= 1.0
        self._writes -= may
        return may


def _unfit(name: str) -> str:
    """Say why a name cannot be kept in every database, nothing where it can."""
    if "\0" in name or any("\ud800" <= each <= "\udfff" for each in name):
        return "its name holds a character that is none"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"its name has more than {MAX_NAME_BYTES} bytes"
    return ""


def _digests(
    kind: Kind, definitions: Iterable[bytes]
) -> dict[tuple[Kind, bytes], str | UnsafeDefinitionError]:
    found: dict[tuple[Kind, bytes], str | UnsafeDefinitionError] = {}
    for definition in definitions:
        try:
            found[kind, definition] = digest_of(kind.value, definition)
        except UnsafeDefinitionError as exc:
            found[kind, definition] = exc
    return found


async def _grave_signs(new: Sequence[tuple[Entry, str]]) -> dict[str, str]:
    """Give names of new entries that are not to be trusted at first sight, and why."""
    if sum(len(entry.definition) for entry, _ in new) > IN_THREAD_BYTES:
        return await asyncio.to_thread(_find_grave, new)
    return _find_grave(new)


def _find_grave(new: Sequence[tuple[Entry, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry, _ in new:
        grave = next((sign for sign in find_signs(entry.definition) if sign.is_grave), None)
        if grave is not None:
            found[entry.name] = f"{grave.path}: {grave.text}"
    return found


def _nobody(_upstream: str, _kinds: frozenset[Kind]) -> None:
    """Tell nobody."""
