"""A listening stream about tasks: opened for one listener, ended with it.

Knows the filter of the extension and when an upstream agreed to it. Refuses to keep a broken stream up:
what was missed is not known here, so the listener is told that no more will come.
Spec: io.modelcontextprotocol/tasks 2026-07-28, "Task Status Notifications".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from waygate_mcp.errors import TooLargeError, UpstreamError, let_go
from waygate_mcp.model.event import Event
from waygate_mcp.model.ports import Supervisor
from waygate_mcp.protocol.stateless import ListenFilter
from waygate_mcp.upstreams.modern import ModernConnector

__all__ = ["task_stream"]

_log = logging.getLogger(__name__)
_ACK_S = 3.0


@asynccontextmanager
async def task_stream(
    connector: ModernConnector,
    supervisor: Supervisor,
    ids: tuple[str, ...],
    on_task: Callable[[bytes], None],
    on_end: Callable[[], None],
) -> AsyncIterator[frozenset[str]]:
    """Hear of tasks until the context is left; gives those the upstream agreed to tell of.

    None are agreed to by an upstream that does not answer within three seconds, or that has no such
    stream: they can be polled. `on_end` is called only where some were.
    """
    agreed: asyncio.Future[frozenset[str]] = asyncio.get_running_loop().create_future()

    def on_ack(confirmed: ListenFilter) -> None:
        if not agreed.done():
            agreed.set_result(frozenset(confirmed.tasks) & frozenset(ids))

    async def listen() -> None:
        try:
            await connector.listen(ListenFilter(tasks=ids), on_ack, _ignore, on_task)
        except (UpstreamError, TooLargeError) as exc:
            _log.debug("%s: its stream about tasks broke off: %s", connector.upstream, exc)
            let_go(exc)
        if agreed.done():
            on_end()
        else:
            agreed.set_result(frozenset())

    task = supervisor.start(listen(), name=f"tasks:{connector.upstream}")
    try:
        try:
            async with asyncio.timeout(_ACK_S):
                told = await asyncio.shield(agreed)
        except TimeoutError:
            _log.warning("%s: did not confirm its stream about tasks", connector.upstream)
            task.cancel()
            told = frozenset()
        yield told
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=_ACK_S)


def _ignore(_: Event) -> None:
    """Hear nothing else on this stream."""
