"""The parent of workers, without any process: what it does when they speak, die, or a signal comes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.house import KEY, settings_in
from waygate_mcp.errors import ConfigError
from waygate_mcp.web import workers as module
from waygate_mcp.web.server import Started
from waygate_mcp.web.workers import _Pool, _Wishes, _work, _Worker


class Process:
    """Stands for a process: alive until told otherwise."""

    numbers = iter(range(100_000, 200_000))

    def __init__(self) -> None:
        self.pid = next(self.numbers)
        self.exitcode: int | None = None
        self.killed = False
        self.sentinel, self._end = os.pipe()

    def is_alive(self) -> bool:
        return self.exitcode is None

    def die(self, code: int = -9) -> None:
        if self.exitcode is None:
            self.exitcode = code
            os.close(self._end)

    def kill(self) -> None:
        self.killed = True
        self.die()

    def join(self, _timeout_s: float | None = None) -> None:
        pass


class Pool(_Pool):
    """A pool whose processes are stand-ins; each says `words` as soon as it runs."""

    def __init__(self, folder: Path, *words: str, count: int = 2) -> None:
        self.made: list[Process] = []
        self.said = list(words)
        self.now_s = 100.0
        settings = settings_in(folder, {"limits": {"drain_s": 0}}, workers=count)
        super().__init__(settings, None, False, _Wishes())  # type: ignore[arg-type]  # no socket

    def _spawn(self, target: Any = None, name: str = "", arguments: Any = ()) -> _Worker:
        ours, theirs = Pipe(duplex=False)
        process = Process()
        self.made.append(process)
        if self.said:
            theirs.send(self.said.pop(0))
        theirs.close()
        return _Worker(process, ours, self.now_s)  # type: ignore[arg-type]  # a stand-in


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, signal.Signals]]:
    """What was sent to which process."""
    sent: list[tuple[int, signal.Signals]] = []
    monkeypatch.setattr(module.os, "kill", lambda pid, sig: sent.append((pid, sig)))  # type: ignore[attr-defined]  # the module's own
    return sent


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK_S", 0)


@pytest.fixture(autouse=True)
def door(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The outside of the host's door: who sends a byte knocks."""
    inside, outside = socket.socketpair()
    monkeypatch.setattr(module, "listen_at", lambda _path: inside)
    yield outside
    inside.close()
    outside.close()


def test_the_start_is_over_when_all_are_ready(tmp_path: Path) -> None:
    pool = Pool(tmp_path, "ready", "ready")
    assert pool.start()
    assert len(pool.made) == 2


def test_a_worker_that_cannot_start_stops_the_start_with_its_words(tmp_path: Path) -> None:
    pool = Pool(tmp_path, "ready", "the plugin is not there")
    with pytest.raises(ConfigError, match="the plugin is not there"):
        pool.start()


def test_a_worker_that_dies_without_a_word_stops_the_start_too(tmp_path: Path) -> None:
    pool = Pool(tmp_path, "ready")
    pool._slots[1].worker = pool._spawn()
    spawn = pool._spawn

    def dying(*_: Any) -> _Worker:
        worker = spawn()
        if len(pool.made) > 2:
            pool.made[-1].die()
        return worker

    pool._spawn = dying  # type: ignore[method-assign, assignment]  # the test's own
    with pytest.raises(ConfigError, match="ended at start"):
        pool.start()


def test_a_signal_at_start_ends_it(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    pool._wishes.stops = 1
    assert not pool.start()


def test_a_dead_worker_is_replaced_later_and_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool(tmp_path, count=1)
    monkeypatch.setattr(module.time, "monotonic", lambda: pool.now_s)  # type: ignore[attr-defined]  # the module's own
    slot = pool._slots[0]
    slot.worker = pool._spawn()
    pauses = []
    with capture_logs() as lines:
        for _ in range(7):
            pool.made[-1].die()
            pool._look_after(slot)
            pauses.append(slot.pause_s)
            count = len(pool.made)
            pool.now_s += slot.pause_s - 0.01
            pool._look_after(slot)
            assert len(pool.made) == count
            pool.now_s += 0.02
            pool._look_after(slot)
            assert len(pool.made) == count + 1
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert len(pool.made) == 8
    assert lines[0]["event"] == "worker_died"
    assert lines[0]["exit_code"] == -9


def test_a_worker_that_lived_long_is_replaced_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool(tmp_path, count=1)
    monkeypatch.setattr(module.time, "monotonic", lambda: pool.now_s)  # type: ignore[attr-defined]  # the module's own
    slot = pool._slots[0]
    slot.worker = pool._spawn()
    pool._look_after(slot)
    assert len(pool.made) == 1
    pool.now_s += 60
    pool.made[0].die()
    pool._look_after(slot)
    assert len(pool.made) == 2
    assert slot.pause_s == 0


def test_a_dead_workers_socket_is_removed(tmp_path: Path) -> None:
    pool = Pool(tmp_path, count=1)
    slot = pool._slots[0]
    assert slot.socket is not None
    slot.socket.write_bytes(b"")
    slot.worker = pool._spawn()
    pool.made[0].die()
    pool._look_after(slot)
    assert not slot.socket.exists()


def test_the_host_is_started_by_the_first_knock_and_by_none(
    tmp_path: Path, door: socket.socket
) -> None:
    pool = Pool(tmp_path, "ready")
    for _ in range(3):
        pool._listen()
        pool._look_after_host()
    assert not pool.made
    door.send(b"?")
    pool._listen()
    pool._look_after_host()
    assert len(pool.made) == 1
    pool._listen()
    assert pool._host.worker is not None
    assert pool._host.worker.is_ready


def test_a_dead_host_is_started_again_only_when_it_is_wanted_and_ever_later(
    tmp_path: Path, door: socket.socket
) -> None:
    pool = Pool(tmp_path)
    pool.now_s = time.monotonic()
    door.send(b"?")
    pool._look_after_host()
    pool.made[0].die()
    pool._look_after_host()
    assert (len(pool.made), pool._host.pause_s) == (1, 1), "within its pause"
    pool._host.due_s = 0
    pool._look_after_host()
    assert len(pool.made) == 2
    pool.made[1].die()
    pool._look_after_host()
    assert pool._host.pause_s == 2
    pool._door_of_host.recv(1)
    pool._host.due_s = 0
    for _ in range(3):
        pool._look_after_host()
    assert len(pool.made) == 2, "nobody knocks"


def test_the_host_ends_after_the_workers(
    tmp_path: Path,
    door: socket.socket,
    signals: list[tuple[int, signal.Signals]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Pool(tmp_path, "ready", "ready")
    assert pool.start()
    door.send(b"?")
    pool._look_after_host()
    *workers, host = pool.made

    def wait(_sentinels: object, timeout: float) -> list[object]:
        for process in pool.made:
            if any(process.pid == pid for pid, _ in signals):
                process.die(0)
        return []

    monkeypatch.setattr(module, "wait", wait)
    pool.stop()
    assert [pid for pid, _ in signals] == [*(one.pid for one in workers), host.pid]


def test_a_reload_is_passed_on_to_workers_that_serve(
    tmp_path: Path, signals: list[tuple[int, signal.Signals]]
) -> None:
    pool = Pool(tmp_path, "ready", "ready")
    assert pool.start()
    starting = pool._slots[1].worker
    assert starting is not None
    starting.is_ready = False
    pool._wishes.reloads = 2
    listen = pool._listen

    def once() -> None:
        listen()
        if signals:
            pool._wishes.stops = 1

    pool._listen = once  # type: ignore[method-assign]  # ends the loop after its work
    pool.run()
    assert signals == [(pool.made[0].pid, signal.SIGHUP)]


def test_the_end_is_asked_for_and_awaited(
    tmp_path: Path, signals: list[tuple[int, signal.Signals]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool(tmp_path, "ready", "ready")
    assert pool.start()

    def wait(_sentinels: object, timeout: float) -> list[object]:
        for process in pool.made:
            process.die(0)
        return []

    monkeypatch.setattr(module, "wait", wait)
    pool.stop()
    assert {sig for _, sig in signals} == {signal.SIGTERM}
    assert not any(process.killed for process in pool.made)


def test_a_second_signal_is_passed_on_and_what_stays_is_killed(
    tmp_path: Path, signals: list[tuple[int, signal.Signals]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_S", 0.05)
    pool = Pool(tmp_path, "ready", "ready")
    assert pool.start()
    pool._wishes.stops = 2
    with capture_logs() as lines:
        pool.stop()
    assert [sig for _, sig in signals] == [signal.SIGTERM] * 4
    assert all(process.killed for process in pool.made)
    assert [line["event"] for line in lines] == ["worker_killed"] * 2


@pytest.mark.usefixtures("_interrupts_are_given_back")
def test_the_host_holds_what_workers_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[Any] = []

    async def run_host(settings: Any, listener: Any, key: bytes, on_ready: Any, hide: Any) -> None:
        held.append((listener, key))
        hide("a secret of an upstream")
        on_ready()

    monkeypatch.setattr(module, "run_host", run_host)
    words: Any = Words()
    before = signal.getsignal(signal.SIGHUP)
    try:
        module._hold(words, settings_in(tmp_path, {}), "the door", b"key")  # type: ignore[arg-type]  # no socket
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert held == [("the door", b"key")]
    assert (words.said, words.closed) == (["ready"], True)


def test_signals_become_wishes() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with module._signals() as wishes:
        for sig in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.raise_signal(sig)
    assert (wishes.stops, wishes.reloads) == (2, 2)
    assert signal.getsignal(signal.SIGHUP) == before


class Listener:
    def __init__(self) -> None:
        self.backlog = 0

    def listen(self, backlog: int) -> None:
        self.backlog = backlog

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 8123


@pytest.mark.parametrize("is_ready", [True, False])
def test_the_parent_prepares_starts_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_ready: bool
) -> None:
    told: list[Started] = []
    done: list[str] = []

    def start(_pool: _Pool) -> bool:
        done.append("start")
        return is_ready

    monkeypatch.setattr(_Pool, "start", start)
    monkeypatch.setattr(_Pool, "run", lambda _self: done.append("run"))
    monkeypatch.setattr(_Pool, "stop", lambda _self: done.append("stop"))
    listener: Any = Listener()
    settings = settings_in(tmp_path, {}, workers=2, api_key=None)
    module.serve_with_workers(settings, listener, on_started=told.append)
    assert done == ["start", "run", "stop"]
    assert listener.backlog == 2048
    assert len(told) == is_ready
    for started in told:
        assert (started.host, started.port) == ("127.0.0.1", 8123)
        assert started.key is not None
        assert started.key.shown_once is not None
    assert (settings.data_dir / "keys.json").exists()


def test_without_keys_none_is_made(tmp_path: Path) -> None:
    listener: Any = Listener()
    settings = settings_in(tmp_path, {"auth": {"mode": "none"}}, workers=2, api_key=None)
    assert module._prepare(settings, listener).key is None
    assert not (settings.data_dir / "keys.json").exists()


def test_a_fault_of_the_document_comes_before_any_process(tmp_path: Path) -> None:
    listener: Any = Listener()
    with pytest.raises(ConfigError) as caught:
        module.serve_with_workers(settings_in(tmp_path, {"plugns": {}}, workers=2), listener)
    assert caught.value.path == "plugns"


def test_a_run_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, {}, workers=2)
    settings.data_dir.mkdir(mode=0o700)
    (settings.data_dir / "run").write_text("in the way")
    listener: Any = Listener()
    with pytest.raises(ConfigError, match="cannot write"):
        module._prepare(settings, listener)


# --- the worker's side


class Words:
    def __init__(self) -> None:
        self.said: list[object] = []
        self.closed = False

    def send(self, word: object) -> None:
        self.said.append(word)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def _interrupts_are_given_back() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interrupts_are_given_back")
def test_a_worker_says_why_it_could_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConfigError("no such module", path="plugins.a.use")

    monkeypatch.setattr(module, "serve", fail)
    words: Any = Words()
    with pytest.raises(SystemExit) as caught:
        _work(words, settings_in(tmp_path, {}), None, False, None)  # type: ignore[arg-type]  # no socket
    assert caught.value.code == 2
    assert words.said == ["plugins.a.use: no such module"]
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


@pytest.mark.usefixtures("_interrupts_are_given_back")
async def test_a_worker_says_that_it_serves_and_ends_with_its_parent(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    signals: list[tuple[int, signal.Signals]],
) -> None:
    reader, writer = os.pipe()

    class Parent:
        sentinel = reader

    def serve(
        settings: Any, listener: Any, *, watch: bool, on_started: Any, workplace: Any
    ) -> None:
        on_started(None)

    monkeypatch.setattr(module, "serve", serve)
    monkeypatch.setattr(module.multiprocessing, "parent_process", Parent)  # type: ignore[attr-defined]  # the module's own
    words: Any = Words()
    _work(words, settings_in(tmp_path, {}), None, False, None)  # type: ignore[arg-type]  # no socket
    assert (words.said, words.closed) == (["ready"], True)
    os.close(writer)
    for _ in range(5):
        await asyncio.sleep(0)
    assert (os.getpid(), signal.SIGTERM) in signals
    asyncio.get_running_loop().remove_reader(reader)
    assert KEY not in str(words.said)
