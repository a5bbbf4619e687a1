"""The process that holds the processes of stdio upstreams, where there are several workers.

Knows how its parts are put together, and how a worker reaches it. Refuses to know the document: what is
started is what a worker's generation names, so that a reload reaches this process with the workers. With one
worker nothing of this exists.
Spec: protocol.md 8; threat model rules 28 and 29.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from waygate_mcp.config.settings import Settings
from waygate_mcp.net.unix import socket_address
from waygate_mcp.runtime.tasks import TaskSupervisor
from waygate_mcp.upstreams.connector import OpenUpstream
from waygate_mcp.upstreams.hosted import Dial
from waygate_mcp.upstreams.hosting import Host, SharedUpstreams
from waygate_mcp.upstreams.opening import UpstreamConfig, open_processes
from waygate_mcp.upstreams.process import Processes

__all__ = ["children_of", "dial_host", "run_host"]

_BUFFER_BYTES = 1024 * 1024


def children_of(settings: Settings) -> Processes:
    """Give what starts the processes of upstreams."""
    return Processes(settings.run_dir / "children", hidden=(settings.data_dir,))


def dial_host(path: Path) -> Dial:
    """Give how the host that listens at `path` is reached."""

    async def dial() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        with socket_address(path) as address:
            return await asyncio.open_unix_connection(address, limit=_BUFFER_BYTES)

    return dial


async def run_host(
    settings: Settings,
    listener: socket.socket,
    key: bytes,
    on_ready: Callable[[], None],
    on_secret: Callable[[str], None],
) -> None:
    """Hold processes until SIGTERM; `listener` is where workers connect, `key` what they show.

    `on_secret` is told what must not be logged.
    """
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    processes = children_of(settings)
    # What a host that was killed left behind.
    await asyncio.to_thread(processes.reap)
    async with TaskSupervisor() as supervisor:

        def open_for(name: str, config: UpstreamConfig) -> OpenUpstream:
            return open_processes(name, config, supervisor, processes)

        upstreams = SharedUpstreams(supervisor, open_for)
        host = Host(key, upstreams, supervisor, on_secret)
        server = await asyncio.start_unix_server(host.accept, sock=listener, limit=_BUFFER_BYTES)
        try:
            on_ready()
            await stop.wait()
        finally:
            server.close()
            await upstreams.close()
