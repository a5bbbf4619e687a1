"""uvicorn, as we run it: bounds on connections, a gentle end, nothing logged twice.

Knows sockets, signals and the life of a server process. Refuses to know what is served.

The end: drain (not ready, listeners ended, calls awaited), close connections, close the house. A
second signal skips what is left of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import uvicorn

from waygate_mcp.auth.bootstrap import BootstrapKey
from waygate_mcp.config.document import Document
from waygate_mcp.config.settings import Settings
from waygate_mcp.errors import ConfigError
from waygate_mcp.net.unix import listen_at
from waygate_mcp.runtime.house import House
from waygate_mcp.runtime.peers import Workplace
from waygate_mcp.telemetry.logs import open_logs
from waygate_mcp.web.app import App, build_app
from waygate_mcp.web.connection import Connection, ConnectionLimits
from waygate_mcp.web.guard import Guard, guard_of
from waygate_mcp.web.memory import settle

__all__ = ["Server", "Started", "bind", "make_server", "serve"]

LOOP: Literal["uvloop", "asyncio"] = "uvloop" if sys.platform != "win32" else "asyncio"
KEEP_ALIVE_S = 75
BACKLOG = 2048
END_S = 1.0
"""Seconds streams get to end by themselves after the drain."""
CLOSE_S = 5
"""Seconds connections get to end after the drain, before their tasks are cancelled."""

_WORKER_CONNECTIONS = 100_000

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals that end the server, where the process did not choose to ignore them."""


@dataclass(frozen=True, slots=True)
class Started:
    """What there is to say once the server serves. `key` is None where nobody is asked for one."""

    host: str
    port: int
    document: Document
    document_path: Path | None
    key: BootstrapKey | None


class Server(uvicorn.Server):
    """One process's server. `on_started` is told when it serves."""

    def __init__(
        self,
        config: uvicorn.Config,
        house: House[Guard],
        on_started: Callable[[Started], None] | None = None,
        workers: WorkerDoor | None = None,
    ) -> None:
        super().__init__(config)
        self._house = house
        self._on_started = on_started
        self._workers = workers
        self._is_drained = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the house, then listen: whoever can connect is served."""
        await super().startup(sockets)
        if not self.started:
            return
        if self._workers is not None:
            # Nobody was served before: what comes next is the first turn of the loop with the port open.
            self.servers.append(await self._workers.open(self.config, self.lifespan.state))
        house = self._house
        house.metrics.active_connections.follow(lambda: len(self.server_state.connections))
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, house.request_reload, "SIGHUP")
        if self._on_started is not None:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            document = house.current().document
            self._on_started(Started(host, port, document, house.document_path, house.bootstrap))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, end what is left of requests, close the connections, close the house."""
        drain = self._house.supervisor.start(self._drain(), name="drain")
        while not drain.done() and not self.force_exit:
            await asyncio.wait((drain,), timeout=0.1)
        drain.cancel()
        # Streams end by themselves now, and calls were waited for as long as was said.
        is_quick = self.force_exit or not self._is_drained
        left = set(self.server_state.tasks)
        if self._workers is not None:
            left |= self._workers.tasks
        if left:
            _, left = await asyncio.wait(left, timeout=0 if is_quick else END_S)
        for task in left:
            # One that never began cannot take itself out (see `Cycle.start`).
            task.add_done_callback(self.server_state.tasks.discard)
            task.cancel("the server stops")
        if self._workers is not None:
            self._workers.close()
        await super().shutdown(sockets)
        if self.force_exit:
            # uvicorn leaves the house open then; its parts deserve a chance all the same.
            await self.lifespan.shutdown()

    async def _drain(self) -> None:
        self._is_drained = await self._house.drain()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal: the first asks for a gentle end, the second for a quick one."""
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals that stop us. They end in exit code 0 and are not raised again."""
        wanted = [sig for sig in _STOP_SIGNALS if signal.getsignal(sig) != signal.SIG_IGN]
        before = {sig: signal.signal(sig, self.handle_exit) for sig in wanted}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)


class WorkerDoor:
    """Where other workers come in: connections that count for no limit of clients."""

    def __init__(self, app: App, workplace: Workplace) -> None:
        self._app = app
        self._path = workplace.socket_of(workplace.place.slot)
        self._state = uvicorn.server.ServerState()

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """The requests under way."""
        return set(self._state.tasks)

    async def open(
        self, config: uvicorn.Config, app_state: dict[str, Any]
    ) -> asyncio.base_events.Server:
        """Listen.

        Raises:
            ConfigError: the socket cannot be bound.
        """

        def connection() -> asyncio.Protocol:
            made = WorkerConnection(config, self._state, app_state)
            made.app = self._app.serve_worker
            return made

        loop = asyncio.get_running_loop()
        return await loop.create_unix_server(connection, sock=listen_at(self._path))

    def close(self) -> None:
        """Let the connections end."""
        for connection in list(self._state.connections):
            connection.shutdown()


class WorkerConnection(Connection):
    """A connection of another worker, which has limits of its own."""

    current_limits = staticmethod(lambda: ConnectionLimits(_WORKER_CONNECTIONS))


def make_server(
    app: App,
    house: House[Guard],
    *,
    on_started: Callable[[Started], None] | None = None,
    workplace: Workplace | None = None,
) -> Server:
    """Make the server of one process for an application whose house is not open yet."""
    # What uvicorn has to say is either ours to say (start, stop, requests) or a warning.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    config = uvicorn.Config(
        app,
        host=house.settings.host,
        port=house.settings.port,
        loop=LOOP,
        http=_protocol_of(house),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=CLOSE_S,
    )
    workers = None if workplace is None else WorkerDoor(app, workplace)
    return Server(config, house, on_started, workers)


def serve(
    settings: Settings,
    listener: socket.socket,
    *,
    watch: bool = False,
    on_started: Callable[[Started], None] | None = None,
    workplace: Workplace | None = None,
) -> None:
    """Run the server of one process until a signal ends it. `watch` reloads when the file changes.

    `workplace` is given to one of several workers.

    Raises:
        WaygateError: it could not start.
    """
    with open_logs(settings) as logs:
        house = House(settings, logs, guard_of, workplace=workplace)
        app = build_app(house)

        def started(facts: Started) -> None:
            settle()
            if watch:
                house.watch_document()
            if house.peers is not None:
                house.peers.tell_of_return()
            if on_started is not None:
                on_started(facts)

        try:
            server = make_server(app, house, on_started=started, workplace=workplace)
            server.run(sockets=[listener])
        except SystemExit:
            # uvicorn's way to say that the application did not start.
            if app.failure is not None:
                raise app.failure from None
            raise


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Give what makes the loop servers run in, for a process of ours that serves no HTTP."""
    return uvicorn.Config(lambda: None, loop=LOOP, log_config=None).get_loop_factory()


def _protocol_of(house: House[Guard]) -> type[asyncio.Protocol]:
    """Give the connection class, bound to the limits of the configuration in force."""

    def limits() -> ConnectionLimits:
        return ConnectionLimits(house.current().document.limits.connections_max)

    class BoundConnection(Connection):
        current_limits = staticmethod(limits)

    return BoundConnection


def bind(settings: Settings) -> socket.socket:
    """Take the address the settings name.

    Raises:
        ConfigError: it is in use, not ours, or may not be taken; with the mend.
    """
    host, port = settings.host.strip("[]"), settings.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as exc:
        raise ConfigError(
            f"the address {host} is not known here: {exc}", path="WAYGATE_HOST"
        ) from exc
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # One family for one address: `::` is not also 0.0.0.0 by accident of the system.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
    except OSError as exc:
        listener.close()
        raise _cannot_bind(host, port, exc) from exc
    listener.setblocking(False)
    listener.set_inheritable(True)
    return listener


def _cannot_bind(host: str, port: int, exc: OSError) -> ConfigError:
    mends: dict[int | None, str] = {
        errno.EADDRINUSE: f"port {port} is in use; stop the other program, or choose another: "
        f"--port {port + 1}",
        errno.EACCES: f"port {port} needs rights this process does not have; "
        "choose one from 1024 on",
        errno.EADDRNOTAVAIL: f"{host} is no address of this machine; 127.0.0.1 always is",
    }
    path = "WAYGATE_HOST" if exc.errno == errno.EADDRNOTAVAIL else "WAYGATE_PORT"
    return ConfigError(mends.get(exc.errno, f"cannot listen on {host}:{port}: {exc}"), path=path)
