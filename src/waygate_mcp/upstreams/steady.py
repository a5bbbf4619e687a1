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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import msgspec

from waygate_mcp.errors import (
    LimitError,
    TooLargeError,
    UpstreamError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
    WaygateError,
    let_go,
)
from waygate_mcp.model.call import Call, Outcome
from waygate_mcp.model.catalog import Condition, Features, Kind, Listing, Viewer
from waygate_mcp.model.event import Event, ListChanged
from waygate_mcp.model.facts import Facts
from waygate_mcp.model.ports import Announce, Refreshable, Supervisor
from waygate_mcp.upstreams.breaker import Breaker, Bulkhead, LeftAloneError, Pauses
from waygate_mcp.upstreams.connector import Connector, OpenUpstream
from waygate_mcp.upstreams.holding import Held, Kept, ListKey, Reading, list_key
from waygate_mcp.upstreams.outside_text import clipped
from waygate_mcp.upstreams.status import (
    NO_LEDGER,
    Health,
    Ledger,
    RequestResult,
    Status,
    SteadyLimits,
    result_of,
    uncounted,
)
from waygate_mcp.upstreams.subscriptions import Subscriptions

__all__ = ["SteadyUpstream"]

_log = logging.getLogger(__name__)
_NOTHING_KNOWN = Facts(Features(tools=True, prompts=True, resources=True))
_KEPT = 256
_RETRY_TTL_MS = 1_000
_FRESH_S = 60.0

_LIMITS = SteadyLimits()


class SteadyUpstream:
    """A `model.ports.Provider` over a connector that comes and goes.

    `start` opens the connector in the background, `close` ends it. `changes` counts how often each list
    may have changed. Until it was opened once it is taken
    to be as `ledger` says, else to have all kinds of entries; lists are empty.
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
        ledger: Ledger = NO_LEDGER,
    ) -> None:
        self.transport = ""
        self.sandbox = ""
        self.changes: dict[Kind, int] = dict.fromkeys(Kind, 0)
        self._name = name
        self._open = open_upstream
        self._announce = announce
        self._supervisor = supervisor
        self._limits = limits
        self._now = now
        self._breaker = Breaker(now, failures=limits.failures)
        self._bulkhead = Bulkhead(name, limits.calls, limits.waiting)
        self._facts = ledger.known or _NOTHING_KNOWN
        self._keep_facts = ledger.keep
        self._count = ledger.count or uncounted
        self._held: Held | None = None
        self._opening: asyncio.Task[None] | None = None
        self._opening_began_s = 0.0
        self._watching: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._pauses = Pauses(limits.probe_s)
        self._alarm = asyncio.Event()
        self.subscriptions = Subscriptions()
        self._heard_s = now()
        self._opened = 0
        self._error: WaygateError | None = None
        self._latency_s: float | None = None
        self._is_closed = False
        self._kept: OrderedDict[ListKey, Kept] = OrderedDict()
        self._reading: dict[ListKey, Reading] = {}
        self._versions = 0

    # --- the Provider port

    @property
    def name(self) -> str:
        """See Provider."""
        return self._name

    @property
    def features(self) -> Features:
        """See Provider."""
        return self._facts.features

    @property
    def instructions(self) -> str | None:
        """See Provider."""
        return self._facts.instructions

    @property
    def is_up(self) -> bool:
        """Tell whether there is a way to it now."""
        return self._held is not None and self._breaker.state != "open"

    @property
    def is_known(self) -> bool:
        """Tell whether it was opened once, by us or before: what it can do is no guess then."""
        return self._facts is not _NOTHING_KNOWN

    async def call(self, call: Call) -> Outcome:
        """See Provider. An upstream that is left alone fails at once, without being asked."""
        result: RequestResult = "refused"
        if call.method == "resources/unsubscribe":
            self.subscriptions.take_back(call)
        bulkhead = self._bulkhead
        try:
            if not bulkhead.take():
                await bulkhead.wait(call.principal.id)
            try:
                if not self._breaker.admit():
                    raise self._left_alone()
                began_s = self._now()
                try:
                    held, check = self._held, None
                    if held is None or (
                        call.gate is not None and (check := call.gate(call)) is not None
                    ):
                        held = await self._past_gate(call, check)
                    held.users += 1
                    try:
                        outcome = await held.upstream.call(call)
                    finally:
                        held.users -= 1
                        if held.is_given_up:
                            self._close_unused(held)
                except BaseException as exc:
                    result = self._note_end(exc, call, began_s)
                    raise
            finally:
                bulkhead.leave()
            result = "ok"
            self._note_success(began_s)
            if call.method == "resources/subscribe":
                self.subscriptions.note(call)
            return outcome
        finally:
            self._count(result)

    async def listing(self, kind: Kind, viewer: Viewer) -> Listing:
        """See Provider. Never raises for what the upstream does.

        A list that cannot be had in time is shown as last read, or empty; its change is announced
        when it is there.
        """
        key = list_key(kind, viewer)
        kept = before = self._kept.get(key)
        is_due = kept is None or kept.fresh_until_s <= self._now()
        if is_due:
            await self._refresh(key, viewer)
            kept = self._kept.get(key)
        now_s = self._now()
        if kept is None or now_s - kept.read_at_s > self._limits.stale_s:
            return Listing((), 0, _RETRY_TTL_MS, "private", "missing")
        left_ms = max(int((kept.fresh_until_s - now_s) * 1000), _RETRY_TTL_MS)
        is_old = kept.is_outdated or (is_due and kept is before and not self._is_in_time(key))
        condition: Condition = "kept" if is_old else "current"
        return msgspec.structs.replace(kept.listing, ttl_ms=left_ms, condition=condition)

    def _is_in_time(self, key: ListKey) -> bool:
        """Tell whether a list is being read and may still take a while: then its copy is no old one."""
        reading = self._reading.get(key)
        return reading is not None and self._now() < reading.began_s + self._limits.list_wait_s

    async def refresh(self, kind: Kind, viewer: Viewer) -> None:
        """See Refreshable."""
        key = list_key(kind, viewer)
        upstream = None if self._held is None else self._held.upstream
        if isinstance(upstream, Refreshable):
            await upstream.refresh(kind, viewer)
        if (kept := self._kept.get(key)) is not None:
            kept.fresh_until_s = 0.0
        await self._refresh(key, viewer)

    def forget_session(self, session_id: str) -> None:
        """End what was opened upstream for a session at our door that is over."""
        self.subscriptions.forget_session(session_id)
        if self._held is not None:
            self._held.upstream.forget_session(session_id)

    def tell_roots_changed(self, session_id: str) -> None:
        """Tell what was opened upstream for a session at our door that its client's roots changed."""
        if self._held is not None:
            self._held.upstream.tell_roots_changed(session_id)

    @asynccontextmanager
    async def tell_of_tasks(
        self, ids: tuple[str, ...], on_task: Callable[[bytes], None], on_end: Callable[[], None]
    ) -> AsyncIterator[frozenset[str]]:
        """See TaskTeller. The connector is held meanwhile, as by a call."""
        held = await self._ready()
        with self._using(held):
            async with held.upstream.tell_of_tasks(ids, on_task, on_end) as agreed:
                yield agreed

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
            eras=self._facts.eras if upstream is None else upstream.eras,
            revision=self._facts.revision if upstream is None else upstream.revision,
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
        if self._error is not None:
            return "failing"
        if self._held is not None:
            return "ready"
        return "new" if self.opening is None else "opening"

    # --- opening and closing

    def start(self) -> None:
        """Begin to open the connector and to look after it, waiting for nothing."""
        self._begin_opening()
        self._watching = self._supervisor.start(self._look_after(), name=f"watch:{self._name}")

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
        tasks = [reading.task for reading in self._reading.values()]
        own = (self._opening, self._watching, self._renewing)
        tasks += [task for task in own if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=10)
        held, self._held = self._held, None
        if held is not None:
            self._take_facts(held.upstream)
            await held.stack.aclose()

    def _begin_opening(self) -> asyncio.Task[None]:
        """Open in a task of its own: a caller that goes away takes nothing from the others."""
        if self._opening is None or self._opening.done():
            self._opening = self._supervisor.start(self._open_once(), name=f"open:{self._name}")
            self._opening_began_s = self._now()
        return self._opening

    async def _open_once(self) -> None:
        """Open the connector, or note why not."""
        async with AsyncExitStack() as stack:
            try:
                upstream = await stack.enter_async_context(self._open(self._hear))
            except WaygateError as exc:
                if self._error is None or str(self._error) != str(exc):
                    _log.warning("%s: cannot be opened: %s", self._name, clipped(str(exc)))
                let_go(exc)
                self._error = exc
                return
            self._take_facts(upstream)
            self._held = Held(upstream, stack.pop_all())
            self._opened += 1
            self._error = None
        self._heard_s = self._now()
        self._announce_all()
        if self.subscriptions:
            renewing = self.subscriptions.renew(self._name, self._call, self._announce, self._now())
            self._renewing = self._supervisor.start(renewing, name=f"renew:{self._name}")

    def _take_facts(self, upstream: Connector) -> None:
        """Take note of what the upstream can do, and tell whoever keeps that."""
        facts = Facts(upstream.features, upstream.instructions, upstream.eras, upstream.revision)
        if facts != self._facts:
            self._facts = facts
            if self._keep_facts is not None:
                self._keep_facts(facts)

    async def _ready(self) -> Held:
        """Give the open connector.

        Raises:
            LeftAloneError: it broke off of late, and is not opened again yet.
            UpstreamUnavailableError: it cannot be opened.
        """
        if self._held is None and not self._is_closed:
            await asyncio.wait({self._begin_opening()})
        if self._held is None:
            text = "is closed" if self._error is None else str(self._error)
            if isinstance(self._error, LeftAloneError):
                raise LeftAloneError(self._name, text) from self._error
            raise UpstreamUnavailableError(
                self._name, text, safe_message=f"The upstream server {self._name} is not available."
            ) from self._error
        return self._held

    def _give_up(self) -> None:
        """Let go of a connector that fails, so that the next one finds out anew what it meets."""
        held, self._held = self._held, None
        if held is not None:
            self._take_facts(held.upstream)
            held.is_given_up = True
            self._close_unused(held)

    def _close_unused(self, held: Held) -> None:
        """Close a connector that was given up, once nobody uses it."""
        if held.is_given_up and not held.users and not self._is_closed:
            self._supervisor.start(held.close(), name=f"close:{self._name}")

    # --- calls

    async def _call(self, call: Call) -> Outcome:
        """Call past the breaker and the bulkhead: of work of our own."""
        held = await self._past_gate(call)
        with self._using(held):
            return await held.upstream.call(call)

    async def _past_gate(self, call: Call, check: Awaitable[None] | None = None) -> Held:
        """Give the open connector once the gate lets the call pass; `check` is what it gave already."""
        if check is not None:
            await check
        held = self._held or await self._ready()
        while call.gate is not None and (check := call.gate(call)) is not None:
            await check
            held = self._held or await self._ready()
        return held

    @contextmanager
    def _using(self, held: Held) -> Iterator[None]:
        """Count somebody who uses a connector; given up, it is closed after the last one."""
        held.users += 1
        try:
            yield
        finally:
            held.users -= 1
            self._close_unused(held)

    def _left_alone(self) -> LeftAloneError:
        text = f"is left alone for {self._breaker.wait_s:.1f} s: {self._error}"
        return LeftAloneError(self._name, text)

    def _note_end(self, exc: BaseException, call: Call, began_s: float) -> RequestResult:
        """Take note of a call that did not end with a result: what does that say of the upstream?"""
        if isinstance(exc, LeftAloneError):
            self._note_unasked(exc)
            return result_of(exc)
        if isinstance(exc, UpstreamError):
            self._note_failure(exc)
            return result_of(exc)
        if isinstance(exc, asyncio.CancelledError) and self._now() >= call.deadline_s:
            # Cancelled by its deadline: that says as much as a timeout.
            self._note_failure(UpstreamTimeoutError(self._name, "did not answer in time"))
            return "timeout"
        if isinstance(exc, WaygateError) and not isinstance(exc, LimitError):
            self._note_success(began_s)  # an answer, though not one the client hoped for
            return "error"
        self._breaker.note_nothing()
        if isinstance(exc, TooLargeError):  # what one caller asked for must not shut it for others
            return "failed"
        if isinstance(exc, LimitError):  # a bound of ours: it was not asked
            return "refused"
        return "cancelled" if isinstance(exc, asyncio.CancelledError) else "failed"

    def _note_failure(self, exc: WaygateError) -> None:
        if self._error is None:
            self._alarm.set()
        self._error = exc
        if self._breaker.note_failure():
            self._give_up()

    def _note_unasked(self, exc: LeftAloneError) -> None:
        """Take note that it is not opened again yet: the calls that find this wait for nothing longer."""
        if self._error is None:
            self._alarm.set()
            self._error = exc
        self._breaker.note_nothing()

    def _note_success(self, began_s: float) -> None:
        now_s = self._now()
        if self._error is None and self._breaker.is_clear:
            self._heard_s = now_s  # as nearly always: it is well, and was
        else:
            self._note_answer()
        took_s = now_s - began_s
        old = self._latency_s
        self._latency_s = took_s if old is None else 0.8 * old + 0.2 * took_s

    def _note_answer(self) -> None:
        """Take note that it is there; after a time in which it was left alone, that is news."""
        was_down = self._breaker.state != "closed"
        self._breaker.note_success()
        self._error = None
        self._heard_s = self._now()
        if was_down:
            _log.info("%s: answers again", self._name)
            self._announce_all()

    # --- looking after one that nobody calls

    async def _look_after(self) -> None:
        """Ask from time to time whether it is there, while nobody else finds out."""
        while True:
            pause_s = self._pauses.next_s(self._breaker.wait_s, is_well=self._is_well)
            try:
                async with asyncio.timeout(pause_s):
                    await self._alarm.wait()
            except TimeoutError:
                pass
            else:  # it fails as of now: that is looked at sooner
                self._alarm.clear()
                continue
            was_heard = self._is_well and self._now() - self._heard_s < self._limits.probe_s
            if not was_heard and not self._bulkhead.in_flight:
                await self.probe()

    @property
    def _is_well(self) -> bool:
        return self._held is not None and self._error is None

    async def probe(self) -> None:
        """Ask whether it is there, opening it where it is not open; nothing while it is left alone."""
        if not self._breaker.admit():
            return
        try:
            held = await self._ready()
            with self._using(held):
                async with asyncio.timeout(self._limits.probe_timeout_s):
                    await held.upstream.probe()
        except TimeoutError:
            self._note_failure(UpstreamTimeoutError(self._name, "did not answer a probe in time"))
        except LeftAloneError as exc:
            self._note_unasked(exc)
        except (UpstreamError, TooLargeError) as exc:
            self._note_failure(exc)
        except WaygateError as exc:  # a bound of ours
            _log.debug("%s: not probed: %s", self._name, exc)
            self._breaker.note_nothing()
        except BaseException:
            self._breaker.note_nothing()
            raise
        else:
            self._note_answer()

    # --- lists

    def _announce_all(self) -> None:
        """Let everybody ask for every list anew."""
        for reading in self._reading.values():
            reading.began_s = self._now()  # they can begin only now
        for kind in Kind:
            self._hear(ListChanged(self._name, kind))

    def _hear(self, event: Event) -> None:
        """Take a changed list for stale, and pass the news on."""
        if isinstance(event, ListChanged):
            self.changes[event.kind] += 1
            for key, kept in self._kept.items():
                if key[0] is event.kind:
                    kept.fresh_until_s = 0.0
        self._announce(event)

    async def _refresh(self, key: ListKey, viewer: Viewer) -> None:
        """Have a list read, by a task that outlives an impatient caller, and wait for it a while."""
        if self._is_closed or self._breaker.state == "open":
            return
        reading = self._reading.get(key)
        if reading is None:
            task = self._supervisor.start(self._read(key, viewer), name=f"list:{self._name}")
            reading = self._reading[key] = Reading(task, self._now())
            task.add_done_callback(lambda _: self._end_reading(key))
        # The time is the reading's, or the opening's, not the reader's: one that hangs is waited for
        # once, and not by each principal in turn.
        is_opening = self._held is None and self.opening is not None
        began_s = self._opening_began_s if is_opening else reading.began_s
        kept = self._kept.get(key)
        has_copy = kept is not None and kept.fresh_until_s > 0.0  # of which no change was announced
        wait_s = self._limits.list_wait_s
        wait_s = min(wait_s, self._limits.copy_wait_s) if has_copy else wait_s
        left_s = began_s + wait_s - self._now()
        try:
            if left_s > 0:
                await asyncio.wait({reading.task}, timeout=left_s)
        finally:
            was_left, reading.is_left = reading.is_left, not reading.task.done()
        if reading.is_left and not was_left and self.opening is None:
            _log.warning("%s: its list of %ss takes long", self._name, key[0].value)

    def _end_reading(self, key: ListKey) -> None:
        """Tell of a list that somebody went on without."""
        reading = self._reading.pop(key)
        if reading.is_left and not self._is_closed:
            self._announce(ListChanged(self._name, key[0]))

    async def _read(self, key: ListKey, viewer: Viewer) -> None:
        """Read a list; where that fails, what is kept stays."""
        began_s = self._now()
        try:
            held = await self._ready()
            changes = self.changes[key[0]]
            with self._using(held):
                listing = await held.upstream.listing(key[0], viewer)
        except WaygateError as exc:
            let_go(exc)
            self._count(result_of(exc))
            if isinstance(exc, LeftAloneError):
                self._note_unasked(exc)
            elif isinstance(exc, UpstreamError | TooLargeError):
                self._note_failure(exc)
            else:  # a bound of ours
                _log.debug("%s: its list of %ss: %s", self._name, key[0].value, exc)
            kept = self._kept.get(key)
            if kept is not None:
                kept.fresh_until_s = self._now() + _RETRY_TTL_MS / 1000
                kept.is_outdated = True
            return
        self._count("ok")
        self._note_success(began_s)
        self._keep(key, held, msgspec.structs.replace(listing, changes=changes))

    def _keep(self, key: ListKey, held: Held, listing: Listing) -> None:
        """Keep a list under a version of our own: a new connector counts from one again."""
        source = (id(held), listing.version)
        old = self._kept.get(key)
        if old is None or old.source != source:
            self._versions += 1
            version = self._versions
        else:
            version = old.listing.version
        now_s = self._now()
        is_outrun = listing.changes != self.changes[key[0]]  # it changed while it was read
        fresh_s = 0.0 if is_outrun else min(listing.ttl_ms / 1000, _FRESH_S)
        listing = msgspec.structs.replace(listing, version=version)
        self._kept[key] = Kept(listing, source, now_s + fresh_s, now_s)
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
