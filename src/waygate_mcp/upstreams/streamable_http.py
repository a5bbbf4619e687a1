"""An MCP server behind Streamable HTTP, of either era or both, as a Provider.

Knows which era a call is spoken in and where lists and changes come from. Refuses to know how either
era is spoken (`modern.py`, `legacy.py`) and how bytes travel (`net`).
Spec: protocol.md 2.5; decisions.md 22 to 24.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from typing import Any, Literal

import msgspec

import waygate_mcp
from waygate_mcp.errors import (
    LimitError,
    UnknownMethodError,
    UnknownNameError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
    let_go,
)
from waygate_mcp.model.call import Call, Outcome, Reply
from waygate_mcp.model.catalog import Features, Kind, Listing, Viewer
from waygate_mcp.model.event import Event, ListChanged, ResourceUpdated
from waygate_mcp.model.ports import Announce, Supervisor
from waygate_mcp.net.http import HttpExchange
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.headers import HeaderParam
from waygate_mcp.protocol.stateless import ListenFilter
from waygate_mcp.protocol.tasks import has_legacy_tasks, legacy_tasks
from waygate_mcp.protocol.versions import MODERN
from waygate_mcp.upstreams.calls import error_for
from waygate_mcp.upstreams.channel import Channel, HttpChannel, OpenChannel, RemoteError
from waygate_mcp.upstreams.detect import (
    CredentialsWantedError,
    Discovered,
    Verdict,
    features_of,
    judge,
    read_discovery,
    watchable,
)
from waygate_mcp.upstreams.legacy import (
    LegacyConnector,
    LegacySession,
    NotLegacyError,
    SessionLostError,
)
from waygate_mcp.upstreams.listing import Bounds, FetchPage, Listings, Page, read_all
from waygate_mcp.upstreams.modern import Answered, ModernConnector, Watcher
from waygate_mcp.upstreams.sessions import OUR_OWN, SessionKey, SessionMode, SessionPool
from waygate_mcp.upstreams.task_stream import task_stream
from waygate_mcp.upstreams.tasks import TaskCalls

__all__ = ["EraChoice", "Upstream", "UpstreamLimits", "connect"]

_log = logging.getLogger(__name__)
EraChoice = Literal["auto", "legacy", "modern"]
_SUBSCRIPTIONS = frozenset(("resources/subscribe", "resources/unsubscribe"))
_EMPTY_REPLY = Reply(b"{}")


class UpstreamLimits(msgspec.Struct, frozen=True):
    """Bounds of one upstream.

    `message_bytes` is the largest message read. `open_s` bounds finding the era and opening a
    session, `list_s` reading a whole list. `poll_s` is how long a list is believed of which the
    upstream announces no changes. `sessions`, `session_idle_s` and `session_mode` are about legacy
    sessions. Without `watches_changes` nothing is listened to unless somebody subscribes. `probe_s`
    is how long an answer to the probe for the modern era is awaited before the handshake is tried,
    where silence is an answer too.
    """

    message_bytes: int = 16 * 1024 * 1024
    open_s: float = 30.0
    list_s: float = 60.0
    poll_s: float = 5.0
    sessions: int = 1_000
    session_idle_s: float = 1_800.0
    session_mode: SessionMode = "client"
    watches_changes: bool = True
    probe_s: float | None = None
    bounds: Bounds = Bounds()


_LIMITS = UpstreamLimits()


@asynccontextmanager
async def connect(
    name: str,
    exchange: HttpExchange,
    path: str,
    announce: Announce,
    *,
    supervisor: Supervisor,
    era: EraChoice = "auto",
    limits: UpstreamLimits = _LIMITS,
) -> AsyncIterator[Upstream]:
    """Find the era of the server at `path` of `exchange` and serve it as the provider `name`.

    `era` pins what is spoken; `auto` probes. Leaving
    the context ends its sessions and streams.

    Raises:
        UpstreamError: it cannot be reached, or speaks no MCP.
    """
    channel = HttpChannel(name, exchange, path, limit_bytes=limits.message_bytes)
    upstream = Upstream(name, channel, announce, supervisor=supervisor, limits=limits)
    try:
        await upstream.open(era)
        yield upstream
    finally:
        await upstream.close()


class Upstream:
    """One server, spoken to in the client's era where it has both, as a `model.ports.Provider`.

    `open` before use, `close` after.
    """

    def __init__(
        self,
        name: str,
        channel: Channel,
        announce: Announce,
        *,
        supervisor: Supervisor,
        limits: UpstreamLimits = _LIMITS,
        now: Callable[[], float] = time.monotonic,
        open_channel: OpenChannel | None = None,
    ) -> None:
        client_info = {"name": "waygate-mcp", "version": waygate_mcp.__version__}
        numbers, prefix = count(1), secrets.token_hex(4)

        def new_id() -> str:
            return f"wg-{prefix}-{next(numbers)}"

        self._name = name
        self._announce = announce
        self._supervisor = supervisor
        self._limits = limits
        self._modern = ModernConnector(name, channel, new_id, client_info)
        self._legacy = LegacyConnector(
            name, channel, new_id, client_info, self._take_event, open_channel=open_channel
        )
        self._pool = SessionPool(
            self._legacy,
            supervisor,
            now,
            most=limits.sessions,
            idle_s=limits.session_idle_s,
            watches_changes=limits.watches_changes,
            mode=limits.session_mode,
        )
        self._tasks = TaskCalls(self._modern, self._legacy, supervisor, now)
        self._sweeping: asyncio.Task[None] | None = None
        self._listings = Listings(name, now, poll_s=limits.poll_s)
        self._watcher: Watcher | None = None
        self._own_session: LegacySession | None = None
        self._features = Features()
        self._instructions: str | None = None
        self._has_modern = False
        self._has_legacy: bool | None = None
        self._trying_legacy = asyncio.Lock()
        self.revision = ""

    # --- the Provider port

    @property
    def name(self) -> str:
        """See Provider."""
        return self._name

    @property
    def features(self) -> Features:
        """See Provider."""
        return self._features

    @property
    def instructions(self) -> str | None:
        """See Provider."""
        return self._instructions

    @property
    def eras(self) -> tuple[str, ...]:
        """The eras it is known to speak."""
        known = (("modern", self._has_modern), ("legacy", self._has_legacy))
        return tuple(era for era, has in known if has)

    @property
    def refused_questions(self) -> int:
        """How many questions of it could not be attributed to a call."""
        return self._legacy.refused_questions

    @property
    def is_interactive(self) -> bool:
        """Tell whether it was seen asking where nobody can say who is meant."""
        return self._legacy.is_interactive

    def start_sweeping(self) -> None:
        """Close idle sessions from now on even if no other is opened."""
        self._sweeping = self._supervisor.start(self._sweep(), name=f"sweep:{self._name}")

    async def listing(self, kind: Kind, viewer: Viewer) -> Listing:
        """See Provider. The class of viewers is a principal with its capabilities."""
        if not self._offers(kind):
            return Listing((), 0, ttl_ms=60_000)
        key = SessionKey.of_viewer(viewer)

        async def read() -> Listing:
            try:
                async with asyncio.timeout(self._limits.list_s):
                    listing = await self._read_listing(kind, key, viewer)
                return self._tasks.take_listing(listing) if kind is Kind.TOOL else listing
            except TimeoutError as exc:
                text = f"its list of {kind.value}s took too long"
                raise UpstreamTimeoutError(self._name, text) from exc

        return await self._listings.get(kind, key, read, watched=self._is_watched(kind))

    async def refresh(self, kind: Kind, viewer: Viewer) -> None:
        """See Refreshable. The list is read when it is next looked at."""
        self._listings.forget(kind)

    def forget_session(self, session_id: str) -> None:
        """End what was opened for a session at our door that is over."""
        self._pool.forget(session_id)

    def tell_roots_changed(self, session_id: str) -> None:
        """Tell the sessions opened for one at our door that its client's roots changed."""
        self._pool.tell_roots_changed(session_id)

    def call(self, call: Call) -> Coroutine[Any, Any, Outcome]:
        """See Provider. A plain function where the era is known: nothing is to be awaited for that."""
        if not self._has_modern:
            return self._call_legacy(call)
        if call.method in _SUBSCRIPTIONS:
            return self._subscribe_modern(call)
        if call.revision.is_modern or self._has_legacy is False:
            return self._call_modern(call)
        return self._call_as_found(call)

    async def _call_as_found(self, call: Call) -> Outcome:
        """Call in the era that is found to be there."""
        if await self._speaks_modern(call):
            return await self._call_modern(call)
        return await self._call_legacy(call)

    def tell_of_tasks(
        self, ids: tuple[str, ...], on_task: Callable[[bytes], None], on_end: Callable[[], None]
    ) -> AbstractAsyncContextManager[frozenset[str]]:
        """See TaskTeller."""
        return task_stream(self._modern, self._supervisor, ids, on_task, on_end)

    async def probe(self) -> None:
        """See that the server answers, in an era it has and in our own session.

        Raises:
            UpstreamError: it does not, or with a status that tells of an outage.
        """
        if self._has_modern:
            answered = await self._modern.discover()
            if judge(answered.status, answered.result, answered.error) is not Verdict.MODERN:
                raise UpstreamProtocolError(self._name, "has not the modern era any more")
            return
        try:
            await self._legacy.ping(await self._pool.get(OUR_OWN))
        except SessionLostError:
            await self._legacy.ping(await self._pool.get(OUR_OWN))

    # --- opening and closing

    async def open(self, era: EraChoice) -> None:
        """Find the era and what the server can do."""
        try:
            async with asyncio.timeout(self._limits.open_s):
                await self._find_era(era)
        except TimeoutError as exc:
            raise UpstreamUnavailableError(self._name, "took too long to answer") from exc

    async def close(self) -> None:
        """End streams and sessions."""
        sweeping, self._sweeping = self._sweeping, None  # it knows this connector
        if sweeping is not None:
            sweeping.cancel()
        if self._watcher is not None:
            await self._watcher.close()
        await self._pool.close()

    async def _find_era(self, era: EraChoice) -> None:
        """Probe as protocol.md 2.5 says."""
        if era == "legacy":
            await self._open_legacy()
            return
        answered = await self._probe()
        if answered is None:
            await self._open_silent(era)
            return
        verdict = judge(answered.status, answered.result, answered.error)
        if verdict is Verdict.CLOSED:
            raise CredentialsWantedError(self._name, f"wants credentials ({answered.status})")
        if verdict is Verdict.OUTAGE:
            raise UpstreamUnavailableError(self._name, f"answered HTTP {answered.status}")
        discovered = read_discovery(answered.result)
        if verdict is Verdict.MODERN and discovered is not None:
            self._has_legacy = None if era == "auto" else False
            await self._open_modern(discovered)
        elif era == "modern":
            text = "" if answered.error is None else f": {answered.error.message[:500]}"
            raise UpstreamProtocolError(self._name, f"is not a server of the modern era{text}")
        else:
            await self._open_legacy()

    async def _probe(self) -> Answered | None:
        """Ask `server/discover`; None where silence was the answer, and silence may be one."""
        if self._limits.probe_s is None:
            return await self._modern.discover()
        try:
            async with asyncio.timeout(self._limits.probe_s):
                return await self._modern.discover()
        except (TimeoutError, UpstreamTimeoutError):
            return None

    async def _open_silent(self, era: EraChoice) -> None:
        """Open a server that did not answer the probe: a legacy one, or a modern one that is slow.

        Spec: 2026-07-28 basic/transports/stdio, "Version Detection".
        """
        if era == "auto":
            try:
                await self._open_legacy()
                return
            except NotLegacyError as exc:
                if exc.rpc_code != jsonrpc.UNSUPPORTED_VERSION:
                    raise
        answered = await self._modern.discover()
        discovered = read_discovery(answered.result)
        if discovered is None or judge(200, answered.result, answered.error) is not Verdict.MODERN:
            raise UpstreamProtocolError(self._name, "is not a server of the modern era")
        self._has_legacy = None if era == "auto" else False
        await self._open_modern(discovered)

    async def _sweep(self) -> None:
        """Close idle sessions from time to time."""
        while True:
            await asyncio.sleep(max(self._limits.session_idle_s / 4, 1.0))
            self._pool.sweep()

    async def _open_modern(self, discovered: Discovered) -> None:
        """Take what `server/discover` said, and listen to changes."""
        self._has_modern = True
        self.revision = MODERN.text
        self._instructions = discovered.instructions
        self._features = features_of(discovered.capabilities, has_completion_capability=True)
        self._tasks.extensions = self._features.extensions
        lists = ListenFilter()
        if self._limits.watches_changes:
            lists = watchable(discovered.capabilities)
        self._watcher = Watcher(
            self._modern, self._supervisor, lists, self._take_event, self._forget_all
        )
        await self._watcher.start()

    async def _open_legacy(self) -> None:
        """Open our own session, and take what `initialize` said."""
        session = await self._pool.get(OUR_OWN)
        self._pool.on_revived = self._note_revived
        self._has_legacy = True
        self.revision = session.revision.text
        self._own_session = session
        self._instructions = session.instructions
        self._features = features_of(
            session.capabilities, has_completion_capability=session.revision.has_audio
        )
        if has_legacy_tasks(session.revision):
            self._tasks.terms = legacy_tasks(session.capabilities)
        terms = self._tasks.terms
        self._features = msgspec.structs.replace(self._features, tasks=terms, extensions=())

    def _note_revived(self, session: LegacySession) -> None:
        """Take our own session that came back, and every list for changed meanwhile."""
        self._own_session = session
        self._forget_all()

    # --- which era

    async def _speaks_modern(self, call: Call) -> bool:
        """Choose the era: the client's where the server has it, else the one it has.

        Whether a modern server also knows the handshake is found out when the first legacy client
        calls; servers do not say. Those who call meanwhile wait for it: on stdio it takes a process.
        """
        if not self._has_modern or self._has_legacy is False:
            return self._has_modern
        if call.revision.is_modern:
            return True
        if self._has_legacy is None:
            async with self._trying_legacy:
                await self._try_legacy(call)
        return not self._has_legacy

    async def _try_legacy(self, call: Call) -> None:
        """Open the session of a legacy caller, to see whether the server has sessions."""
        if self._has_legacy is None:
            try:
                await self._pool.get(SessionKey.of_call(call))
                self._has_legacy = True
            except NotLegacyError:
                self._has_legacy = False

    # --- calls

    async def _call_modern(self, call: Call) -> Outcome:
        """Call in the modern era; a refusal before execution is answered by trying once more."""
        params: Sequence[HeaderParam] = ()
        if call.method == "tools/call":
            known = self._listings.header_params(call.target)
            params = await self._header_params(call) if known is None else known
        if self._tasks.concerns_modern(call):
            outcome = await self._tasks.call_modern(call, params)
        else:
            outcome = await self._modern.call(call, params)
        if isinstance(outcome, RemoteError) and outcome.code == jsonrpc.HEADER_MISMATCH:
            self._take_event(ListChanged(self._name, Kind.TOOL))  # it changed, and nobody said so
            if call.gate is not None and (check := call.gate(call)) is not None:
                await check
            params = await self._header_params(call, fresh=True)
            outcome = await self._tasks.call_modern(call, params)
        if isinstance(outcome, RemoteError):
            said = error_for(call, self._name, outcome, is_modern=True)
            assert isinstance(said, Exception)
            raise said
        return outcome

    async def _header_params(self, call: Call, *, fresh: bool = False) -> Sequence[HeaderParam]:
        """Give what is to be mirrored of a tool's arguments, from the list of tools."""
        if call.method != "tools/call":
            return ()
        known = None if fresh else self._listings.header_params(call.target)
        if known is None:
            await self.listing(Kind.TOOL, Viewer(call.principal, call.capabilities))
            known = self._listings.header_params(call.target)
        return known or ()

    async def _call_legacy(self, call: Call) -> Outcome:
        """Call in a legacy session; cancelled, the upstream is told."""
        if self._tasks.wants_listing(call):
            await self.listing(Kind.TOOL, Viewer(call.principal, call.capabilities))
        ends_subscription = call.method == "resources/unsubscribe"
        key = SessionKey.of_call(call)
        session = self._pool.at_hand(key)
        if session is not None:
            try:
                return await self._call_in(session, call)
            except SessionLostError as exc:  # not run: once more, in a new one
                let_go(exc)
                return await self._call_in(await self._pool.get(key), call)
        return await self._pool.use(
            key,
            lambda session: self._call_in(session, call),
            subscribed=call.target if ends_subscription else None,
            is_lasting=self._tasks.outlasts(call),
        )

    async def _call_in(self, session: LegacySession, call: Call) -> Outcome:
        """Do one call in one session."""
        if call.method == "resources/unsubscribe" and not self._release(session, call.target):
            return _EMPTY_REPLY
        identifier = ""

        def on_sent(sent: str) -> None:
            nonlocal identifier
            identifier = sent

        try:
            outcome = await self._tasks.call_legacy(session, call, on_sent)
        except asyncio.CancelledError:
            if identifier:
                self._tell_of_cancellation(session, identifier)
            raise
        if call.method == "resources/subscribe":
            session.subscribed[call.target] += 1
        return outcome

    def _tell_of_cancellation(self, session: LegacySession, identifier: str) -> None:
        """Let the upstream know in the background: whoever was cancelled waits for nothing."""
        telling = self._legacy.cancel(session, identifier, "the client cancelled")
        try:
            self._supervisor.start(telling, name=f"cancel:{self._name}")
        except LimitError as exc:
            _log.debug("%s: not told of a cancellation: %s", self._name, exc)

    def _release(self, session: LegacySession, uri: str) -> bool:
        """Take one subscription back; True where it was the last."""
        if session.subscribed[uri] > 1:
            session.subscribed[uri] -= 1
            return False
        session.subscribed.pop(uri, None)
        return True

    async def _subscribe_modern(self, call: Call) -> Outcome:
        """Subscribe by the listening stream."""
        if self._watcher is None or not self._features.subscribe:
            raise UnknownMethodError(call.method)
        if call.method == "resources/unsubscribe":
            await self._watcher.unsubscribe(call.target)
            return _EMPTY_REPLY
        is_agreed = False
        try:
            await self._watcher.subscribe(call.target)
            is_agreed = call.target in self._watcher.confirmed.uris
            if not self._watcher.is_open:
                raise UpstreamUnavailableError(self._name, "its listening stream is not open")
            if not is_agreed:
                raise UnknownNameError("resource", call.name)
        finally:
            if not is_agreed:
                self._supervisor.start(
                    self._watcher.unsubscribe(call.target), name=f"unsubscribe:{self._name}"
                )
        return _EMPTY_REPLY

    # --- lists and changes

    def _offers(self, kind: Kind) -> bool:
        """Tell whether the server has entries of a kind at all."""
        if kind is Kind.TOOL:
            return self._features.tools
        return self._features.prompts if kind is Kind.PROMPT else self._features.resources

    async def _read_listing(self, kind: Kind, key: SessionKey, viewer: Viewer) -> Listing:
        """Read a whole list, in the modern era where the server has it."""
        bounds = self._limits.bounds
        if self._has_modern:

            async def fetch_modern(cursor: str | None) -> Page:
                return await self._modern.fetch_page(kind, cursor, viewer.capabilities)

            return await read_all(self._name, kind, fetch_modern, bounds, is_modern=True)

        async def in_session(session: LegacySession) -> Listing:
            async def fetch_legacy(cursor: str | None) -> Page:
                return await self._legacy.fetch_page(session, kind, cursor)

            fetch: FetchPage = fetch_legacy
            return await read_all(self._name, kind, fetch, bounds, is_modern=False)

        return await self._pool.use(key, in_session)

    def _is_watched(self, kind: Kind) -> bool:
        """Tell whether a change of a list would be announced to us."""
        if self._watcher is not None:
            confirmed = self._watcher.confirmed
            if kind is Kind.TOOL:
                return confirmed.tools
            return confirmed.prompts if kind is Kind.PROMPT else confirmed.resources
        session = self._own_session
        if session is None or session.listening is None or session.listening.done():
            return False
        area = {Kind.TOOL: "tools", Kind.PROMPT: "prompts"}.get(kind, "resources")
        return session.has(area, "listChanged")

    def _take_event(self, event: Event) -> None:
        """Forget a list that changed, and pass the news on."""
        if isinstance(event, ListChanged):
            self._listings.forget(event.kind)
        self._announce(event)

    def _forget_all(self) -> None:
        """Take all that is watched for changed, after a time in which nothing was heard."""
        for kind in Kind:
            self._take_event(ListChanged(self._name, kind))
        if self._watcher is not None:
            for uri in self._watcher.confirmed.uris:
                self._take_event(ResourceUpdated(self._name, uri))
