"""Several server processes on one listening socket, and the parent that looks after them.

Knows processes: started anew (not forked from a process that has threads), replaced when they die,
told to reload, ended gently. Refuses to serve anything itself. Each worker builds its own house from
the same settings and the same secret key. What a worker holds in memory (open streams of legacy
sessions, parked calls) is its own; the others find it by the slot its ids name, at a socket that says by
being there whether anybody has the slot (`runtime/peers.py`). The processes of stdio upstreams are held by
one more process, the host, which is started when the first worker knocks at its socket.

    starting ──ready──▶ serving ──dies──▶ starting again, after a pause that grows
        └──fails the first time──▶ all end, with the reason
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

from waygate_mcp.auth.bootstrap import open_bootstrap_key
from waygate_mcp.auth.key_text import KeyHash
from waygate_mcp.config.load import find_document, load_document
from waygate_mcp.config.secrets import load_or_create_secret_key, prepare_private_folder
from waygate_mcp.config.settings import Settings
from waygate_mcp.errors import ConfigError, WaygateError
from waygate_mcp.gateway.places import Place
from waygate_mcp.net.unix import listen_at, prepare_socket_folder
from waygate_mcp.policy.shared_counters import FILE_NAME as COUNTERS_FILE
from waygate_mcp.runtime.host import run_host
from waygate_mcp.runtime.peers import HOST_SOCKET, Workplace
from waygate_mcp.telemetry.logs import get_logger, open_logs
from waygate_mcp.telemetry.metrics import clear_metrics
from waygate_mcp.web.server import Started, loop_factory, serve

__all__ = ["serve_with_workers"]

TICK_S = 0.2
STARTED_WELL_S = 10.0
MAX_PAUSE_S = 30.0
CLOSE_S = 10.0
"""Seconds workers may take beyond their drain before they are killed."""

SOCKETS = "workers"
"""The folder of the workers' sockets, beneath that of what lives as long as the server."""

_READY = "ready"
_log = get_logger("web.workers")


@dataclass(slots=True)
class _Worker:
    """One process and what it said."""

    process: SpawnProcess
    words: Connection
    started_s: float
    is_ready: bool = False
    failure: str | None = None


@dataclass(slots=True)
class _Slot:
    """The place of one process, whichever fills it now. `socket` is where others find it."""

    spawn: Callable[[], _Worker]
    socket: Path | None = None
    worker: _Worker | None = None
    pause_s: float = 0.0
    due_s: float = 0.0


@dataclass(slots=True)
class _Wishes:
    """What signals asked for."""

    stops: int = 0
    reloads: int = 0
    seen: list[int] = field(default_factory=list)


def serve_with_workers(
    settings: Settings,
    listener: socket.socket,
    *,
    watch: bool = False,
    on_started: Callable[[Started], None] | None = None,
) -> None:
    """Run `settings.workers` processes until a signal ends them.

    Raises:
        WaygateError: the configuration is not valid, or the workers could not start.
    """
    started = _prepare(settings, listener)
    with open_logs(settings), _signals() as wishes:
        listener.listen(2048)
        pool = _Pool(settings, listener, watch, wishes)
        try:
            if pool.start() and on_started is not None:
                on_started(started)
            pool.run()
        finally:
            pool.stop()


def _prepare(settings: Settings, listener: socket.socket) -> Started:
    """Do once what the workers would race for, and find faults before there are processes."""
    path = find_document(settings)
    document = load_document(path, settings)
    prepare_private_folder(settings.data_dir, path="WAYGATE_DATA_DIR")
    key_hash = KeyHash(load_or_create_secret_key(settings))
    key = open_bootstrap_key(settings, key_hash) if document.auth.takes_keys else None
    try:
        clear_metrics(settings.run_dir)
        (settings.run_dir / COUNTERS_FILE).unlink(
            missing_ok=True
        )  # of a clock that began anew, maybe
    except OSError as exc:
        raise ConfigError(
            f"cannot write {settings.run_dir}: {exc.strerror}", path="WAYGATE_DATA_DIR"
        ) from exc
    host, port = listener.getsockname()[:2]
    return Started(host, port, document, path, key)


@contextlib.contextmanager
def _signals() -> Iterator[_Wishes]:
    wishes = _Wishes()

    def stop(_sig: int, _frame: FrameType | None) -> None:
        wishes.stops += 1

    def reload(_sig: int, _frame: FrameType | None) -> None:
        wishes.reloads += 1

    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload}
    before = {sig: signal.signal(sig, handler) for sig, handler in handlers.items()}
    try:
        yield wishes
    finally:
        for sig, handler in before.items():
            signal.signal(sig, handler)


class _Pool:
    """The workers of one parent."""

    def __init__(
        self, settings: Settings, listener: socket.socket, watch: bool, wishes: _Wishes
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._watch = watch
        self._wishes = wishes
        self._context = multiprocessing.get_context("spawn")
        folder = settings.run_dir / SOCKETS
        prepare_socket_folder(folder)
        host_key = secrets.token_bytes(32)
        places = [
            Workplace(Place(slot, settings.workers), folder, host_key)
            for slot in range(settings.workers)
        ]
        self._slots = [
            _Slot(partial(self._spawn_worker, place), place.socket_of(place.place.slot))
            for place in places
        ]
        self._door_of_host = listen_at(folder / HOST_SOCKET)
        self._host = _Slot(partial(self._spawn_host, host_key))
        self._drain_s = load_document(find_document(settings), settings).limits.drain_s

    def start(self) -> bool:
        """Start all and wait until they serve; False where a signal came first.

        Raises:
            ConfigError: one of them could not start, and says why.
        """
        for slot in self._slots:
            slot.worker = slot.spawn()
        while not self._wishes.stops:
            self._listen()
            self._look_after_host()
            workers = [slot.worker for slot in self._slots if slot.worker is not None]
            for worker in workers:
                if worker.failure is not None or not worker.process.is_alive():
                    raise ConfigError(worker.failure or "a worker ended at start; see the log")
            if all(worker.is_ready for worker in workers):
                return True
        return False

    def run(self) -> None:
        """Look after them until a signal asks for the end."""
        while not self._wishes.stops:
            self._listen()
            if self._wishes.reloads:
                self._wishes.reloads = 0
                self._signal(signal.SIGHUP, self._slots)
            for slot in self._slots:
                self._look_after(slot)
            self._look_after_host()

    def stop(self) -> None:
        """End all: gently, at once on a second signal, and by force what does not end.

        Calls that are awaited need the host, so it ends after the workers.
        """
        self._end(self._slots, self._drain_s + CLOSE_S)
        self._end([self._host], CLOSE_S)
        self._door_of_host.close()

    def _end(self, slots: Sequence[_Slot], within_s: float) -> None:
        self._signal(signal.SIGTERM, slots, only_ready=False)
        deadline = time.monotonic() + within_s
        is_pressed = False
        while (alive := _alive(slots)) and time.monotonic() < deadline:
            if self._wishes.stops > 1 and not is_pressed:
                is_pressed = True
                deadline = time.monotonic() + CLOSE_S
                self._signal(signal.SIGTERM, slots, only_ready=False)
            wait([worker.process.sentinel for worker in alive], timeout=TICK_S)
        for worker in _alive(slots):
            _log.error("worker_killed", worker=worker.process.pid)
            worker.process.kill()
            worker.process.join(CLOSE_S)

    def _spawn_worker(self, workplace: Workplace) -> _Worker:
        arguments = (self._settings, self._listener, self._watch, workplace)
        return self._spawn(_work, "waygate-worker", arguments)

    def _spawn_host(self, key: bytes) -> _Worker:
        return self._spawn(_hold, "waygate-host", (self._settings, self._door_of_host, key))

    def _spawn(
        self, target: Callable[..., None], name: str, arguments: tuple[object, ...]
    ) -> _Worker:
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=target, args=(theirs, *arguments), name=name)
        process.start()
        theirs.close()
        return _Worker(process, ours, time.monotonic())

    def _listen(self) -> None:
        """Hear what workers say, for a moment."""
        by_pipe = {
            slot.worker.words: slot.worker
            for slot in (*self._slots, self._host)
            if slot.worker is not None and not slot.worker.words.closed
        }
        doors = [self._door_of_host] if self._may_start_host else []
        for pipe in wait([*by_pipe, *doors], timeout=TICK_S):
            if not isinstance(pipe, Connection):
                return  # somebody knocks
            worker = by_pipe[pipe]
            try:
                word = pipe.recv()
            except (EOFError, OSError):
                pipe.close()
                continue
            if word == _READY:
                worker.is_ready = True
            else:
                worker.failure = str(word)
        if not by_pipe and not doors:
            time.sleep(TICK_S)

    @property
    def _may_start_host(self) -> bool:
        return self._host.worker is None and time.monotonic() >= self._host.due_s

    def _look_after_host(self) -> None:
        """Start the host when it is wanted: a worker that knocks waits at its door meanwhile."""
        self._bury(self._host)
        if self._may_start_host and wait([self._door_of_host], timeout=0):
            self._fill(self._host)

    def _look_after(self, slot: _Slot) -> None:
        """Replace a process that died."""
        self._bury(slot)
        self._fill(slot)

    def _bury(self, slot: _Slot) -> None:
        """Bury a process that died; the next one comes ever later, where it dies soon after its start."""
        now = time.monotonic()
        worker = slot.worker
        if worker is not None:
            if worker.process.is_alive():
                return
            lived_s = now - worker.started_s
            slot.pause_s = (
                0.0 if lived_s > STARTED_WELL_S else min(MAX_PAUSE_S, 2 * slot.pause_s or 1.0)
            )
            slot.due_s = now + slot.pause_s
            slot.worker = None
            worker.words.close()
            worker.process.join()
            if slot.socket is not None:
                slot.socket.unlink(missing_ok=True)
            _log.error(
                "worker_died",
                worker=worker.process.pid,
                exit_code=worker.process.exitcode,
                failure=worker.failure,
                restart_in_s=slot.pause_s,
            )

    def _fill(self, slot: _Slot) -> None:
        """Start a process where none is, once its time has come."""
        if slot.worker is None and time.monotonic() >= slot.due_s:
            slot.worker = slot.spawn()

    def _signal(
        self, sig: signal.Signals, slots: Sequence[_Slot], *, only_ready: bool = True
    ) -> None:
        for worker in _alive(slots):
            # A process that has just begun knows no SIGHUP yet, and would die of it.
            if (worker.is_ready or not only_ready) and worker.process.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.process.pid, sig)


def _alive(slots: Sequence[_Slot]) -> list[_Worker]:
    workers = [slot.worker for slot in slots if slot.worker is not None]
    return [worker for worker in workers if worker.process.is_alive()]


def _begin(words: Connection) -> Callable[[], None]:
    """Begin a child's life; what is given is called once it works, in its loop.

    A terminal's Ctrl+C reaches every process; the parent alone decides what follows. A child ends when it
    is told to, or when the parent is gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def ready() -> None:
        words.send(_READY)
        words.close()
        parent = multiprocessing.parent_process()
        if parent is not None:
            asyncio.get_running_loop().add_reader(
                parent.sentinel, os.kill, os.getpid(), signal.SIGTERM
            )

    return ready


def _work(
    words: Connection,
    settings: Settings,
    listener: socket.socket,
    watch: bool,
    workplace: Workplace,
) -> None:
    """Be a worker."""
    ready = _begin(words)
    try:
        serve(settings, listener, watch=watch, on_started=lambda _: ready(), workplace=workplace)
    except WaygateError as exc:
        words.send(str(exc))
        raise SystemExit(2) from None


def _hold(words: Connection, settings: Settings, listener: socket.socket, key: bytes) -> None:
    """Be the host of processes."""
    ready = _begin(words)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what it holds follows the workers
    with open_logs(settings) as logs, asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run_host(settings, listener, key, ready, logs.redactor.remember))
