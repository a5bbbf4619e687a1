"""Long-lived responses: the legacy GET stream, its resumption, and the modern listen stream.

Knows how changes are written for each era and how such a stream ends: by the client, by a newer one
of the same session, or gracefully by us.
Spec: 2025-11-25 basic/transports, "Listening for Messages from the Server" and "Resumability and
Redelivery"; 2026-07-28 basic/patterns/subscriptions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from waygate_mcp.gateway.hub import Change, Listener
from waygate_mcp.gateway.listening import word_change
from waygate_mcp.gateway.sessions import Session
from waygate_mcp.gateway.stream_buffer import StreamBuffer
from waygate_mcp.gateway.task_watch import tag_change
from waygate_mcp.model.ports import Supervisor
from waygate_mcp.protocol.framing import KEEP_ALIVE, encode_event
from waygate_mcp.web.fronts import prime
from waygate_mcp.web.visit import Visit

__all__ = ["hold_open", "serve_channel", "serve_listener", "serve_resumed", "serve_session"]


async def hold_open(visit: Visit, pump: Awaitable[None], supervisor: Supervisor) -> None:
    """Run `pump`, which writes to the visit, until it ends, the client is gone or its token expired."""

    async def run() -> None:
        try:
            await pump
        finally:  # a bug of ours must not leave the client with a stream that is dead
            await visit.end()

    task = supervisor.start(run(), name="stream")
    try:
        await visit.until_over()
    finally:
        task.cancel()
        visit.abandon()


async def _changes(listener: Listener, visit: Visit, keep_alive_s: float) -> AsyncIterator[Change]:
    """Yield changes as they come; write a comment whenever there was none for a while."""
    while True:
        try:
            async with asyncio.timeout(keep_alive_s):
                due = await listener.take()
        except TimeoutError:
            await visit.write(KEEP_ALIVE)
            continue
        if due is None:
            return
        for change in due:
            yield change


async def serve_listener(
    visit: Visit,
    listener: Listener,
    identifier: str | int,
    ending: Callable[[], bytes],
    keep_alive_s: float,
) -> None:
    """Write a modern listener's changes; when we end it ourselves, the graceful result."""
    async for change in _changes(listener, visit, keep_alive_s):
        await visit.write(encode_event(tag_change(change, identifier)))
    await visit.write(encode_event(ending()))


async def serve_channel(
    visit: Visit,
    end: Listener,
    settle: Callable[[], Awaitable[None]],
    keep_alive_s: float,
) -> None:
    """Break the silences of a stream others write to; when the server stops, let calls settle first."""
    async for _ in _changes(end, visit, keep_alive_s):
        pass
    await settle()


async def serve_session(
    visit: Visit,
    session: Session,
    after: int | None,
    keep_alive_s: float,
    monotonic: Callable[[], float],
) -> None:
    """Write the changes a legacy session wants to hear of, numbered and kept.

    `after` is the event the client saw last, None where it does not come back.
    """
    stream = session.stand(monotonic())
    async with _reading(visit, stream, after):
        if after is None:
            await prime(visit, session, stream)
        async for change in _changes(session.listener, visit, keep_alive_s):
            await stream.append(word_change(change), monotonic())


async def serve_resumed(
    visit: Visit, stream: StreamBuffer, after: int, keep_alive_s: float
) -> None:
    """Write what a client missed of a call's stream, then what still comes, to its end."""
    over = asyncio.Event()
    async with _reading(visit, stream, after, over.set):
        if stream.is_complete:
            return
        while not over.is_set():
            try:
                async with asyncio.timeout(keep_alive_s):
                    await over.wait()
            except TimeoutError:
                await visit.write(KEEP_ALIVE)


@asynccontextmanager
async def _reading(
    visit: Visit,
    stream: StreamBuffer,
    after: int | None,
    on_end: Callable[[], None] | None = None,
) -> AsyncIterator[None]:
    """Be the one reader of a stream: first what was missed after event `after`, then what comes."""
    turn = asyncio.Lock()

    async def write(event_id: str, message: bytes) -> None:
        async with turn:
            await visit.write(encode_event(message, id=event_id))

    # In one step: an event that came between the two would be lost, or be written twice.
    missed = stream.since(after) if after is not None else None
    stream.attach(write, on_end)
    try:
        async with turn:  # what comes meanwhile waits, so that the order stays
            for event_id, message in missed or ():
                await visit.write(encode_event(message, id=event_id))
        yield
    finally:
        stream.detach(write)
