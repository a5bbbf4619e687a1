"""An upstream whose processes another process holds: this side of the connection to it.

Knows one connection for each upstream a worker uses, many calls on it, and how it comes back after the
host died: calls in flight are interrupted, since nobody knows what became of them, and lists are taken for
changed. Refuses to know how processes are started, and whose they are: the host does (`hosting.py`).
Spec: protocol.md 6.4 and 8.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from itertools import count
from typing import Any

import msgspec

from waygate_mcp.errors import (
    ConfigError,
    InterruptedCallError,
    LimitError,
    UpstreamProtocolError,
    UpstreamUnavailableError,
    WaygateError,
)
from waygate_mcp.model.call import Call, Outcome
from waygate_mcp.model.catalog import Features, Kind, Listing, Viewer
from waygate_mcp.model.event import ElicitationCompleted, Event, ListChanged, ResourceUpdated
from waygate_mcp.model.ports import Announce, Supervisor
from waygate_mcp.upstreams import host_frames as frames
from waygate_mcp.upstreams.connector import OpenUpstream
from waygate_mcp.upstreams.host_frames import FrameStream
from waygate_mcp.upstreams.opening import UpstreamConfig
from waygate_mcp.upstreams.subscriptions import Subscriptions

__all__ = ["Dial", "HostedUpstream", "hosted_by"]

_log = logging.getLogger(__name__)
_MAX_QUEUED = 1_024
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.2, 5.0
_MARGIN_S = 5.0
_SETTLE_S = 5.0
_VERSIONS = 1 << 40
_LOST = "The process that held the upstream server stopped; the outcome is unknown."

Dial = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""Connects to the host; raises OSError where nobody listens."""


def _no_secrets(_texts: Iterable[str]) -> tuple[str, ...]:
    return ()


def hosted_by(
    dial: Dial, key: bytes, secrets_in: Callable[[Iterable[str]], tuple[str, ...]] = _no_secrets
) -> Callable[[str, UpstreamConfig, Supervisor], OpenUpstream]:
    """Give how upstreams are opened in the host that `dial` reaches and that wants to see `key`.

    `secrets_in` gives what must not be logged of the texts of a configuration.
    """

    def way(name: str, config: UpstreamConfig, supervisor: Supervisor) -> OpenUpstream:
        texts = (config.command or "", *config.args, *config.env.values())
        opening = frames.Open(key, name, config, secrets_in(texts))

        def open_hosted(announce: Announce) -> AbstractAsyncContextManager[HostedUpstream]:
            return _opened(HostedUpstream(opening, dial, announce, supervisor))

        return open_hosted

    return way


@asynccontextmanager
async def _opened(upstream: HostedUpstream) -> AsyncIterator[HostedUpstream]:
    try:
        await upstream.open()
        yield upstream
    finally:
        await upstream.close()


class _Link:
    """One connection to the host, and what is under way on it, by number."""

    def __init__(self, stream: FrameStream) -> None:
        self.stream = stream
        self.queues: dict[int, asyncio.Queue[Any]] = {}
        self.watches: dict[int, _Watch] = {}
        self.is_lost = False

    def lose(self) -> None:
        """End what is under way."""
        self.is_lost = True
        self.stream.close()
        for queue in self.queues.values():
            with suppress(asyncio.QueueFull):
                queue.put_nowait(None)
        while self.watches:
            self.watches.popitem()[1].on_end()


class _Watch(msgspec.Struct, frozen=True):
    """Who is told of tasks."""

    on_task: Callable[[bytes], None]
    on_end: Callable[[], None]


class HostedUpstream:
    """A `connector.Connector` by way of the host; `open` before use, `close` after."""

    def __init__(
        self, opening: frames.Open, dial: Dial, announce: Announce, supervisor: Supervisor
    ) -> None:
        self.features = Features()
        self.instructions: str | None = None
        self.eras: tuple[str, ...] = ()
        self.revision = ""
        self.is_interactive = False
        self.refused_questions = 0
        self._opening = opening
        self._name = opening.name
        self._open_s = opening.config.open_timeout_s + _MARGIN_S
        self._dial = dial
        self._announce = announce
        self._supervisor = supervisor
        self._numbers = count(1)
        self._link: _Link | None = None
        self._links = 0
        self._linking = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscriptions = Subscriptions()
        self._is_closed = False

    async def open(self) -> None:
        """Have the host open it.

        Raises:
            UpstreamError: the host is not reached, or cannot open it.
        """
        await self._linked()

    async def close(self) -> None:
        """Give it back; the host closes it with its last user."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        if self._link is not None:
            self._link.lose()

    async def call(self, call: Call) -> Outcome:
        """See Provider.

        Raises:
            InterruptedCallError: the host ended meanwhile; also see Provider.
        """
        if call.method == "resources/unsubscribe":
            self._subscriptions.take_back(call)
        outcome = await self._call(call)
        if call.method == "resources/subscribe":
            self._subscriptions.note(call)
        return outcome

    async def _call(self, call: Call) -> Outcome:
        link = await self._linked()
        number, queue = self._begin(link)
        asking: dict[int, asyncio.Task[None]] = {}
        try:
            await link.stream.send(frames.frame_of(call, number))
            return await self._follow(link, queue, call, asking)
        except asyncio.CancelledError:
            if not link.is_lost:
                link.stream.put(frames.Cancel(number))
            raise
        finally:
            del link.queues[number]
            # A question must not outlive its call, which is gone once this returns.
            for task in asking.values():
                task.cancel()
            if asking:
                await asyncio.wait(asking.values(), timeout=_SETTLE_S)

    async def listing(self, kind: Kind, viewer: Viewer) -> Listing:
        """See Provider."""
        person, capabilities = frames.Person.of(viewer.principal), viewer.capabilities
        frame = await self._wish(lambda number: frames.List(number, kind, person, capabilities))
        if not isinstance(frame, frames.Listed):
            raise UpstreamProtocolError(self._name, "the host answered something else than a list")
        # A new host counts from one again, and what was built from a version is kept.
        version = self._links * _VERSIONS + frame.listing.version
        return msgspec.structs.replace(frame.listing, version=version)

    async def refresh(self, kind: Kind, viewer: Viewer) -> None:
        """See Refreshable."""
        person, capabilities = frames.Person.of(viewer.principal), viewer.capabilities
        with suppress(WaygateError):  # the list is read anew all the same, and says so
            await self._wish(lambda number: frames.Refresh(number, kind, person, capabilities))

    async def probe(self) -> None:
        """See Connector."""
        await self._wish(frames.Probe)

    def forget_session(self, session_id: str) -> None:
        """See Connector."""
        self._subscriptions.forget_session(session_id)
        if self._link is not None and not self._link.is_lost:
            self._link.stream.put(frames.Forget(session_id))

    def tell_roots_changed(self, session_id: str) -> None:
        """See Connector."""
        if self._link is not None and not self._link.is_lost:
            self._link.stream.put(frames.RootsChanged(session_id))

    @asynccontextmanager
    async def tell_of_tasks(
        self, ids: tuple[str, ...], on_task: Callable[[bytes], None], on_end: Callable[[], None]
    ) -> AsyncIterator[frozenset[str]]:
        """See TaskTeller."""
        link = await self._linked()
        number, queue = self._begin(link)
        try:
            try:
                link.watches[number] = _Watch(on_task, on_end)
                await link.stream.send(frames.Watch(number, ids))
                frame = await self._next(queue)
            finally:
                del link.queues[number]
            if not isinstance(frame, frames.Agreed):
                raise UpstreamProtocolError(self._name, "the host agreed to nothing")
            yield frozenset(frame.ids)
        finally:
            link.watches.pop(number, None)
            if not link.is_lost:
                link.stream.put(frames.Cancel(number))

    # --- one call

    def _begin(self, link: _Link) -> tuple[int, asyncio.Queue[Any]]:
        number = next(self._numbers)
        # One place more than is ever filled with events: the end always finds room.
        queue: asyncio.Queue[Any] = asyncio.Queue(_MAX_QUEUED + 8)
        link.queues[number] = queue
        return number, queue

    async def _wish(self, worded: Callable[[int], frames.FromWorker]) -> Any:
        """Have the host do something, and give the one frame that answers it.

        Raises:
            WaygateError: see `_next`.
        """
        link = await self._linked()
        number, queue = self._begin(link)
        try:
            await link.stream.send(worded(number))
            return await self._next(queue)
        except asyncio.CancelledError:
            if not link.is_lost:
                link.stream.put(frames.Cancel(number))
            raise
        finally:
            del link.queues[number]

    async def _next(self, queue: asyncio.Queue[Any]) -> Any:
        """Give the next frame of a call or list.

        Raises:
            InterruptedCallError: the host is gone.
            WaygateError: what the host says instead of a result.
        """
        frame = await queue.get()
        if frame is None:
            raise InterruptedCallError(
                f"{self._name}: the host of processes ended", safe_message=_LOST
            )
        if isinstance(frame, frames.Failed):
            raise frame.failure.error()
        return frame

    async def _follow(
        self,
        link: _Link,
        queue: asyncio.Queue[Any],
        call: Call,
        asking: dict[int, asyncio.Task[None]],
    ) -> Outcome:
        """Hand events and questions to the caller until the result is there."""
        while True:
            frame = await self._next(queue)
            if isinstance(frame, frames.Emitted | frames.Logged):
                await call.caller.emit(frame.event)
            elif isinstance(frame, frames.Asked):
                asking[frame.question] = self._supervisor.start(
                    self._ask(link, call, frame), name=f"ask:{self._name}"
                )
            elif isinstance(frame, frames.Unasked):
                if (task := asking.get(frame.question)) is not None:
                    task.cancel()
            elif isinstance(frame, frames.CloseStream):
                await call.caller.close_stream()
            elif isinstance(frame, frames.Replied):
                self.is_interactive = frame.is_interactive
                self.refused_questions = frame.refused_questions
                return frame.reply
            else:
                assert isinstance(frame, frames.Required), "lists are asked for elsewhere"
                return frame.required

    async def _ask(self, link: _Link, call: Call, asked: frames.Asked) -> None:
        """Ask the client, and carry the answer to the host."""
        said: frames.Answered | frames.Unanswered
        try:
            answer = await call.caller.ask(asked.what)
            said = frames.Answered(asked.number, asked.question, answer)
        except WaygateError as exc:
            said = frames.Unanswered(asked.number, asked.question, frames.Failure.of(exc))
        with suppress(WaygateError):  # the host is gone, and the call is told so
            await link.stream.send(said)

    # --- the connection

    async def _linked(self) -> _Link:
        """Give the connection, made where there is none; one caller makes it for all.

        Raises:
            UpstreamError: the host is not reached, or cannot open the upstream.
        """
        async with self._linking:
            link = self._link
            if link is not None and not link.is_lost:
                return link
            if self._is_closed:
                raise UpstreamUnavailableError(self._name, "is closed")
            try:
                async with asyncio.timeout(self._open_s):
                    link = await self._make_link()
            except TimeoutError as exc:
                text = "the host of processes did not answer in time"
                raise UpstreamUnavailableError(self._name, text) from exc
            self._link = link
            self._links += 1
            self._start(self._read(link), "host")
            return link

    async def _make_link(self) -> _Link:
        try:
            reader, writer = await self._dial()
        except OSError as exc:
            text = f"the host of processes is not reached: {exc}"
            raise UpstreamUnavailableError(self._name, text) from exc
        stream = FrameStream(reader, writer, self._name, frames.FromHost)
        try:
            await stream.send(self._opening)
            frame = await stream.receive()
            while isinstance(frame, frames.Changed):
                frame = await stream.receive()
            if isinstance(frame, frames.Failed):
                error = frame.failure.error()
                if isinstance(error, ConfigError):  # it could be started when we looked
                    raise UpstreamUnavailableError(self._name, str(error))
                raise error
            if not isinstance(frame, frames.Opened):
                raise UpstreamUnavailableError(self._name, "the host of processes ended")
        except BaseException:
            stream.close()
            raise
        self._take(frame)
        return _Link(stream)

    def _take(self, opened: frames.Opened) -> None:
        """Take what is known of the upstream."""
        self.features, self.instructions = opened.features, opened.instructions
        self.eras, self.revision = opened.eras, opened.revision

    async def _read(self, link: _Link) -> None:
        """Hand out what the host sends until it is gone; then see to it that it comes back."""
        try:
            while (frame := await link.stream.receive()) is not None:
                if isinstance(frame, frames.Changed):
                    self._announce(self._event_of(frame))
                elif isinstance(frame, frames.Opened):
                    self._take(frame)
                elif (watch := link.watches.get(frame.number)) is not None and isinstance(
                    frame, frames.Told | frames.Done
                ):
                    self._tell(link, watch, frame)
                elif (queue := link.queues.get(frame.number)) is not None:
                    self._queue(queue, frame)
        finally:
            link.lose()
        _log.warning("%s: the host of processes is gone", self._name)
        with suppress(LimitError):  # the server stops
            self._start(self._come_back(), "host-again")

    def _tell(self, link: _Link, watch: _Watch, frame: frames.Told | frames.Done) -> None:
        """Tell of a task, or that no more will be told."""
        if isinstance(frame, frames.Told):
            watch.on_task(frame.params)
        else:
            del link.watches[frame.number]
            watch.on_end()

    def _queue(self, queue: asyncio.Queue[Any], frame: Any) -> None:
        """Queue a frame; what comes too fast for its reader is dropped, unless somebody waits for it."""
        is_event = isinstance(frame, frames.Emitted | frames.Logged)
        if is_event and queue.qsize() >= _MAX_QUEUED:
            _log.debug("%s: an event was dropped", self._name)
            return
        try:
            queue.put_nowait(frame)
        except asyncio.QueueFull:
            _log.error("%s: the host sent more than can be taken", self._name)

    async def _come_back(self) -> None:
        """Connect again, ever less often; whoever calls meanwhile tries at once."""
        pause_s = _FIRST_PAUSE_S
        while not self._is_closed:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _MAX_PAUSE_S)
            try:
                await self._linked()
            except WaygateError as exc:
                _log.debug("%s: not yet there again: %s", self._name, exc)
                continue
            for kind in Kind:
                self._announce(ListChanged(self._name, kind))
            now_s = asyncio.get_running_loop().time()
            await self._subscriptions.renew(self._name, self._call, self._announce, now_s)
            return

    def _event_of(self, changed: frames.Changed) -> Event:
        if changed.elicitation_id is not None and changed.session_id is not None:
            return ElicitationCompleted(self._name, changed.session_id, changed.elicitation_id)
        if changed.kind is None:
            return ResourceUpdated(self._name, changed.uri, changed.session_id)
        return ListChanged(self._name, changed.kind)

    def _start(self, work: Any, what: str) -> None:
        task: asyncio.Task[None] = self._supervisor.start(work, name=f"{what}:{self._name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
