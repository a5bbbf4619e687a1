"""The house: what lives as long as the process, and the generation that serves.

Knows the order in which things open, and that they close the other way round. Refuses to know any
door: HTTP and standard input are given a house. Nothing here is global; a process may hold two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from waygate_mcp import __version__
from waygate_mcp.auth.bootstrap import BootstrapKey, open_bootstrap_key
from waygate_mcp.auth.jwks import KeySets
from waygate_mcp.auth.key_book import KeyBook
from waygate_mcp.auth.key_text import KeyHash
from waygate_mcp.config.load import find_document
from waygate_mcp.config.secrets import (
    load_or_create_secret_key,
    prepare_private_folder,
)
from waygate_mcp.config.settings import Settings
from waygate_mcp.errors import InterruptedCallError, LimitError, StorageError
from waygate_mcp.gateway.listening import Subscriber, unsubscribe
from waygate_mcp.gateway.live import LiveState
from waygate_mcp.gateway.name_file import NameFile
from waygate_mcp.gateway.name_table import NameTable
from waygate_mcp.gateway.places import ALONE
from waygate_mcp.gateway.sessions import Session
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import Event, ListChanged
from waygate_mcp.model.principal import Principal
from waygate_mcp.policy.pins import Pins
from waygate_mcp.protocol.seal import KeyRing
from waygate_mcp.runtime.audit import AuditRoom
from waygate_mcp.runtime.builders import MakeGuard, apply_to_live
from waygate_mcp.runtime.clock import Clock
from waygate_mcp.runtime.counters import open_counters, redis_passwords
from waygate_mcp.runtime.document_record import DocumentRecord
from waygate_mcp.runtime.facts import FILE_NAME, FactFile
from waygate_mcp.runtime.foundation import Foundation
from waygate_mcp.runtime.generation import Generation
from waygate_mcp.runtime.host import dial_host
from waygate_mcp.runtime.opening import open_database
from waygate_mcp.runtime.peers import Peers, Workplace
from waygate_mcp.runtime.pulse import Pulse
from waygate_mcp.runtime.records import Records
from waygate_mcp.runtime.reload import Reloader, ReloadReport
from waygate_mcp.runtime.secrets import SecretHouse, open_store
from waygate_mcp.runtime.tasks import TaskSupervisor
from waygate_mcp.runtime.upstreams import UpstreamHouse
from waygate_mcp.storage.api_keys import ApiKeys
from waygate_mcp.storage.config_history import ConfigHistory
from waygate_mcp.storage.engine import Database
from waygate_mcp.storage.tool_pins import ToolPins
from waygate_mcp.storage.writer import BackgroundWriter
from waygate_mcp.telemetry.logs import Logs, RequestLog, get_logger
from waygate_mcp.telemetry.metrics import Metrics, open_metrics
from waygate_mcp.telemetry.timestamps import Stamp
from waygate_mcp.upstreams.hosted import hosted_by

__all__ = ["House"]

Guard = TypeVar("Guard")

_LAST_LOOK_S = 5.0
NAMES_FILE = "names.json"
"""In the data folder: whose the public names are."""

_log = get_logger("runtime.house")


class House(Generic[Guard]):
    """Opens with `async with`; from then on `current()` gives the generation in force.

    `logs` is open before the house is and outlives it. `make_guard` makes what the doors ask of
    every request; see `builders.MakeGuard`. `workplace` is given to one of several workers: `peers` are the
    others, None where this process is alone. All attributes but `settings`, `clock`, `is_draining` and `on_dismiss`
    exist while the house is open. Doors put what ends the calls of a principal whose credential is good no
    more into `on_dismiss`.
    """

    foundation: Foundation
    live: LiveState
    metrics: Metrics
    supervisor: TaskSupervisor
    pulse: Pulse
    reloader: Reloader[Guard]
    records: Records
    document_record: DocumentRecord

    def __init__(
        self,
        settings: Settings,
        logs: Logs,
        make_guard: MakeGuard[Guard],
        *,
        clock: Clock | None = None,
        workplace: Workplace | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock or Clock()
        self.logs = logs
        self.request_log: RequestLog = logs.requests
        self.stamp = Stamp(self.clock.now)
        self.document_path: Path | None = None
        self.is_draining = False
        self.bootstrap: BootstrapKey | None = None
        self.started_s = 0.0
        self.peers: Peers | None = None
        self._keeps_history = False
        self.on_dismiss: list[Callable[[Principal], None]] = []
        self._workplace = workplace
        self._make_guard = make_guard
        self._current: Generation[Guard] | None = None
        self._stack = AsyncExitStack()

    def current(self) -> Generation[Guard]:
        """Give the generation in force. Kept by a call, it stays whole to the call's end.

        Raises:
            InterruptedCallError: the house is not open.
        """
        if self._current is None:
            raise InterruptedCallError("the house is not open")
        return self._current

    @property
    def is_ready(self) -> bool:
        """Tell whether new work is welcome: open, and not about to stop."""
        return self._current is not None and not self.is_draining

    @property
    def uptime_s(self) -> float:
        """Seconds since the house was opened."""
        return self.clock.monotonic() - self.started_s

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._open(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.is_draining = True
        await self._stack.aclose()
        self._current = None

    async def reload(self, reason: str) -> ReloadReport:
        """Read the document again and put it in force, all or nothing. Never raises for its faults."""
        return await self.reloader.reload(reason)

    def request_reload(self, reason: str) -> None:
        """Start a reload soon, from a signal or a watcher; requests that meet one are joined."""
        self.reloader.request(reason)

    def watch_document(self) -> None:
        """Reload whenever the document's file changes, until the house closes."""
        self.reloader.watch()

    def keep_document_history(self) -> None:
        """Note from now on which documents are in force; for servers, not for whoever opens a house for a moment."""
        self._keeps_history = True
        self.document_record.look("start")

    async def drain(self, timeout_s: float | None = None) -> bool:
        """Stop gently: not ready, listeners ended, parked calls interrupted, calls awaited.

        Gives True where all calls ended within `timeout_s` (`limits.drain_s` by default).
        """
        self.is_draining = True
        self.live.drain()
        return await self.reloader.drain(timeout_s)

    def bootstrap_key(self) -> BootstrapKey:
        """Give the bootstrap key, opened when it is first wanted.

        Raises:
            ConfigError: see `open_bootstrap_key`; or one would have to be made while serving, when
                nobody sees it.
        """
        if self.bootstrap is None:
            found = open_bootstrap_key(
                self.settings, self.foundation.key_hash, may_make=self._current is None
            )
            if found.problem is not None:
                _log.warning("bootstrap_key_not_kept", problem=found.problem)
            if found.shown_once is not None:
                self.logs.redactor.remember(found.shown_once)
            self.bootstrap = found
        return self.bootstrap

    async def _open(self, stack: AsyncExitStack) -> None:
        settings = self.settings
        self.started_s = self.clock.monotonic()
        prepare_private_folder(settings.data_dir, path="WAYGATE_DATA_DIR")
        master = load_or_create_secret_key(settings)
        for secret in (master.decode("utf-8", "replace"), *redis_passwords(settings)):
            self.logs.redactor.remember(secret)
        self.metrics = stack.enter_context(_metrics(settings))
        # Before the supervisor: its tasks end before what they read and write is closed.
        database = await stack.enter_async_context(open_database(settings))
        self.supervisor = await stack.enter_async_context(TaskSupervisor())
        writer = await stack.enter_async_context(
            BackgroundWriter(database, self.supervisor, self.metrics.count_record_dropped)
        )
        ring = KeyRing.from_master(master)
        workplace = self._workplace
        place = ALONE if workplace is None else workplace.place
        names = NameTable(NameFile(settings.data_dir / NAMES_FILE))
        await names.load()
        self.live = LiveState(ring, self.clock.now, self.clock.monotonic, names, place)
        stack.callback(self.live.close)
        if workplace is not None:
            self.peers = await stack.enter_async_context(
                Peers(workplace, ring, self.supervisor, self.live, self._hear)
            )
        facts = FactFile(settings.data_dir / FILE_NAME, self.supervisor, self.clock.now)
        await facts.load()
        stack.push_async_callback(facts.close)
        upstreams = await stack.enter_async_context(self._upstreams(facts))
        audit = AuditRoom(settings, master, self.logs, self.clock, self.supervisor, database)
        stack.push_async_callback(audit.close)
        counters = await open_counters(
            stack,
            settings,
            master,
            self.clock,
            self.metrics,
            self.supervisor,
            is_alone=workplace is None,
        )
        self.foundation = Foundation(
            settings,
            self.clock,
            self.logs,
            self.metrics,
            self.supervisor,
            self.live,
            KeyHash(master),
            upstreams,
            database,
            await self._open_pins(stack, database),
            writer,
            await self._open_keys(stack, database),
            self._secrets(database),
            audit,
            counters,
            self.peers,
            KeySets(self.supervisor, self.clock.monotonic),
        )
        await self._begin(stack)

    async def _begin(self, stack: AsyncExitStack) -> None:
        """Put the first generation in force, and start what goes on beside it."""
        settings, upstreams = self.settings, self.foundation.upstreams
        self.live.sessions.on_end = self._let_go
        self.live.sessions.on_roots_changed = lambda one: upstreams.tell_roots_changed(one.id)
        self.document_path = find_document(settings)
        self.reloader = Reloader(
            self.foundation,
            self.document_path,
            self._make_guard,
            self.bootstrap_key,
            self._put_in_force,
        )
        stack.push_async_callback(self.reloader.close)
        await self.reloader.first()
        self.supervisor.start(
            self.foundation.secrets.watch(self.reloader.request), name="watch-secrets"
        )
        self.records = Records(self.foundation)
        stack.callback(self.records.close)
        self.records.open()
        self.document_record = DocumentRecord(
            ConfigHistory(self.foundation.database, self.clock.now),
            self.supervisor,
            lambda: self.reloader.text,
        )
        stack.push_async_callback(self.document_record.close)
        self.reloader.on_report = self._tell_of_reload
        if self.peers is not None:
            self.peers.on_document = partial(self.reloader.request, "another worker's admin API")
        self.pulse = Pulse(self.clock.monotonic)
        self.supervisor.start(self.pulse.run(), name="pulse")
        self._follow()

    async def _open_pins(self, stack: AsyncExitStack, database: Database) -> Pins:
        """Read which definitions of upstreams are trusted, and keep up with it."""
        store = ToolPins(database, self.clock.now)
        pins = Pins(store, self.supervisor, monotonic=self.clock.monotonic)
        pins.on_change = self._tell_of_pins
        await pins.open()
        pins.follow()
        stack.push_async_callback(pins.close)
        return pins

    def _tell_of_pins(self, upstream: str, kinds: frozenset[Kind]) -> None:
        """Let catalogs and clients know that lists look different, since something is held back or not."""
        for kind in kinds:
            self._hear(ListChanged(upstream, kind))

    def _secrets(self, database: Database) -> SecretHouse:
        return SecretHouse(
            self.settings.data_dir,
            open_store(self.settings, database, self.clock.now),
            remember=self.logs.redactor.remember,
            monotonic=self.clock.monotonic,
        )

    def _upstreams(self, facts: FactFile) -> UpstreamHouse:
        """Make the upstreams' house; of several workers, none holds the processes of stdio upstreams."""
        workplace, hosted = self._workplace, None
        if workplace is not None:
            dial, secrets_in = dial_host(workplace.host_socket), self.logs.redactor.found_in
            hosted = hosted_by(dial, workplace.host_key, secrets_in)
        return UpstreamHouse(
            self.supervisor,
            self.settings.run_dir / "children",
            (self.settings.data_dir,),
            facts=facts,
            count=self.metrics.count_upstream_request,
            hosted=hosted,
        )

    async def _open_keys(self, stack: AsyncExitStack, database: Database) -> KeyBook:
        """Read all keys, and follow their changes from then on."""

        def end(id_: str) -> None:
            principal = Principal(f"key:{id_}", "")
            for end_calls in self.on_dismiss:  # first: clients read why before their streams end
                end_calls(principal)
            self.live.dismiss(principal)

        keys = KeyBook(ApiKeys(database), self.clock.now, end)
        await keys.refresh()
        watching = self.supervisor.start(keys.watch(), name="keys")
        stack.push_async_callback(_end_keys, keys, watching)
        return keys

    def _put_in_force(self, generation: Generation[Guard]) -> None:
        self._current = generation
        apply_to_live(generation.document, generation.gateway, self.live)
        self.foundation.audit.follow(generation.document.audit)

    def _tell_of_reload(self, report: ReloadReport) -> None:
        self.records.tell_of_reload(report)
        if report.is_done and self._keeps_history:
            self.document_record.look(report.reason)

    def _hear(self, event: Event) -> None:
        """Take a change another worker tells of."""
        if self._current is not None:
            self._current.gateway.announce(event)

    def _let_go(self, session: Session) -> None:
        """Let workers and upstreams know that a session is over, without holding up whoever ends it."""
        if self.peers is not None and session.is_over:
            self.peers.tell_of_end(session.id, session.expires_at)
        with suppress(LimitError):  # the house closes, and with it every connection
            self.supervisor.start(self._end_upstream(session), name="session-over")

    async def _end_upstream(self, session: Session) -> None:
        if session.listener.uris and self._current is not None:
            subscriber = Subscriber.of_session(session)
            await unsubscribe(self._current.gateway, subscriber, tuple(session.listener.uris))
        # What the host of processes has for it is the end's to take, or the worker's it belongs to.
        lives_on = not (session.is_ours or session.is_over)
        self.foundation.upstreams.forget_session(session.id, lives_on=lives_on)

    def _follow(self) -> None:
        """Let the gauges read what they show."""
        live, metrics = self.live, self.metrics
        metrics.sessions.follow(lambda: len(live.sessions))
        metrics.parked_exchanges.follow(lambda: len(live.parking))
        metrics.config_generation.follow(lambda: self._current.number if self._current else 0)
        metrics.follow_upstreams(self._upstreams_up)
        metrics.follow_held(self._definitions_held)
        audit = self.foundation.audit
        metrics.audit_queue_depth.follow(lambda: audit.behind)
        metrics.audit_last_record_timestamp.follow(lambda: audit.trail.last_s)
        metrics.audit_write_failures.follow(lambda: audit.journal.failures)
        metrics.records_waiting.follow(lambda: len(self.foundation.writer))
        metrics.log_lines_dropped.follow(lambda: self.logs.writer.dropped)
        metrics.log_lines_lost.follow(lambda: self.logs.writer.lost)

    def _upstreams_up(self) -> dict[str, bool]:
        upstreams = {} if self._current is None else self._current.upstreams
        return {name: upstream.is_up for name, upstream in upstreams.items()}

    def _definitions_held(self) -> dict[str, int]:
        names = () if self._current is None else self._current.upstreams
        held = self.foundation.pins.held_counts()
        return {name: held.get(name, 0) for name in names}


async def _end_keys(keys: KeyBook, watching: asyncio.Task[None]) -> None:
    """Let the last look at the store end by itself: cut off, it would leave a connection behind."""
    keys.stop()
    await asyncio.wait([watching], timeout=_LAST_LOOK_S)
    with suppress(StorageError):  # when a key was last used is no reason not to stop
        await keys.keep_use()


def _metrics(settings: Settings) -> Any:
    return open_metrics(settings.run_dir, workers=settings.workers, version=__version__)
