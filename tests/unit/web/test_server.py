from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from tests.support.house import open_house, settings_in
from waygate_mcp.config.settings import Settings
from waygate_mcp.errors import ConfigError
from waygate_mcp.gateway.places import Place
from waygate_mcp.runtime.house import House
from waygate_mcp.runtime.peers import Workplace
from waygate_mcp.web import server as module
from waygate_mcp.web.app import build_app
from waygate_mcp.web.connection import Connection
from waygate_mcp.web.guard import Guard
from waygate_mcp.web.server import Server, Started, bind, loop_factory, make_server


class Lifespan:
    """Stands for uvicorn's: notes that the application was told to end."""

    def __init__(self) -> None:
        self.ended = 0

    async def shutdown(self) -> None:
        self.ended += 1


def server_of(house: House[Guard], **more: Any) -> tuple[Server, Lifespan]:
    """A server that listens nowhere."""
    server = make_server(build_app(house), house, **more)
    lifespan = Lifespan()
    server.lifespan = lifespan
    server.servers = []
    return server, lifespan


async def test_uvicorn_is_told_what_we_rely_on(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, {"limits": {"connections_max": 7}})) as house:
        config = make_server(build_app(house), house).config
        assert (config.server_header, config.proxy_headers, config.access_log) == (False,) * 3
        assert (config.timeout_keep_alive, config.backlog, config.lifespan) == (75, 2048, "on")
        assert config.log_config is None
        assert (config.loop, config.ws) == ("uvloop", "none")
        assert isinstance(config.http, type)
        assert issubclass(config.http, Connection)
        assert config.http.current_limits().connections_max == 7
        assert logging.getLogger("uvicorn").level == logging.WARNING


async def test_the_end_drains_first_and_closes_the_house_last(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, {})) as house:
        server, lifespan = server_of(house)
        house.current().calls.hold()
        ending = asyncio.get_running_loop().create_task(server.shutdown())
        while not house.is_draining:  # noqa: ASYNC110 - the drain is a task of its own
            await asyncio.sleep(0)
        assert lifespan.ended == 0
        house.current().calls.leave()
        async with asyncio.timeout(5):
            await ending
        assert lifespan.ended == 1


async def test_a_second_signal_cuts_the_drain_short(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, {})) as house:
        server, lifespan = server_of(house)
        house.current().calls.hold()
        server.handle_exit(signal.SIGTERM, None)
        assert (server.should_exit, server.force_exit) == (True, False)
        server.handle_exit(signal.SIGTERM, None)
        assert bool(vars(server)["force_exit"])
        async with asyncio.timeout(5):
            await server.shutdown()
        assert lifespan.ended == 1
        assert house.current().calls.count == 1


# --- the door of other workers


class Peer:
    """Stands for the connection of another worker."""

    def __init__(self) -> None:
        self.is_ended = False

    def shutdown(self) -> None:
        self.is_ended = True


async def test_workers_come_in_by_a_door_of_their_own_and_count_for_no_limit_of_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace = Workplace(Place(1, 2), tmp_path, b"key")
    settings = settings_in(tmp_path, {"limits": {"connections_max": 7}})
    async with open_house(settings, workplace=workplace) as house:
        app = build_app(house)
        server = make_server(app, house, workplace=workplace)
        server.lifespan = Lifespan()
        server.servers = []
        listening: list[Any] = []
        monkeypatch.setattr(module, "listen_at", lambda path: path)

        async def create_unix_server(factory: Any, *, sock: Any) -> Any:
            listening.append((factory, sock))

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "create_unix_server", create_unix_server)
        server.config.load()
        door: Any = server._workers
        await door.open(server.config, {})
        ((factory, path),) = listening
        assert path == tmp_path / "1.sock"
        connection = factory()
        assert connection.app == app.serve_worker
        assert connection.current_limits().connections_max > 7
        assert connection.server_state is not server.server_state

        async def lasts() -> None:
            await asyncio.Event().wait()

        peer, task = Peer(), loop.create_task(lasts())
        door._state.connections.add(peer)
        door._state.tasks.add(task)
        server.force_exit = True
        async with asyncio.timeout(5):
            await server.shutdown()
            await asyncio.wait({task})
        assert task.cancelled()
        assert peer.is_ended


def test_processes_that_serve_no_http_run_in_the_same_loop() -> None:
    make = loop_factory()
    assert make is not None
    loop = make()
    loop.close()
    assert "uvloop" in type(loop).__module__


def test_signals_are_handled_while_serving_and_not_raised_again(tmp_path: Path) -> None:
    server = Server(uvicorn.Config(lambda: None, log_config=None), None)  # type: ignore[arg-type]  # no house is asked
    before = signal.getsignal(signal.SIGTERM)
    with server.capture_signals():
        assert signal.getsignal(signal.SIGTERM) == server.handle_exit
        signal.raise_signal(signal.SIGTERM)
    assert server.should_exit
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_the_process_ignores_stays_ignored() -> None:
    server = Server(uvicorn.Config(lambda: None, log_config=None), None)  # type: ignore[arg-type]  # no house is asked
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with server.capture_signals():
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


class Listener:
    """A socket that takes no address."""

    def __init__(self, fails_with: int | None = None) -> None:
        self.fails_with = fails_with
        self.options: list[tuple[int, int, int]] = []
        self.bound: Any = None
        self.closed = False

    def setsockopt(self, *option: int) -> None:
        self.options.append(option)  # type: ignore[arg-type]  # three numbers

    def bind(self, address: Any) -> None:
        if self.fails_with is not None:
            raise OSError(self.fails_with, "no")
        self.bound = address

    def close(self) -> None:
        self.closed = True

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def set_inheritable(self, flag: bool) -> None:
        assert flag


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Listener:
    made = Listener()
    monkeypatch.setattr(module.socket, "socket", lambda *_: made)  # type: ignore[attr-defined]  # the module's own
    return made


def settings(host: str, port: int) -> Settings:
    return Settings(_env_file=None, host=host, port=port)


@pytest.mark.parametrize(
    ("host", "family_options", "bound"),
    [
        ("127.0.0.1", 1, ("127.0.0.1", 8000)),
        ("::1", 2, ("::1", 8000, 0, 0)),
        ("[::1]", 2, ("::1", 8000, 0, 0)),
    ],
)
def test_the_address_of_the_settings_is_taken(
    listener: Listener, host: str, family_options: int, bound: Any
) -> None:
    taken: Any = bind(settings(host, 8000))
    assert taken is listener
    assert listener.bound == bound
    assert len(listener.options) == family_options


@pytest.mark.parametrize(
    ("number", "words", "path"),
    [
        (errno.EADDRINUSE, "port 8000 is in use; .* --port 8001", "WAYGATE_PORT"),
        (errno.EACCES, "from 1024 on", "WAYGATE_PORT"),
        (errno.EADDRNOTAVAIL, "no address of this machine", "WAYGATE_HOST"),
        (errno.EIO, "cannot listen on", "WAYGATE_PORT"),
    ],
)
def test_an_address_that_cannot_be_taken_names_the_mend(
    listener: Listener, number: int, words: str, path: str
) -> None:
    listener.fails_with = number
    with pytest.raises(ConfigError, match=words) as caught:
        bind(settings("127.0.0.1", 8000))
    assert caught.value.path == path
    assert vars(listener)["closed"]


def test_a_name_nobody_knows_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConfigError, match=r"nowhere\.example is not known here"):
        bind(settings("nowhere.example", 8000))


class Running:
    """Stands for a server that starts, or does not."""

    def __init__(self, app: Any, house: House[Guard], started: Any, fails: bool) -> None:
        self.app, self.house, self.started, self.fails = app, house, started, fails

    def run(self, sockets: Any) -> None:
        if self.fails:
            raise SystemExit(3)
        self.started(Started("127.0.0.1", 8000, None, None, None))  # type: ignore[arg-type]  # nobody reads it


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """How often the process was set up for serving, which is not done to that of the tests."""
    done: list[bool] = []
    monkeypatch.setattr(module, "settle", lambda: done.append(True))
    return done


def test_what_is_started_is_told_and_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settled: list[bool]
) -> None:
    told: list[Any] = []
    watched: list[bool] = []
    monkeypatch.setattr(House, "watch_document", lambda _self: watched.append(True))
    monkeypatch.setattr(
        module,
        "make_server",
        lambda app, house, on_started, workplace: Running(app, house, on_started, fails=False),
    )
    module.serve(settings_in(tmp_path, {}), None, on_started=told.append)  # type: ignore[arg-type]  # no socket
    assert (len(told), watched) == (1, [])
    module.serve(settings_in(tmp_path, {}), None, watch=True)  # type: ignore[arg-type]  # no socket
    assert (len(told), watched) == (1, [True])
    assert settled == [True, True]


@pytest.mark.usefixtures("settled")
def test_a_worker_that_serves_tells_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    class Peers:
        def tell_of_return(self) -> None:
            told.append("back")

    def make(app: Any, house: House[Guard], on_started: Any, workplace: Any) -> Running:
        house.peers = Peers()  # type: ignore[assignment]  # what an open house has
        return Running(app, house, on_started, fails=False)

    monkeypatch.setattr(module, "make_server", make)
    module.serve(settings_in(tmp_path, {}), None)  # type: ignore[arg-type]  # no socket
    assert told == ["back"]


@pytest.mark.parametrize("failure", [ConfigError("no", path="a"), None])
def test_a_server_that_did_not_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: ConfigError | None
) -> None:
    def make(app: Any, house: House[Guard], on_started: Any, workplace: Any) -> Running:
        app.failure = failure
        return Running(app, house, on_started, fails=True)

    monkeypatch.setattr(module, "make_server", make)
    with pytest.raises(SystemExit if failure is None else ConfigError):
        module.serve(settings_in(tmp_path, {}), None)  # type: ignore[arg-type]  # no socket
