"""The process that holds stdio upstreams for all workers of a machine: the other side of `hosted.py`.

Knows which workers use which upstream, so that however many workers there are, an upstream has one set of
processes; and how calls of all of them become calls of one connector. Whose a question is, and who may share
a process, is decided there, where all calls meet (protocol.md 6.4). Refuses to know documents: a worker sends
the configuration it wants, and shows the key of their parent first.
Spec: protocol.md 8; threat model rules 12, 28 and 39.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any

from waygate_mcp.errors import (
    LimitError,
    UpstreamProtocolError,
    UpstreamUnavailableError,
    WaygateError,
)
from waygate_mcp.model.call import Answer, InputRequired, LogEvent, Progress, Question
from waygate_mcp.model.event import ElicitationCompleted, Event, ListChanged
from waygate_mcp.model.ports import Announce, Supervisor
from waygate_mcp.upstreams import host_frames as frames
from waygate_mcp.upstreams.connector import Connector, OpenUpstream
from waygate_mcp.upstreams.host_frames import FrameStream
from waygate_mcp.upstreams.opening import UpstreamConfig

__all__ = ["Host", "SharedUpstreams"]

_log = logging.getLogger(__name__)
_MAX_CONNECTIONS = 4_096
_MAX_UNDER_WAY = 4_096
_MAX_UNWRITTEN_BYTES = 64 * 1024 * 1024
_FIRST_FRAME_S = 10.0
_CLOSE_S = 10.0

_Wish = frames.Begin | frames.List | frames.Refresh | frames.Probe | frames.Watch

OpenFor = Callable[[str, UpstreamConfig], OpenUpstream]
"""Gives how the processes of an upstream are opened; raises ConfigError where they cannot be."""


class _Shared:
    """An upstream, open or about to be, and who hears of its changes."""

    def __init__(self, name: str, config: UpstreamConfig) -> None:
        self.name = name
        self.config = config
        self.listeners: list[Announce] = []
        self.opened: asyncio.Future[Connector] = asyncio.get_running_loop().create_future()
        self.closing = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def announce(self, event: Event) -> None:
        """Pass an event on to every worker."""
        for listener in tuple(self.listeners):
            listener(event)


class SharedUpstreams:
    """The upstreams in use. Each is opened by a task of its own and closed with its last user."""

    def __init__(self, supervisor: Supervisor, open_for: OpenFor) -> None:
        self._supervisor = supervisor
        self._open_for = open_for
        self._shared: list[_Shared] = []

    def __len__(self) -> int:
        """The number of upstreams that are open, or are being opened or closed."""
        return len(self._shared)

    @asynccontextmanager
    async def use(
        self, name: str, config: UpstreamConfig, announce: Announce
    ) -> AsyncIterator[Connector]:
        """Give an upstream, shared with all who want it in the same words.

        Raises:
            UpstreamError: it cannot be opened; the next who asks tries again.
            ConfigError: see `open_processes`.
        """
        shared = self._find(name, config) or self._begin(name, config)
        shared.listeners.append(announce)
        try:
            yield await asyncio.shield(shared.opened)
        finally:
            shared.listeners.remove(announce)
            if not shared.listeners:
                shared.closing.set()
                if not shared.opened.done() and shared.task is not None:
                    shared.task.cancel()  # nobody is left who wants it

    async def close(self) -> None:
        """Close all, whoever uses them."""
        tasks = [shared.task for shared in self._shared if shared.task is not None]
        for shared in self._shared:
            shared.closing.set()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_S)

    def _find(self, name: str, config: UpstreamConfig) -> _Shared | None:
        return next(
            (
                one
                for one in self._shared
                if one.name == name and one.config == config and not one.closing.is_set()
            ),
            None,
        )

    def _begin(self, name: str, config: UpstreamConfig) -> _Shared:
        opener = self._open_for(name, config)
        shared = _Shared(name, config)
        shared.task = self._supervisor.start(self._keep(shared, opener), name=f"hold:{name}")
        self._shared.append(shared)
        return shared

    async def _keep(self, shared: _Shared, opener: OpenUpstream) -> None:
        """Open an upstream, hold it open, close it: all in one task."""
        try:
            async with opener(shared.announce) as upstream:
                shared.opened.set_result(upstream)
                await shared.closing.wait()
        except WaygateError as exc:
            _log.info("%s: %s", shared.name, exc)
            if not shared.opened.done():
                shared.opened.set_exception(exc)
        finally:
            self._shared.remove(shared)
            shared.closing.set()  # not for those who come now
            if not shared.opened.done():
                shared.opened.set_exception(UpstreamUnavailableError(shared.name, "was not opened"))
            if not shared.opened.cancelled():
                shared.opened.exception()  # seen, even if nobody waits any more


def _forget(_secret: str) -> None:
    """Hide nothing: there is no log."""


class Host:
    """Serves workers. `key` is what the first frame of each connection has to show.

    `on_secret` is told what of a configuration must not be logged.
    """

    def __init__(
        self,
        key: bytes,
        upstreams: SharedUpstreams,
        supervisor: Supervisor,
        on_secret: Callable[[str], None] = _forget,
    ) -> None:
        self._key = key
        self._on_secret = on_secret
        self._upstreams = upstreams
        self._supervisor = supervisor
        self._connections = 0

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection, or refuse it where there are too many."""
        stream = FrameStream(reader, writer, "a worker", frames.FromWorker)
        if self._connections >= _MAX_CONNECTIONS:
            stream.close()
            return
        try:
            self._supervisor.start(self._serve(stream), name="worker")
        except LimitError:
            stream.close()

    async def _serve(self, stream: FrameStream) -> None:
        self._connections += 1
        try:
            async with asyncio.timeout(_FIRST_FRAME_S):
                opening = await stream.receive()
            if not isinstance(opening, frames.Open) or not hmac.compare_digest(
                opening.key, self._key
            ):
                _log.error("somebody without the key connected to the host of processes")
                return
            for secret in opening.secrets:
                self._on_secret(secret)
            await _Connection(stream, opening, self._upstreams, self._supervisor).serve()
        except (TimeoutError, UpstreamProtocolError) as exc:
            _log.warning("a connection of a worker ended: %s", exc)
        finally:
            self._connections -= 1
            stream.close()


class _Connection:
    """One worker using one upstream."""

    def __init__(
        self,
        stream: FrameStream,
        opening: frames.Open,
        upstreams: SharedUpstreams,
        supervisor: Supervisor,
    ) -> None:
        self._stream = stream
        self._name = opening.name
        self._config = opening.config
        self._upstreams = upstreams
        self._supervisor = supervisor
        self._opened: frames.Opened | None = None
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._callers: dict[int, _Caller] = {}

    async def serve(self) -> None:
        """Serve until the worker is gone, whose calls are cancelled then."""
        try:
            async with self._upstreams.use(self._name, self._config, self._tell) as upstream:
                self._describe(upstream)
                await self._read(upstream)
        except WaygateError as exc:
            with suppress(WaygateError):  # it is gone already
                await self._stream.send(frames.Failed(0, frames.Failure.of(exc)))

    def _describe(self, upstream: Connector) -> None:
        """Say what the upstream can do, where the worker does not know it yet."""
        opened = frames.Opened(
            upstream.features, upstream.instructions, upstream.eras, upstream.revision
        )
        if opened != self._opened:
            self._opened = opened
            self._stream.put(opened)

    async def _read(self, upstream: Connector) -> None:
        try:
            while (frame := await self._stream.receive()) is not None:
                if isinstance(frame, _Wish):
                    self._begin(upstream, frame)
                elif isinstance(frame, frames.Forget):
                    upstream.forget_session(frame.session_id)
                elif isinstance(frame, frames.RootsChanged):
                    upstream.tell_roots_changed(frame.session_id)
                elif isinstance(frame, frames.Cancel):
                    if (task := self._under_way.get(frame.number)) is not None:
                        task.cancel("the worker cancelled")
                elif (caller := self._callers.get(frame.number)) is not None:
                    caller.take(frame)
        finally:
            for task in tuple(self._under_way.values()):
                task.cancel("the worker is gone")

    def _begin(self, upstream: Connector, frame: _Wish) -> None:
        """Work on a call, a list or another wish in a task of its own."""
        number = frame.number
        try:
            if len(self._under_way) >= _MAX_UNDER_WAY:
                raise LimitError("too many calls of one worker")
            task = self._supervisor.start(self._work(upstream, frame), name=f"call:{self._name}")
        except LimitError as exc:
            self._stream.put(frames.Failed(number, frames.Failure.of(exc)))
            return
        self._under_way[number] = task
        task.add_done_callback(lambda _: self._under_way.pop(number, None))

    async def _work(self, upstream: Connector, frame: _Wish) -> None:
        """Do it and send what comes of it, whatever comes."""
        # What nobody foresaw is logged by the supervisor, and is an error to the worker all the same.
        bug = UpstreamProtocolError(self._name, "failed in the host of processes; see its log")
        said: Any = frames.Failed(frame.number, frames.Failure.of(bug))
        is_cancelled = False
        try:
            said = await self._fulfil(upstream, frame)
        except WaygateError as exc:
            said = frames.Failed(frame.number, frames.Failure.of(exc))
        except asyncio.CancelledError:
            is_cancelled = True
            raise
        finally:
            if not is_cancelled:
                self._describe(upstream)
                await self._say(frame.number, said)

    async def _fulfil(self, upstream: Connector, frame: _Wish) -> Any:
        """Do what is wished; give the frame that says so."""
        if isinstance(frame, frames.Begin):
            return await self._call(upstream, frame)
        if isinstance(frame, frames.List):
            listing = await upstream.listing(frame.kind, frames.viewer_of(frame))
            return frames.Listed(frame.number, listing)
        if isinstance(frame, frames.Watch):
            await self._watch(upstream, frame)
        elif isinstance(frame, frames.Refresh):
            await upstream.refresh(frame.kind, frames.viewer_of(frame))
        else:
            await upstream.probe()
        return frames.Done(frame.number)

    async def _watch(self, upstream: Connector, frame: frames.Watch) -> None:
        """Tell of tasks until no more is heard of them, or the worker cancels."""
        ended = asyncio.Event()

        def tell(params: bytes) -> None:
            self._put(frames.Told(frame.number, params))

        async with upstream.tell_of_tasks(frame.ids, tell, ended.set) as agreed:
            await self._stream.send(frames.Agreed(frame.number, tuple(agreed)))
            await ended.wait()

    async def _say(self, number: int, said: Any) -> None:
        try:
            await self._stream.send(said)
        except LimitError as exc:
            self._stream.put(frames.Failed(number, frames.Failure.of(exc)))
        except UpstreamProtocolError:
            pass  # the worker is gone

    async def _call(
        self, upstream: Connector, begin: frames.Begin
    ) -> frames.Replied | frames.Required:
        number = begin.number
        caller = self._callers[number] = _Caller(self._stream, number, begin.log_level)
        try:
            outcome = await upstream.call(frames.call_of(begin, self._name, caller))
        finally:
            del self._callers[number]
        if isinstance(outcome, InputRequired):
            return frames.Required(number, outcome)
        return frames.Replied(number, outcome, upstream.is_interactive, upstream.refused_questions)

    def _tell(self, event: Event) -> None:
        """Tell the worker of a change."""
        if isinstance(event, ListChanged):
            self._put(frames.Changed(event.kind))
        elif isinstance(event, ElicitationCompleted):
            completed = event.elicitation_id
            self._put(frames.Changed(None, "", event.session_id, elicitation_id=completed))
        else:
            self._put(frames.Changed(None, event.uri, event.session_id))

    def _put(self, frame: frames.Changed | frames.Told) -> None:
        """Tell the worker what it did not ask for; one that does not listen at all is let go of."""
        if self._stream.unwritten_bytes > _MAX_UNWRITTEN_BYTES:
            self._stream.close()
            return
        try:
            self._stream.put(frame)
        except LimitError as exc:
            _log.warning("%s: news of it is too long: %s", self._name, exc)


class _Caller:
    """The client's side of a call, as the connector sees it: a worker away. See `ports.Caller`."""

    def __init__(self, stream: FrameStream, number: int, log_level: str | None) -> None:
        self._log_level = log_level
        self._stream = stream
        self._number = number
        self._questions = count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}

    @property
    def log_level(self) -> str | None:
        """See Caller; as it was when the call began."""
        return self._log_level

    async def emit(self, event: Progress | LogEvent) -> None:
        """See Caller."""
        if isinstance(event, Progress):
            await self._stream.send(frames.Emitted(self._number, event))
        else:
            await self._stream.send(frames.Logged(self._number, event))

    async def close_stream(self) -> None:
        """See Caller."""
        await self._stream.send(frames.CloseStream(self._number))

    async def ask(self, question: Question) -> Answer:
        """See Caller."""
        key = next(self._questions)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        try:
            await self._stream.send(frames.Asked(self._number, key, question))
            return await future
        except asyncio.CancelledError:
            self._stream.put(frames.Unasked(self._number, key))
            raise
        finally:
            del self._waiting[key]

    def take(self, said: frames.Answered | frames.Unanswered) -> None:
        """Take what the client said, or why it could not be asked."""
        future = self._waiting.get(said.question)
        if future is None or future.done():
            return
        if isinstance(said, frames.Answered):
            future.set_result(said.answer)
        else:
            future.set_exception(said.failure.error())
