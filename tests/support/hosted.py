"""A host of processes and the workers that use it, connected in memory; the upstream is scripted."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from tests.support.dialogues import person
from tests.support.scripted import Scripted
from waygate_mcp.errors import UpstreamUnavailableError, WaygateError
from waygate_mcp.model.call import Answer, Call, LogEvent, Progress, Question
from waygate_mcp.model.catalog import Kind, Viewer
from waygate_mcp.model.event import Event
from waygate_mcp.model.ports import Announce
from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.versions import MODERN
from waygate_mcp.runtime.tasks import TaskSupervisor
from waygate_mcp.upstreams import host_frames as frames
from waygate_mcp.upstreams.hosted import HostedUpstream
from waygate_mcp.upstreams.hosting import Host, SharedUpstreams
from waygate_mcp.upstreams.opening import UpstreamConfig

KEY = b"k" * 32
CONFIG = UpstreamConfig(command="server", open_timeout_s=5)
FORMS = ClientCapabilities(16)


class Connected(Scripted):
    """A scripted provider as an open upstream. `announce` is where it tells of changes."""

    eras: tuple[str, ...] = ("legacy",)
    revision = "2025-11-25"
    is_interactive = True
    refused_questions = 3

    def __init__(self) -> None:
        super().__init__(instructions="Be kind.")
        self.announce: Announce = lambda _event: None
        self.told_of_roots: list[str] = []
        self.is_well = True
        self.refreshed: list[tuple[Kind, Viewer]] = []
        self.forgotten: list[str] = []
        self.watched: list[tuple[str, ...]] = []
        self.on_task: Callable[[bytes], None] = lambda _params: None
        self.on_end: Callable[[], None] = lambda: None

    async def refresh(self, kind: Kind, viewer: Viewer) -> None:
        self.refreshed.append((kind, viewer))

    async def probe(self) -> None:
        if not self.is_well:
            raise UpstreamUnavailableError("box", "does not answer")

    def tell_roots_changed(self, session_id: str) -> None:
        """See Connector."""
        self.told_of_roots.append(session_id)

    def forget_session(self, session_id: str) -> None:
        self.forgotten.append(session_id)

    @asynccontextmanager
    async def tell_of_tasks(
        self, ids: tuple[str, ...], on_task: Callable[[bytes], None], on_end: Callable[[], None]
    ) -> AsyncIterator[frozenset[str]]:
        self.watched.append(ids)
        self.on_task, self.on_end = on_task, on_end
        try:
            yield frozenset(ids[:1])
        finally:
            self.watched.remove(ids)


class Caller:
    """The client's side of a call. `answer` is what it answers, or the error of asking it."""

    def __init__(self, answer: Answer | WaygateError | None = None) -> None:
        self.log_level: str | None = "debug"
        self.events: list[Progress | LogEvent] = []
        self.asked: list[Question] = []
        self.closed = 0
        self.given_up = 0
        self._answer = answer

    async def emit(self, event: Progress | LogEvent) -> None:
        self.events.append(event)

    async def ask(self, question: Question) -> Answer:
        self.asked.append(question)
        if isinstance(self._answer, WaygateError):
            raise self._answer
        if self._answer is None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.given_up += 1
                raise
        assert self._answer is not None
        return self._answer

    async def close_stream(self) -> None:
        self.closed += 1


def call_of(name: str, caller: Caller | None = None, who: Principal | None = None) -> Call:
    """A call of a tool."""
    return Call(
        request_id="r",
        endpoint="default",
        method="tools/call",
        name=name,
        params={"name": name},
        body=b"",
        principal=who or person("alice"),
        revision=MODERN,
        capabilities=FORMS,
        caller=caller or Caller(),
        deadline_s=0.0,
        target=name,
        provider="box",
    )


class Stage:
    """A host, how often its upstream was opened and closed, and the connections workers made."""

    def __init__(self, supervisor: TaskSupervisor) -> None:
        self.supervisor = supervisor
        self.upstream = Connected()
        self.opened = 0
        self.closed = 0
        self.problem: WaygateError | None = None
        self.may_open = asyncio.Event()
        self.may_open.set()
        self.is_dead = False
        self.lines: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self.shared = SharedUpstreams(supervisor, self._open_for)
        self.hidden: list[str] = []
        self.host = Host(KEY, self.shared, supervisor, self.hidden.append)

    def _open_for(self, _name: str, _config: UpstreamConfig) -> Callable[[Announce], Any]:
        return self._open

    @asynccontextmanager
    async def _open(self, announce: Announce) -> AsyncIterator[Connected]:
        await self.may_open.wait()
        if self.problem is not None:
            raise self.problem
        self.opened += 1
        self.upstream.announce = announce
        try:
            yield self.upstream
        finally:
            self.closed += 1

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, as a worker does."""
        if self.is_dead:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        there = await asyncio.open_connection(sock=theirs)
        self.lines.append((writer, there[1]))
        self.host.accept(*there)
        return reader, writer

    def die(self) -> None:
        """Break every connection off, as the end of the process does."""
        for _, theirs in self.lines:
            theirs.transport.abort()

    def worker(
        self, heard: list[Event] | None = None, config: UpstreamConfig = CONFIG, key: bytes = KEY
    ) -> AbstractAsyncContextManager[HostedUpstream]:
        """What a worker uses the upstream by."""
        events = [] if heard is None else heard
        upstream = HostedUpstream(
            frames.Open(key, "box", config), self.dial, events.append, self.supervisor
        )
        return _opened(upstream)


@asynccontextmanager
async def _opened(upstream: HostedUpstream) -> AsyncIterator[HostedUpstream]:
    try:
        await upstream.open()
        yield upstream
    finally:
        await upstream.close()


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """A host that is open until the block ends."""
    async with asyncio.timeout(10), TaskSupervisor(close_s=1) as supervisor:
        made = Stage(supervisor)
        try:
            yield made
        finally:
            await made.shared.close()
            for ours, theirs in made.lines:
                ours.transport.abort()
                theirs.transport.abort()
            await asyncio.sleep(0)


async def until(is_so: Callable[[], bool]) -> None:
    """Let the loop run until something is so; the stage's own bound ends it."""
    while not is_so():  # noqa: ASYNC110 - what is waited for has no event of its own
        await asyncio.sleep(0)
