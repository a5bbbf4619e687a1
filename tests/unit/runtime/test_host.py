"""The host of processes, put together without a process: it serves until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import settings_in
from waygate_mcp.config.secrets import SecretText
from waygate_mcp.errors import UpstreamUnavailableError
from waygate_mcp.runtime.host import children_of, dial_host, run_host
from waygate_mcp.runtime.tasks import TaskSupervisor
from waygate_mcp.upstreams.hosted import hosted_by
from waygate_mcp.upstreams.opening import UpstreamConfig

KEY = b"k" * 32


class Server:
    """Stands for a listening server: a test hands connections in."""

    def __init__(self) -> None:
        self.accept: Any = None
        self.is_closed = False

    async def start(self, accept: Any, *, sock: Any, limit: int) -> Server:
        assert sock == "the door"
        self.accept = accept
        return self

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(asyncio, "start_unix_server", made.start)
    return made


async def test_it_opens_what_a_worker_names_and_ends_when_told(
    tmp_path: Path, server: Server
) -> None:
    ready, hidden = asyncio.Event(), list[str]()
    listener: Any = "the door"
    running = asyncio.get_running_loop().create_task(
        run_host(settings_in(tmp_path, {}), listener, KEY, ready.set, hidden.append)
    )
    async with asyncio.timeout(10), TaskSupervisor() as supervisor:
        await ready.wait()

        async def dial() -> Any:
            ours, theirs = socket.socketpair()
            server.accept(*(await asyncio.open_connection(sock=theirs)))
            return await asyncio.open_connection(sock=ours)

        config = UpstreamConfig(command=str(tmp_path / "none"), args=(SecretText("--key=abc"),))
        way = hosted_by(dial, KEY, lambda texts: tuple(texts)[1:])("files", config, supervisor)
        with pytest.raises(UpstreamUnavailableError):
            async with way(lambda _event: None):
                pass
        signal.raise_signal(signal.SIGTERM)
        await running
    assert server.is_closed
    assert hidden == ["--key=abc"]


async def test_the_host_is_dialled_at_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled: list[str] = []

    async def connect(address: str, *, limit: int) -> Any:
        dialled.append(address)
        return "reader", "writer"

    monkeypatch.setattr(asyncio, "open_unix_connection", connect)
    connected: Any = await dial_host(tmp_path / "host.sock")()
    assert connected == ("reader", "writer")
    assert dialled == [str(tmp_path / "host.sock")]


def test_children_are_noted_where_the_next_start_looks_for_them(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, {})
    processes = children_of(settings)
    assert processes._run_files._folder == settings.run_dir / "children"
