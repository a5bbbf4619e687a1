"""Sockets between processes of one machine: bound, dialled, and our HTTP client over one.

Knows paths, their modes, and that the system takes about a hundred bytes of them. Refuses to know what
is said. A socket is bound for its owner alone, in a folder nobody else can enter: whoever can connect is
the same user.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from waygate_mcp.errors import ConfigError, UpstreamUnavailableError
from waygate_mcp.net.connection import Connection
from waygate_mcp.net.dial import NetworkPolicy
from waygate_mcp.net.pool import PoolLimits
from waygate_mcp.net.pooled import PooledTransport
from waygate_mcp.net.urls import Target

__all__ = ["UnixTransport", "is_listening", "listen_at", "prepare_socket_folder", "socket_address"]

_MAX_PATH_BYTES = 100
_DESCRIPTORS = Path("/proc/self/fd")
_HERE = Target("http", "localhost", 80)
_CONNECT_S = 5.0


@contextlib.contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """Give the address to bind or dial for `path`, valid inside the block.

    A path longer than the system takes is reached by its folder's descriptor.

    Raises:
        ConfigError: it is too long, and this system has no such way.
        OSError: the folder is not there.
    """
    text = str(path)
    if len(os.fsencode(text)) <= _MAX_PATH_BYTES:
        yield text
        return
    if not _DESCRIPTORS.is_dir():
        raise ConfigError(
            "the path is too long for sockets in it; choose a shorter folder",
            path="WAYGATE_DATA_DIR",
        )
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield str(_DESCRIPTORS / str(folder) / path.name)
    finally:
        os.close(folder)


def prepare_socket_folder(folder: Path) -> None:
    """Make `folder`, for its owner alone, and remove sockets an earlier process left.

    Raises:
        ConfigError: it cannot be made, or belongs to somebody else.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise ConfigError(f"{folder} belongs to somebody else", path="WAYGATE_DATA_DIR")
        folder.chmod(0o700)
        for file in folder.glob("*.sock"):
            file.unlink(missing_ok=True)
    except OSError as exc:
        raise ConfigError(f"cannot make {folder}: {exc.strerror}", path="WAYGATE_DATA_DIR") from exc


def listen_at(path: Path, backlog: int = 512) -> socket.socket:
    """Listen at `path`, for its owner alone; what was there is replaced.

    Raises:
        ConfigError: see `socket_address`; or it cannot be bound.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        with socket_address(path) as address:
            listener.bind(address)
        path.chmod(0o600)  # before anybody can be heard
        listener.listen(backlog)
    except OSError as exc:
        listener.close()
        raise ConfigError(
            f"cannot listen at {path}: {exc.strerror}", path="WAYGATE_DATA_DIR"
        ) from exc
    except ConfigError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def is_listening(path: Path) -> bool:
    """Tell whether a process listens at `path`; connecting to a socket of this machine never waits."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            with socket_address(path) as address:
                probe.connect(address)
        except BlockingIOError:  # it listens, and has no time at the moment
            return True
        except (OSError, ConfigError):
            return False
    return True


class UnixTransport(PooledTransport):
    """The pooled client to a server of this machine, by the socket at `path`."""

    def __init__(self, path: Path, name: str, limits: PoolLimits) -> None:
        super().__init__(_HERE, name, NetworkPolicy(), limits=limits)
        self._path = path
        self._name = name

    async def _dial(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_S):
                with socket_address(self._path) as address:
                    _, connection = await loop.create_unix_connection(
                        lambda: Connection(self._name, loop), address
                    )
        except (OSError, ConfigError) as exc:  # TimeoutError is an OSError
            text = f"is not reached: {str(exc) or type(exc).__name__}"
            raise UpstreamUnavailableError(self._name, text) from exc
        return connection
