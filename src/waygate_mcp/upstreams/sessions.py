"""Sessions at a legacy upstream, lent to callers.

Knows who may share a session: nobody but the same principal with the same capabilities, unless the
operator declared that the upstream keeps nothing of its callers. Refuses to know what is said in one.
Spec: protocol.md 6.4; threat model rule 12.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, Literal, TypeVar

import msgspec

from waygate_mcp.errors import LimitError, TooLargeError, UpstreamError, let_go
from waygate_mcp.model.call import Call
from waygate_mcp.model.catalog import Viewer
from waygate_mcp.model.event import ResourceUpdated
from waygate_mcp.model.ports import Supervisor
from waygate_mcp.protocol.capabilities import (
    NO_CAPABILITIES,
    ClientCapabilities,
    bits_without_roots_changed,
)
from waygate_mcp.protocol.versions import MODERN
from waygate_mcp.upstreams.legacy import (
    LegacyConnector,
    LegacySession,
    NoStreamError,
    SessionLostError,
)
from waygate_mcp.upstreams.outside_text import clipped
from waygate_mcp.upstreams.roots import RootsTeller

__all__ = ["OUR_OWN", "SessionKey", "SessionMode", "SessionPool"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_FIRST_BACKOFF_S, _MAX_BACKOFF_S = 0.5, 30.0
_LANES = 8


class SessionKey(msgspec.Struct, frozen=True):
    """Whose session it is. `session_id` is the client's session at our door, if it has one.

    `lane` tells sessions apart that one caller needs at the same time.
    """

    principal: bytes
    capability_bits: int = 0
    session_id: str | None = None
    lane: int = 0

    @classmethod
    def of_call(cls, call: Call) -> SessionKey:
        """Give the key of a caller."""
        return cls(call.principal.fingerprint, call.capabilities.bits, call.session_id)

    @classmethod
    def of_viewer(cls, viewer: Viewer) -> SessionKey:
        """Give the key of somebody who looks at lists."""
        return cls(viewer.principal.fingerprint, viewer.capabilities.bits)


OUR_OWN = SessionKey(b"", NO_CAPABILITIES.bits)
"""The gateway's own session: it asks what the upstream can do and hears of changes."""


_ALL_DECLARED: dict[str, Any] = {
    "sampling": {"tools": {}},
    "roots": {},
    "elicitation": {"form": {}, "url": {}},
}
_SHARED = SessionKey(b"*", ClientCapabilities.parse(_ALL_DECLARED, MODERN).bits)

SessionMode = Literal["client", "principal", "shared", "request"]
"""Who gets a session of its own (protocol.md 6.4).

client      each session at our door; callers without one, each principal
principal   each principal, with what its client can do
shared      nobody: one session for all, for upstreams that keep nothing of their callers
request     each request
"""


def _nothing(_session: LegacySession) -> None:
    """Hear of a session that came back, and do nothing."""


class _Place:
    """Where a session is kept, or is being opened."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.session: LegacySession | None = None
        self.users = 0
        self.is_over = False
        self.has_new_roots = False

    @property
    def is_free(self) -> bool:
        """Tell whether nobody uses or opens its session."""
        return not self.users and (self.session is None or self.session.is_idle)

    @property
    def is_quiet(self) -> bool:
        """Tell whether no call is under way in it; it may be kept for what it is subscribed to."""
        return not self.users and (self.session is None or not self.session.live)


class SessionPool:
    """The open sessions of one upstream.

    `now` is a monotonic clock. At most `most` sessions are open; those unused for `idle_s` are closed
    when another is opened, and by `sweep`. An upstream seen asking on a single channel gives each
    call a session of its own, at most eight for one caller, so that it is known who is asked.

    A session the upstream lost is opened again when it is needed: by a call, or by a subscription, which is
    made again; what may have changed meanwhile is announced. `on_revived` hears of our own that came back.
    """

    def __init__(
        self,
        connector: LegacyConnector,
        supervisor: Supervisor,
        now: Callable[[], float],
        *,
        most: int = 1_000,
        idle_s: float = 1_800.0,
        watches_changes: bool = True,
        mode: SessionMode = "client",
    ) -> None:
        self._connector = connector
        self._supervisor = supervisor
        self._now = now
        self._most = most
        self._idle_s = idle_s
        self._watches_changes = watches_changes
        self._mode = mode
        self._places: dict[SessionKey, _Place] = {}
        self._leased: set[SessionKey] = set()
        self._lost: dict[SessionKey, Counter[str]] = {}
        self._is_closed = False
        self.on_revived: Callable[[LegacySession], None] = _nothing
        self._freed = asyncio.Condition()
        self._roots = RootsTeller(connector, supervisor)
        connector.on_awaiting = self._listen_from_now_on

    def __len__(self) -> int:
        """The number of sessions."""
        return len(self._places)

    def key_of(self, key: SessionKey) -> SessionKey:
        """Give the key under which the session of a caller is kept, by the mode.

        News of roots are promised only where one client's are told: in a session opened for its own.
        """
        if self._mode == "shared":
            return msgspec.structs.replace(_SHARED, lane=key.lane)
        if self._mode == "client" and key.session_id is not None:
            return key
        bits = bits_without_roots_changed(key.capability_bits)
        if key.session_id is None and bits == key.capability_bits:
            return key
        return msgspec.structs.replace(key, session_id=None, capability_bits=bits)

    def at_hand(self, key: SessionKey) -> LegacySession | None:
        """Give the session of `key` that is open and that others use as well; None where it takes more.

        Most calls find it so. What they find lost was not run; see `use`.
        """
        key = self.key_of(key)
        if self._mode == "request" or (self._connector.is_interactive and key.session_id is None):
            return None
        place = self._places.get(key)
        session = None if place is None or place.lock.locked() else place.session
        if session is None or session.is_lost or session.channel.is_closed:
            return None
        session.used_at_s = self._now()
        return session

    async def get(self, key: SessionKey) -> LegacySession:
        """Give the session of `key`, opened where there is none; one opens at a time for each key.

        Raises:
            LimitError: every place is taken by a session in use.
            UpstreamError: it cannot be opened.
        """
        key = self.key_of(key)
        place = self._places.get(key)
        if place is None:
            await self._make_room()
            place = self._places.setdefault(key, _Place())
        place.users += 1
        try:
            async with place.lock:
                session = place.session
                if session is None or session.is_lost or session.channel.is_closed:
                    if session is not None and session.subscribed:
                        self._lost[key] = session.subscribed
                    if session is not None and session.channel.is_single:
                        await self._connector.close(session)
                    place.session = None
                    place.has_new_roots = False  # it asks for them itself
                    session = place.session = await self._open(key)
                    if place.has_new_roots:  # changed since it might have asked
                        self._roots.tell(session)
                session.used_at_s = self._now()
                return session
        finally:
            place.users -= 1
            if place.is_over and not place.users:
                self._close(place)
            if place.session is None and not place.users and self._places.get(key) is place:
                del self._places[key]

    async def use(
        self,
        key: SessionKey,
        work: Callable[[LegacySession], Awaitable[_T]],
        *,
        subscribed: str | None = None,
        is_lasting: bool = False,
    ) -> _T:
        """Do `work` in the session of `key`, once more in a new one if the upstream lost it.

        It answered 404, so the work was not done the first time. Of several sessions of `key`, one
        that is subscribed to the URI `subscribed` is taken, if there is one. Work that is lasting begins
        or goes on with something the session remembers: it is done where the next of it will be done.
        Spec: 2025-11-25 basic/transports, "Session Management".
        """
        key = self.key_of(key)
        if self._mode == "request":
            return await self._use_once(key, work)
        if self._connector.is_interactive and key.session_id is None and not is_lasting:
            return await self._use_alone(key, work, subscribed)
        return await self._use(key, work)

    async def _use(self, key: SessionKey, work: Callable[[LegacySession], Awaitable[_T]]) -> _T:
        """Do `work` in a session that others use as well."""
        session = await self.get(key)
        try:
            return await work(session)
        except SessionLostError as exc:
            let_go(exc)
        return await work(await self.get(key))

    async def _use_once(
        self, key: SessionKey, work: Callable[[LegacySession], Awaitable[_T]]
    ) -> _T:
        """Do `work` in a session that is ended after it."""
        await self._make_room()
        lane = next(n for n in count(1) if msgspec.structs.replace(key, lane=n) not in self._places)
        key = msgspec.structs.replace(key, lane=lane)
        try:
            return await self._use(key, work)
        finally:
            self._end(key)

    async def _use_alone(
        self,
        key: SessionKey,
        work: Callable[[LegacySession], Awaitable[_T]],
        subscribed: str | None,
    ) -> _T:
        """Do `work` in a session nobody else uses meanwhile; waits where all lanes are taken."""
        async with self._freed:
            while (lane := self._free_lane(key, subscribed)) is None:
                await self._freed.wait()
            self._leased.add(lane)
        try:
            return await self._use(lane, work)
        finally:
            self._leased.discard(lane)
            # Whoever was cancelled waits for nothing: the lock is only ever held between awaits.
            async with self._freed:
                self._freed.notify_all()  # who waits may want one lane of all

    def _free_lane(self, key: SessionKey, subscribed: str | None) -> SessionKey | None:
        """Give a lane nobody uses, the one that is open first, None where all are taken."""
        lanes = [msgspec.structs.replace(key, lane=number) for number in range(_LANES)]
        if subscribed is not None:
            lanes = [lane for lane in lanes if self._is_subscribed(lane, subscribed)] or lanes
        for lane in lanes:
            place = self._places.get(lane)
            if lane not in self._leased and (place is None or place.is_quiet):
                return lane
        return None

    def _is_subscribed(self, key: SessionKey, uri: str) -> bool:
        place = self._places.get(key)
        return place is not None and place.session is not None and uri in place.session.subscribed

    def forget(self, session_id: str) -> None:
        """End what was opened for a session at our door that is over."""
        for key in [key for key in (*self._places, *self._lost) if key.session_id == session_id]:
            self._end(key)

    def tell_roots_changed(self, session_id: str) -> None:
        """Tell what was opened for a session at our door that its client's roots changed."""
        for key, place in self._places.items():
            if key.session_id == session_id:
                place.has_new_roots = True  # for a session that is being opened
                session = place.session
                if session is not None and not (session.is_lost or session.channel.is_closed):
                    self._roots.tell(session)

    def sweep(self) -> None:
        """Close the sessions nobody used for long."""
        limit_s = self._now() - self._idle_s
        for used_at_s, key in self._idle():
            if used_at_s < limit_s:
                self._end(key)

    async def close(self) -> None:
        """End every session."""
        self._is_closed = True
        places, self._places = list(self._places.values()), {}
        for place in places:
            place.is_over = True
        sessions = [place.session for place in places if place.session is not None]
        async with asyncio.TaskGroup() as group:  # owned here: the group ends with this method
            for session in sessions:
                group.create_task(self._connector.close(session))

    async def _open(self, key: SessionKey) -> LegacySession:
        """Open a session and, where the upstream pushes anything, its stream."""
        session = await self._connector.open(ClientCapabilities(key.capability_bits))
        session.is_shared = self._mode == "shared"
        session.front = key.session_id
        pushes = session.has("resources", "subscribe") or any(
            session.has(area, "listChanged") for area in ("tools", "prompts", "resources")
        )
        if session.channel.is_single or (self._watches_changes and pushes):
            self._begin_listening(session, key)
        for uri, times in self._lost.pop(key, {}).items():
            try:
                await self._subscribe_again(session, uri, times)
            except UpstreamError as exc:
                _log.warning("%s: a subscription is lost: %s", self._connector.upstream, exc)
        return session

    def _begin_listening(self, session: LegacySession, key: SessionKey) -> None:
        session.listening = self._supervisor.start(
            self._listen(session, key), name=f"session-stream:{self._connector.upstream}"
        )

    def _listen_from_now_on(self, session: LegacySession) -> None:
        """Read the stream of a session in which a client awaits something, if nobody does yet."""
        if session.listening is not None:
            return
        keys = (key for key, place in self._places.items() if place.session is session)
        key = next(keys, None)
        if key is None:
            return  # about to be closed
        try:
            self._begin_listening(session, key)
        except LimitError as exc:
            _log.debug("%s: no stream of its session: %s", self._connector.upstream, exc)

    async def _renew(self, session: LegacySession, key: SessionKey) -> None:
        """Make up for a stream that broke off: something was missed, and a restart forgets subscriptions.

        Raises:
            UpstreamError: the upstream is not back, or lost the session.
        """
        await self._connector.ping(session)
        for uri, times in tuple(session.subscribed.items()):
            await self._subscribe_again(session, uri, times)
        if key == self.key_of(OUR_OWN):
            self.on_revived(session)

    async def _subscribe_again(self, session: LegacySession, uri: str, times: int) -> None:
        """Subscribe once more, and tell that something may have changed meanwhile.

        Raises:
            UpstreamError: no answer.
        """
        upstream = self._connector.upstream
        response = await self._connector.request(session, "resources/subscribe", {"uri": uri})
        if response.error is not None:
            problem = response.error.message
            session.subscribed.pop(uri, None)
            _log.warning(
                "%s: a subscription is lost: %s: %s", upstream, clipped(uri), clipped(problem)
            )
            return
        session.subscribed[uri] = times
        self._connector.tell(session, ResourceUpdated(upstream, uri))

    async def _listen(self, session: LegacySession, key: SessionKey) -> None:
        """Keep the session's own stream open; an upstream that has none is left alone."""
        pause_s = _FIRST_BACKOFF_S
        is_broken = False
        while not (session.is_lost or session.channel.is_closed):
            began_s = self._now()
            try:
                if is_broken:
                    await self._renew(session, key)
                    is_broken = False
                await self._connector.listen(session, session.heard_until)
            except NoStreamError as exc:
                _log.debug("%s: no stream of its session: %s", self._connector.upstream, exc)
                return
            except (UpstreamError, TooLargeError) as exc:
                is_broken = True
                _log.debug("%s: the stream of its session: %s", self._connector.upstream, exc)
                let_go(exc)
            if self._now() - began_s > _MAX_BACKOFF_S:
                pause_s = _FIRST_BACKOFF_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _MAX_BACKOFF_S)
        is_ours = key == self.key_of(OUR_OWN) and not session.channel.is_single
        place = self._places.get(key)
        if (is_ours or session.subscribed) and place is not None and place.session is session:
            # In a task of its own: opening it anew ends this one.
            name = f"session-again:{self._connector.upstream}"
            self._supervisor.start(self._revive(key, is_ours=is_ours), name=name)

    async def _revive(self, key: SessionKey, *, is_ours: bool) -> None:
        """Open a lost session again, because something is to be heard in it."""
        pause_s = _FIRST_BACKOFF_S
        while not self._is_closed and (is_ours or key in self._places or key in self._lost):
            try:
                session = await self.get(key)
            except (UpstreamError, LimitError) as exc:
                _log.debug("%s: a session is not back yet: %s", self._connector.upstream, exc)
                let_go(exc)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _MAX_BACKOFF_S)
            else:
                if is_ours:
                    self.on_revived(session)
                return

    def _idle(self) -> list[tuple[float, SessionKey]]:
        """Give the sessions nobody uses, the one unused for longest first."""
        kept = (self.key_of(OUR_OWN), OUR_OWN)
        idle = [
            (place.session.used_at_s, key)
            for key, place in self._places.items()
            if place.session is not None and place.is_free and key not in kept
        ]
        return sorted(idle, key=lambda pair: pair[0])

    async def _make_room(self) -> None:
        """Close sessions nobody used for long; where all places are taken, the one idle longest."""
        self.sweep()
        if len(self._places) < self._most:
            return
        idle = self._idle()
        if not idle:
            raise LimitError(
                "sessions at an upstream", limit="sessions",
                safe_message="Too many sessions are open at the upstream server.",
            )  # fmt: skip
        self._end(idle[0][1])

    def _end(self, key: SessionKey) -> None:
        """Close a session in the background."""
        self._lost.pop(key, None)
        place = self._places.pop(key, None)
        if place is None:
            return
        place.is_over = True
        if not place.users:  # else whoever opens it now does so
            self._close(place)

    def _close(self, place: _Place) -> None:
        """Say goodbye to a session no place holds any more."""
        session, place.session = place.session, None
        if session is None:
            return
        try:
            self._supervisor.start(
                self._connector.close(session), name=f"session-end:{self._connector.upstream}"
            )
        except LimitError as exc:  # the house closes, and with it the pool
            _log.debug("%s: a session ended without goodbye: %s", self._connector.upstream, exc)
