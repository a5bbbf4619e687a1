"""Threads for functions written without `async`.

Knows a bounded number of threads that are started when needed. Refuses to wait for them: a function that
runs cannot be stopped, and neither a reload nor the end of the process may hang on it, which is why the
standard library's pool, whose threads are joined when the interpreter ends, is not used here.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

__all__ = ["SyncThreads"]

P = ParamSpec("P")
T = TypeVar("T")
_Job = tuple["Future[Any]", Callable[[], Any]]


class SyncThreads(Executor):
    """At most `limit` daemon threads; calls beyond that wait in line."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0
        self._is_closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function in a thread, as soon as one is free.

        Raises:
            RuntimeError: the threads were shut down.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the plugin is being closed")
            self._jobs.put((future, lambda: fn(*args, **kwargs)))
            if self._idle:
                self._idle -= 1
            elif self._threads < self._limit:
                self._threads += 1
                name = f"waygate-sync-{self._threads}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more and let the threads end once they are done; never waits for them.

        What stands in line is cancelled if `cancel_futures`, else still run.
        """
        with self._lock:
            self._is_closed = True
            if cancel_futures:
                self._cancel_waiting()
            for _ in range(self._threads):
                self._jobs.put(None)

    def _cancel_waiting(self) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            if job is not None:
                job[0].cancel()

    def _work(self) -> None:
        """Run jobs until told to end."""
        try:
            while (job := self._jobs.get()) is not None:
                _run(*job)
                del job
                with self._lock:
                    self._idle += 1
        finally:
            with self._lock:
                self._threads -= 1


def _run(future: Future[Any], function: Callable[[], Any]) -> None:
    """Run one job and hand over how it ended, whatever that is."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - handed to who waits, as it is
        future.set_exception(exc)
    finally:
        if not future.done():
            future.set_exception(RuntimeError("the function ended its thread"))
