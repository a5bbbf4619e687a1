from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future

import pytest

from waygate_mcp.toolkit.threads import SyncThreads


@pytest.fixture
def threads() -> Iterator[SyncThreads]:
    made = SyncThreads(2)
    yield made
    made.shutdown(cancel_futures=True)


class Gate:
    """A function that says when it runs and waits until it may end."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.free = threading.Event()

    def __call__(self, value: int = 0) -> int:
        self.entered.set()
        assert self.free.wait(10)
        return value


def test_functions_run_in_daemon_threads_and_their_results_come_back(threads: SyncThreads) -> None:
    def function(a: int, *, b: int) -> tuple[int, bool]:
        return a + b, threading.current_thread().daemon

    assert threads.submit(function, 1, b=2).result(10) == (3, True)


def test_a_free_thread_is_used_again(threads: SyncThreads) -> None:
    names = set()
    for _ in range(5):
        names.add(threads.submit(lambda: threading.current_thread().name).result(10))
        while not threads._idle:
            pass
    assert names == {"waygate-sync-1"}


def test_whatever_a_function_raises_comes_back(threads: SyncThreads) -> None:
    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        threads.submit(leave).result(10)
    assert threads.submit(int, "5").result(10) == 5


def test_a_function_that_ends_its_thread_costs_nobody_else_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    threads = SyncThreads(1)
    dying: list[threading.Thread] = []

    def interrupt() -> None:
        dying.append(threading.current_thread())
        raise KeyboardInterrupt

    with pytest.raises(RuntimeError, match="ended its thread"):
        threads.submit(interrupt).result(10)
    dying[0].join(10)
    assert threads.submit(int, "5").result(10) == 5
    threads.shutdown()


def test_no_more_than_the_limit_run_at_once_and_the_rest_wait_in_line(
    threads: SyncThreads,
) -> None:
    gates = [Gate() for _ in range(3)]
    futures = [threads.submit(gate, number) for number, gate in enumerate(gates)]
    assert gates[0].entered.wait(10)
    assert gates[1].entered.wait(10)
    assert not gates[2].entered.is_set()
    gates[0].free.set()
    assert gates[2].entered.wait(10)
    for gate in gates:
        gate.free.set()
    assert [future.result(10) for future in futures] == [0, 1, 2]


def test_what_was_cancelled_in_line_never_runs() -> None:
    threads = SyncThreads(1)
    first, second = Gate(), Gate()
    running, waiting = threads.submit(first), threads.submit(second)
    assert first.entered.wait(10)
    assert waiting.cancel()
    first.free.set()
    assert running.result(10) == 0
    assert threads.submit(int).result(10) == 0
    assert not second.entered.is_set()
    threads.shutdown()


@pytest.mark.parametrize("cancel", [True, False])
def test_shutting_down_waits_for_nothing(cancel: bool) -> None:
    threads = SyncThreads(1)
    first, second = Gate(), Gate()
    running = threads.submit(first, 1)
    waiting: Future[int] = threads.submit(second, 2)
    assert first.entered.wait(10)
    threads.shutdown(wait=True, cancel_futures=cancel)
    threads.shutdown(cancel_futures=cancel)
    assert not running.done()
    with pytest.raises(RuntimeError, match="being closed"):
        threads.submit(int)
    first.free.set()
    second.free.set()
    assert running.result(10) == 1
    if cancel:
        with pytest.raises(CancelledError):
            waiting.result(10)
    else:
        assert waiting.result(10) == 2
