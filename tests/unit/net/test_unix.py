"""Paths of sockets between processes; what connects is in tests/integration."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from waygate_mcp.errors import ConfigError, UpstreamUnavailableError
from waygate_mcp.net import unix as module
from waygate_mcp.net.pool import PoolLimits
from waygate_mcp.net.unix import (
    UnixTransport,
    is_listening,
    listen_at,
    prepare_socket_folder,
    socket_address,
)


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A folder whose sockets have paths the system does not take."""
    folder = tmp_path / ("d" * 100)
    folder.mkdir()
    return folder


class Socket:
    """Stands for a socket: it is bound at the address it is given, as far as files show."""

    error: OSError | None = None

    def __init__(self, *_: object) -> None:
        self.is_closed = False
        self.backlog = 0

    def bind(self, address: str) -> None:
        if self.error is not None:
            raise self.error
        Path(address).touch()

    connect = bind

    def listen(self, backlog: int) -> None:
        self.backlog = backlog

    def setblocking(self, _flag: bool) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Socket]]:
    """No real sockets."""
    monkeypatch.setattr(socket, "socket", Socket)
    yield Socket
    Socket.error = None


def test_a_short_path_is_its_own_address() -> None:
    with socket_address(Path("/run/a.sock")) as address:
        assert address == "/run/a.sock"


def test_a_long_path_is_reached_by_its_folder(deep: Path) -> None:
    with socket_address(deep / "a.sock") as address:
        assert len(address) < 60
        Path(address).touch()
    assert (deep / "a.sock").exists()
    assert not Path(address).exists(), "the descriptor is closed"


def test_a_long_path_is_refused_where_there_is_no_other_way(
    deep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DESCRIPTORS", deep / "none")
    with pytest.raises(ConfigError, match="shorter folder"), socket_address(deep / "a.sock"):
        pass


def test_a_folder_is_made_for_its_owner_alone_and_emptied_of_sockets(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "workers"
    folder.mkdir(parents=True, mode=0o755)
    (folder / "0.sock").touch()
    (folder / "else").touch()
    prepare_socket_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in folder.iterdir()] == ["else"]


def test_a_folder_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ConfigError, match="somebody else"):
        prepare_socket_folder(tmp_path)


def test_a_link_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigError):
        prepare_socket_folder(tmp_path / "link")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot make"):
        prepare_socket_folder(tmp_path / "file" / "workers")


def test_a_socket_is_its_owners_alone_and_replaces_what_was_there(
    tmp_path: Path, sockets: type[Socket]
) -> None:
    path = tmp_path / "a.sock"
    path.write_text("stale")
    listener: Any = listen_at(path, 7)
    assert path.read_text() == ""
    assert path.stat().st_mode & 0o777 == 0o600
    assert listener.backlog == 7


def test_a_socket_that_cannot_be_bound_is_named(tmp_path: Path, sockets: type[Socket]) -> None:
    sockets.error = OSError(28, "No space left")
    with pytest.raises(ConfigError, match="No space left"):
        listen_at(tmp_path / "a.sock")


def test_a_path_too_long_to_bind_is_named(
    deep: Path, sockets: type[Socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DESCRIPTORS", deep / "none")
    with pytest.raises(ConfigError, match="shorter folder"):
        listen_at(deep / "a.sock")


@pytest.mark.parametrize(
    ("error", "is_there"),
    [(None, True), (BlockingIOError(), True), (ConnectionRefusedError(), False)],
)
def test_who_listens_is_found_by_knocking(
    tmp_path: Path, sockets: type[Socket], error: OSError | None, is_there: bool
) -> None:
    sockets.error = error
    assert is_listening(tmp_path / "a.sock") is is_there


def test_nobody_listens_in_a_folder_that_is_not_there(deep: Path, sockets: type[Socket]) -> None:
    assert not is_listening(deep / ("e" * 100) / "a.sock")


async def test_a_socket_nobody_has_is_unavailable_and_nothing_was_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with UnixTransport(tmp_path / "a.sock", "worker-1", PoolLimits()) as way:

        class Loop:
            async def create_unix_connection(self, factory: Any, address: str) -> Any:
                raise ConnectionRefusedError(111, "Connection refused")

        monkeypatch.setattr(asyncio, "get_running_loop", Loop)
        with pytest.raises(UpstreamUnavailableError, match="Connection refused"):
            await way._dial()
        monkeypatch.undo()


async def test_a_connection_is_dialled_at_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled: list[Any] = []

    class Loop:
        async def create_unix_connection(self, factory: Any, address: str) -> Any:
            dialled.append(address)
            return None, factory()

    way = UnixTransport(tmp_path / "a.sock", "worker-1", PoolLimits())
    monkeypatch.setattr(asyncio, "get_running_loop", Loop)
    await way._dial()
    assert dialled == [str(tmp_path / "a.sock")]
