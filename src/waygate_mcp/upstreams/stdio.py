"""Upstreams behind standard input and output: a process as a line.

Knows who reads a process, and what its end means to requests in flight. Refuses to know eras and
messages, how a process is started and ended (`process.py`), and when (`lines.py`).
Spec: 2026-07-28 basic/transports/stdio; 2025-11-25 basic/transports, "stdio".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from waygate_mcp.errors import (
    ConfigError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
    WaygateError,
)
from waygate_mcp.model.ports import Supervisor
from waygate_mcp.upstreams.multiplex import Line, Multiplex
from waygate_mcp.upstreams.process import ChildProcess, Command, Processes

__all__ = ["open_process_line"]


def open_process_line(
    name: str,
    command: Command,
    processes: Processes,
    supervisor: Supervisor,
    *,
    limit_bytes: int,
) -> Callable[[Multiplex], Awaitable[Line]]:
    """Give a function that starts a process of an upstream and reads it into a Multiplex."""

    async def open_line(channel: Multiplex) -> Line:
        try:
            child = await processes.start(name, command, limit_bytes=limit_bytes)
        except ConfigError as exc:
            raise UpstreamUnavailableError(name, f"{exc.path}: {exc}") from exc
        tasks = (
            supervisor.start(_read(channel, child), name=f"process:{name}"),
            supervisor.start(child.drain_errors(), name=f"process-log:{name}"),
        )
        return _ProcessLine(child, tasks)

    return open_line


class _ProcessLine:
    """A process as a Line, with the tasks that read it."""

    def __init__(self, child: ChildProcess, tasks: tuple[asyncio.Task[None], ...]) -> None:
        self._child = child
        self._tasks = tasks

    @property
    def is_closed(self) -> bool:
        """See Line."""
        return self._child.is_closed

    def send(self, message: bytes) -> Awaitable[None] | None:
        """See Line."""
        return self._child.send(message)

    async def close(self) -> None:
        """See Line."""
        try:
            await self._child.close()
        finally:
            for task in self._tasks:
                task.cancel()


async def _read(channel: Multiplex, child: ChildProcess) -> None:
    """Read a process to its end; what is in flight then has an outcome nobody knows."""
    failure: WaygateError | None = None
    try:
        async for lines in child.lines():
            for line in lines:
                channel.take(line)
    except WaygateError as exc:
        failure = exc.with_traceback(None)  # else it would hold this frame, and the frame it
    finally:
        if failure is None:
            failure = UpstreamTimeoutError(
                child.name, "its process ended with a request in flight",
                safe_message="The upstream server stopped while it worked; the outcome is unknown.",
            )  # fmt: skip
        channel.fail(failure)
        await child.close()
