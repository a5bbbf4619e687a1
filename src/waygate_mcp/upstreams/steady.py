"""A provider that is there whether its upstream is or not.

Knows when the upstream is opened, when it is left alone, and what of it is shown meanwhile. Refuses
to know what kind of upstream it is: `opening.py` says how to open it.
Spec: threat model rules 26 and 39; protocol.md 5.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Literal, Protocol

import msgspec

from waygate_mcp.errors import TooLargeError, UpstreamError, UpstreamUnavailableError, WaygateError
from waygate_mcp.model.call import Call, Outcome
from waygate_mcp.model.catalog import Features, Kind, Listing, Viewer
from waygate_mcp.model.event import Event, ListChanged
from waygate_mcp.model.ports import Announce, Supervisor
from waygate_mcp.upstreams.breaker import Breaker, BreakerState, Bulkhead
from waygate_mcp.upstreams.outside_text import clipped

__all__ = ["Connector", "Health", "OpenUpstream", "Status", "SteadyLimits", "SteadyUpstream"]

_log = logging.getLogger(__name__)
_UNKNOWN = Features(tools=True, prompts=True, resources=True)
_KEPT = 256
_RETRY_TTL_MS = 1_000
_FRESH_S = 60.0


class Connector(Protocol):
    """An upstream that is open, in this process or in the host of processes."""

    @property
    def features(self) -> Features:
        """See Provider."""

    @property
    def instructions(self) -> str | None:
        """See Provider."""

    @property
    def eras(self) -> tuple[str, ...]:
        """The eras it is known to speak."""

    @property
    def revision(self) -> str:
        """The revision spoken to it."""

    @property
    def is_interactive(self) -> bool:
        """Tell whether it was seen asking where nobody can say who is meant."""

    @property
    def refused_questions(self) -> int:
        """How many questions of it could not be attributed to a call."""

    async def listing(self, kind: Kind, viewer: Viewer) -> Listing:
        """See Provider."""

    async def call(self, call: Call) -> Outcome:
        """See Provider."""


OpenUpstream = Callable[[Announce], AbstractAsyncContextManager[Connector]]
"""Opens the connector; its changes go to the given function."""

Health = Literal["new", "opening", "ready", "failing", "down", "closed"]
"""new: never opened · opening · ready · failing: errors of late · down: left alone for a while."""


class SteadyLimits(msgspec.Struct, frozen=True):
    """Bounds of what one upstream may hold up.

    `calls` may be in flight, `waiting` more wait. A list is awaited for `list_wait_s`; what takes
    longer appears by itself when it is there. A copy of a list is shown for `stale_s` at most.
    """

    calls: int = 256
    waiting: int = 1_024
    failures: int = 5
    list_wait_s: float = 5.0
    stale_s: float = 24 * 3600.0


class Status(msgspec.Struct, frozen=True):
    """How an upstream is, for people and probes. `last_error` is clipped outside text.

    `latency_s` is a moving average over calls that were answered. `refused_questions` counts questions that
    nobody could be asked.
    """

    name: str
    transport: str
    state: Health
    eras: tuple[str, ...] = ()
    revision: str = ""
    breaker: BreakerState = "closed"
    retry_s: float = 0.0
    last_error: str = ""
    latency_s: float | None = None
    in_flight: int = 0
    waiting: int = 0
    opened: int = 0
    is_interactive: bool = False
    refused_questions: int = 0
    sandbox: str = ""


class _Held:
    """An open connector, closed when it was given up and nobody uses it any more."""

    def __init__(self, upstream: Connector, stack: AsyncExitStack) -> None:
        self.upstream = upstream
        self.stack = stack
        self.users = 0
        self.is_given_up = False


class _Kept(msgspec.Struct):
    """A copy of a list: where it is from, and until when it is believed."""

    listing: Listing
    source: tuple[int, int]
    fresh_until_s: float
    read_at_s: float


_Key = tuple[Kind, bytes, int]
_LIMITS = SteadyLimits()


class SteadyUpstream:
    """A `model.ports.Provider` over a connector that comes and goes.

    `start` opens the connector in the background, `close` ends it. Until it was opened once, it is
    taken to have all kinds of entries, and lists are empty.
    """

    def __init__(
        self,
        name: str,
        open_upstream: OpenUpstream,
        announce: Announce,
        *,
        supervisor: Supervisor,
        limits: SteadyLimits = _LIMITS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.transport = ""
        self.sandbox = ""
        self._name = name
        self._open = open_upstream
        self._announce = announce
        self._supervisor = supervisor
        self._limits = limits
        self._now = now
        self._breaker = Breaker(now, failures=limits.failures)
        self._bulkhead = Bulkhead(name, limits.calls, limits.waiting)
        self._features = _UNKNOWN
        self._instructions: str | None = None
        self._held: _Held | None = None
        self._opening: asyncio.Task[None] | None = None
        self._opened = 0
        self._error: WaygateError | None = None
        self._latency_s: float | None = None
        self._is_closed = False
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._reading: dict[_Key, asyncio.Task[None]] = {}
        self._versions = 0

    # --- the Provider port

    @property
    def name(self) -> str:
        """See Provider."""
        return self._name

    @property
    def features(self) -> Features:
        """See Provider."""
        return self._features

    @property
    def instructions(self) -> str | None:
        """See Provider."""
        return self._instructions

    async def call(self, call: Call) -> Outcome:
        """See Provider. An upstream that is left alone fails at once, without being asked."""
        async with self._bulkhead.place():
            if not self._breaker.admit():
                raise self._left_alone()
            began_s = self._now()
            try:
                outcome = await self._call(call)
            except (UpstreamError, TooLargeError) as exc:
                self._note_failure(exc)
                raise
            except asyncio.CancelledError:
                self._note_cancelled(call)
                raise
            except WaygateError:  # an answer, though not one the client hoped for
                self._note_success(began_s)
                raise
            except BaseException:
                self._breaker.note_nothing()
                raise
            self._note_success(began_s)
            return outcome

    async def listing(self, kind: Kind, viewer: Viewer) -> Listing:
        """See Provider. Never raises for what the upstream does.

        A list that cannot be had in time is shown as last read, or empty; its change is announced
        when it is there.
        """
        key = (kind, viewer.principal.fingerprint, viewer.capabilities.bits)
        kept = self._kept.get(key)
        if kept is None or kept.fresh_until_s <= self._now():
            await self._refresh(key, viewer)
            kept = self._kept.get(key)
        now_s = self._now()
        if kept is None or now_s - kept.read_at_s > self._limits.stale_s:
            return Listing((), 0, _RETRY_TTL_MS, "private")
        left_ms = int((kept.fresh_until_s - now_s) * 1000)
        return msgspec.structs.replace(kept.listing, ttl_ms=max(left_ms, _RETRY_TTL_MS))

    # --- for people

    @property
    def status(self) -> Status:
        """How it is, from memory."""
        held = self._held
        upstream = None if held is None else held.upstream
        return Status(
            name=self._name,
            transport=self.transport,
            state=self._health(),
            eras=() if upstream is None else upstream.eras,
            revision="" if upstream is None else upstream.revision,
            breaker=self._breaker.state,
            retry_s=self._breaker.wait_s,
            last_error="" if self._error is None else clipped(str(self._error)),
            latency_s=self._latency_s,
            in_flight=self._bulkhead.in_flight,
            waiting=self._bulkhead.waiting,
            opened=self._opened,
            is_interactive=upstream is not None and upstream.is_interactive,
            refused_questions=0 if upstream is None else upstream.refused_questions,
            sandbox=self.sandbox,
        )

    def _health(self) -> Health:
        if self._is_closed:
            return "closed"
        if self._breaker.state == "open":
            return "down"
        if self._held is not None:
            return "ready" if self._error is None else "failing"
        if self._opening is not None and not self._opening.done():
            return "opening"
        return "new" if self._error is None else "failing"

    # --- opening and closing

    def start(self) -> None:
        """Begin to open the connector, waiting for nothing."""
        self._begin_opening()

    @property
    def opening(self) -> asyncio.Task[None] | None:
        """The task that opens the connector now, for whoever wants to wait; it never raises."""
        task = self._opening
        return None if task is None or task.done() else task

    async def reopen(self) -> Status:
        """Let go of the connector and open a new one, whatever the breaker says; give how that went.

        Calls in flight keep the old one to their end.
        """
        self._give_up()
        self._breaker.note_success()
        if not self._is_closed:
            await asyncio.wait({self._begin_opening()})
        return self.status

    async def close(self) -> None:
        """End everything that was begun."""
        self._is_closed = True
        tasks = [*self._reading.values()]
        if self._opening is not None:
            tasks.append(self._opening)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=10)
        held, self._held = self._held, None
        if held is not None:
            await held.stack.aclose()

    def _begin_opening(self) -> asyncio.Task[None]:
        """Open in a task of its own: a caller that goes away takes nothing from the others."""
        if self._opening is None or self._opening.done():
            self._opening = self._supervisor.start(self._open_once(), name=f"open:{self._name}")
        return self._opening

    async def _open_once(self) -> None:
        """Open the connector, or note why not."""
        async with AsyncExitStack() as stack:
            try:
                upstream = await stack.enter_async_context(self._open(self._hear))
            except WaygateError as exc:
                if self._error is None or str(self._error) != str(exc):
                    _log.warning("%s: cannot be opened: %s", self._name, clipped(str(exc)))
                self._error = exc
                return
            self._features, self._instructions = upstream.features, upstream.instructions
            self._held = _Held(upstream, stack.pop_all())
            self._opened += 1
            self._error = None
        for kind in Kind:
            self._hear(ListChanged(self._name, kind))

    async def _ready(self) -> _Held:
        """Give the open connector.

        Raises:
            UpstreamUnavailableError: it cannot be opened.
        """
        if self._held is None and not self._is_closed:
            await asyncio.wait({self._begin_opening()})
        if self._held is None:
            text = "is closed" if self._error is None else str(self._error)
            raise UpstreamUnavailableError(
                self._name, text, safe_message=f"The upstream server {self._name} is not available."
            ) from self._error
        return self._held

    def _give_up(self) -> None:
        """Let go of a connector that fails, so that the next one finds out anew what it meets."""
        held, self._held = self._held, None
        if held is not None:
            held.is_given_up = True
            self._close_unused(held)

    def _close_unused(self, held: _Held) -> None:
        """Close a connector that was given up, once nobody uses it."""
        if held.is_given_up and not held.users and not self._is_closed:
            self._supervisor.start(_close(held), name=f"close:{self._name}")

    # --- calls

    async def _call(self, call: Call) -> Outcome:
        held = await self._ready()
        held.users += 1
        try:
            return await held.upstream.call(call)
        finally:
            held.users -= 1
            self._close_unused(held)

    def _left_alone(self) -> UpstreamUnavailableError:
        return UpstreamUnavailableError(
            self._name,
            f"is left alone for {self._breaker.wait_s:.1f} s: {self._error}",
            safe_message=f"The upstream server {self._name} fails at the moment; try again later.",
        )

    def _note_failure(self, exc: WaygateError) -> None:
        self._error = exc
        if self._breaker.note_failure():
            self._give_up()

    def _note_cancelled(self, call: Call) -> None:
        """A call that was cancelled by its deadline says as much as a timeout."""
        if self._now() >= call.deadline_s:
            self._note_failure(UpstreamUnavailableError(self._name, "did not answer in time"))
        else:
            self._breaker.note_nothing()

    def _note_success(self, began_s: float) -> None:
        self._breaker.note_success()
        self._error = None
        took_s = self._now() - began_s
        old = self._latency_s
        self._latency_s = took_s if old is None else 0.8 * old + 0.2 * took_s

    # --- lists

    def _hear(self, event: Event) -> None:
        """Take a changed list for stale, and pass the news on."""
        if isinstance(event, ListChanged):
            for key, kept in self._kept.items():
                if key[0] is event.kind:
                    kept.fresh_until_s = 0.0
        self._announce(event)

    async def _refresh(self, key: _Key, viewer: Viewer) -> None:
        """Have a list read, by a task that outlives an impatient caller, and wait for it a while."""
        if self._is_closed or self._breaker.state == "open":
            return
        task = self._reading.get(key)
        if task is None:
            task = self._supervisor.start(self._read(key, viewer), name=f"list:{self._name}")
            self._reading[key] = task
            task.add_done_callback(lambda _: self._reading.pop(key, None))
        done, _ = await asyncio.wait({task}, timeout=self._limits.list_wait_s)
        if not done:
            _log.warning("%s: its list of %ss takes long", self._name, key[0].value)
            task.add_done_callback(lambda _: self._announce_late(key[0]))

    def _announce_late(self, kind: Kind) -> None:
        if not self._is_closed:
            self._announce(ListChanged(self._name, kind))

    async def _read(self, key: _Key, viewer: Viewer) -> None:
        """Read a list; where that fails, what is kept stays."""
        began_s = self._now()
        try:
            held = await self._ready()
            held.users += 1
            try:
                listing = await held.upstream.listing(key[0], viewer)
            finally:
                held.users -= 1
                self._close_unused(held)
        except WaygateError as exc:
            self._error = exc
            self._breaker.note_failure()
            kept = self._kept.get(key)
            if kept is not None:
                kept.fresh_until_s = self._now() + _RETRY_TTL_MS / 1000
            return
        self._note_success(began_s)
        self._keep(key, held, listing)

    def _keep(self, key: _Key, held: _Held, listing: Listing) -> None:
        """Keep a list under a version of our own: a new connector counts from one again."""
        source = (id(held), listing.version)
        old = self._kept.get(key)
        if old is None or old.source != source:
            self._versions += 1
            version = self._versions
        else:
            version = old.listing.version
        now_s = self._now()
        fresh_s = min(listing.ttl_ms / 1000, _FRESH_S)
        listing = msgspec.structs.replace(listing, version=version)
        self._kept[key] = _Kept(listing, source, now_s + fresh_s, now_s)
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)


async def _close(held: _Held) -> None:
    await held.stack.aclose()
