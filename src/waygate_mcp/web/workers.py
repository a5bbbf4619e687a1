"""Several server processes on one listening socket, and the parent that looks after them.

Knows processes: started anew (not forked from a process that has threads), replaced when they die,
told to reload, ended gently. Refuses to serve anything itself. Each worker builds its own house from
the same settings and the same secret key. What a worker holds in memory is its own: open streams of
legacy sessions, parked calls and listeners are not known to the others in this version.

    starting ──ready──▶ serving ──dies──▶ starting again, after a pause that grows
        └──fails the first time──▶ all end, with the reason
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType

from waygate_mcp.auth.bootstrap import open_bootstrap_key
from waygate_mcp.auth.key_text import KeyHash
from waygate_mcp.config.load import find_document, load_document
from waygate_mcp.config.secrets import load_or_create_secret_key, prepare_private_folder
from waygate_mcp.config.settings import Settings
from waygate_mcp.errors import ConfigError, WaygateError
from waygate_mcp.telemetry.logs import get_logger, open_logs
from waygate_mcp.telemetry.metrics import clear_metrics
from waygate_mcp.web.server import Started, serve

__all__ = ["serve_with_workers"]

TICK_S = 0.2
STARTED_WELL_S = 10.0
MAX_PAUSE_S = 30.0
CLOSE_S = 10.0
"""Seconds workers may take beyond their drain before they are killed."""

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
    """The place of one worker, whichever process fills it now."""

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
    key = open_bootstrap_key(settings, key_hash) if document.auth.mode == "keys" else None
    try:
        clear_metrics(settings.run_dir)
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
        self._slots = [_Slot() for _ in range(settings.workers)]
        self._drain_s = load_document(find_document(settings), settings).limits.drain_s

    def start(self) -> bool:
        """Start all and wait until they serve; False where a signal came first.

        Raises:
            ConfigError: one of them could not start, and says why.
        """
        for slot in self._slots:
            slot.worker = self._spawn()
        while not self._wishes.stops:
            self._listen()
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
                self._signal(signal.SIGHUP)
            for slot in self._slots:
                self._look_after(slot)

    def stop(self) -> None:
        """End all: gently, at once on a second signal, and by force what does not end."""
        self._signal(signal.SIGTERM, only_ready=False)
        deadline = time.monotonic() + self._drain_s + CLOSE_S
        is_pressed = False
        while (alive := self._alive()) and time.monotonic() < deadline:
            if self._wishes.stops > 1 and not is_pressed:
                is_pressed = True
                deadline = time.monotonic() + CLOSE_S
                self._signal(signal.SIGTERM, only_ready=False)
            wait([worker.process.sentinel for worker in alive], timeout=TICK_S)
        for worker in self._alive():
            _log.error("worker_killed", worker=worker.process.pid)
            worker.process.kill()
            worker.process.join(CLOSE_S)

    def _spawn(self) -> _Worker:
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_work,
            args=(self._settings, self._listener, self._watch, theirs),
            name="waygate-worker",
        )
        process.start()
        theirs.close()
        return _Worker(process, ours, time.monotonic())

    def _listen(self) -> None:
        """Hear what workers say, for a moment."""
        by_pipe = {
            slot.worker.words: slot.worker
            for slot in self._slots
            if slot.worker is not None and not slot.worker.words.closed
        }
        for pipe in wait(list(by_pipe), timeout=TICK_S):
            assert isinstance(pipe, Connection)
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
        if not by_pipe:
            time.sleep(TICK_S)

    def _look_after(self, slot: _Slot) -> None:
        """Replace a worker that died; ever later, where it dies soon after its start."""
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
            _log.error(
                "worker_died",
                worker=worker.process.pid,
                exit_code=worker.process.exitcode,
                failure=worker.failure,
                restart_in_s=slot.pause_s,
            )
        if slot.worker is None and now >= slot.due_s:
            slot.worker = self._spawn()

    def _signal(self, sig: signal.Signals, *, only_ready: bool = True) -> None:
        for worker in self._alive():
            # A process that has just begun knows no SIGHUP yet, and would die of it.
            if (worker.is_ready or not only_ready) and worker.process.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.process.pid, sig)

    def _alive(self) -> list[_Worker]:
        workers = [slot.worker for slot in self._slots if slot.worker is not None]
        return [worker for worker in workers if worker.process.is_alive()]


def _work(settings: Settings, listener: socket.socket, watch: bool, words: Connection) -> None:
    """Be a worker: serve until told to stop, or until the parent is gone."""
    # A terminal's Ctrl+C reaches every process; the parent alone decides what follows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def ready(_started: Started) -> None:
        words.send(_READY)
        words.close()
        parent = multiprocessing.parent_process()
        if parent is not None:
            asyncio.get_running_loop().add_reader(
                parent.sentinel, os.kill, os.getpid(), signal.SIGTERM
            )

    try:
        serve(settings, listener, watch=watch, on_started=ready)
    except WaygateError as exc:
        words.send(str(exc))
        raise SystemExit(2) from None
