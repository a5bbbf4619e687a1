"""Sessions at a legacy upstream, lent to callers.

Knows who may share a session: nobody but the same principal with the same capabilities, unless the
operator declared that the upstream keeps nothing of its callers. Refuses to know what is said in one.
Spec: protocol.md 6.4; threat model rule 12.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, Literal, TypeVar

import msgspec

from waygate_mcp.errors import LimitError, UpstreamError, let_go
from waygate_mcp.model.call import Call
from waygate_mcp.model.catalog import Viewer
from waygate_mcp.model.ports import Supervisor
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES, ClientCapabilities
from waygate_mcp.protocol.versions import MODERN
from waygate_mcp.upstreams.legacy import LegacyConnector, LegacySession, SessionLostError

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


class _Place:
    """Where a session is kept, or is being opened."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.session: LegacySession | None = None
        self.users = 0

    @property
    def is_free(self) -> bool:
        """Tell whether nobody uses or opens its session."""
        return not self.users and (self.session is None or self.session.is_idle)


class SessionPool:
    """The open sessions of one upstream.

    `now` is a monotonic clock. At most `most` sessions are open; those unused for `idle_s` are closed
    when another is opened, and by `sweep`. An upstream seen asking on a single channel gives each
    call a session of its own, at most eight for one caller, so that it is known who is asked.
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
        self._freed = asyncio.Condition()

    def __len__(self) -> int:
        """The number of sessions."""
        return len(self._places)

    def key_of(self, key: SessionKey) -> SessionKey:
        """Give the key under which the session of a caller is kept, by the mode."""
        if self._mode == "shared":
            return msgspec.structs.replace(_SHARED, lane=key.lane)
        if self._mode == "client" or key.session_id is None:
            return key
        return msgspec.structs.replace(key, session_id=None)

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
                    if session is not None and session.channel.is_single:
                        await self._connector.close(session)
                    place.session = None
                    session = place.session = await self._open(key)
                session.used_at_s = self._now()
                return session
        finally:
            place.users -= 1
            if place.session is None and not place.users:
                self._places.pop(key, None)

    async def use(self, key: SessionKey, work: Callable[[LegacySession], Awaitable[_T]]) -> _T:
        """Do `work` in the session of `key`, once more in a new one if the upstream lost it.

        It answered 404, so the work was not done the first time.
        Spec: 2025-11-25 basic/transports, "Session Management".
        """
        key = self.key_of(key)
        if self._mode == "request":
            return await self._use_once(key, work)
        if self._connector.is_interactive and key.session_id is None:
            return await self._use_alone(key, work)
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
        self, key: SessionKey, work: Callable[[LegacySession], Awaitable[_T]]
    ) -> _T:
        """Do `work` in a session nobody else uses meanwhile; waits where all lanes are taken."""
        async with self._freed:
            while (lane := self._free_lane(key)) is None:
                await self._freed.wait()
            self._leased.add(lane)
        try:
            return await self._use(lane, work)
        finally:
            self._leased.discard(lane)
            # Whoever was cancelled waits for nothing: the lock is only ever held between awaits.
            async with self._freed:
                self._freed.notify()

    def _free_lane(self, key: SessionKey) -> SessionKey | None:
        """Give a lane nobody uses, the one that is open first, None where all are taken."""
        for number in range(_LANES):
            lane = msgspec.structs.replace(key, lane=number)
            place = self._places.get(lane)
            if lane not in self._leased and (place is None or place.is_free):
                return lane
        return None

    def sweep(self) -> None:
        """Close the sessions nobody used for long."""
        limit_s = self._now() - self._idle_s
        for used_at_s, key in self._idle():
            if used_at_s < limit_s:
                self._end(key)

    async def close(self) -> None:
        """End every session."""
        places, self._places = list(self._places.values()), {}
        sessions = [place.session for place in places if place.session is not None]
        async with asyncio.TaskGroup() as group:  # owned here: the group ends with this method
            for session in sessions:
                group.create_task(self._connector.close(session))

    async def _open(self, key: SessionKey) -> LegacySession:
        """Open a session and, where the upstream pushes anything, its stream."""
        session = await self._connector.open(ClientCapabilities(key.capability_bits))
        session.is_shared = self._mode == "shared"
        pushes = session.has("resources", "subscribe") or any(
            session.has(area, "listChanged") for area in ("tools", "prompts", "resources")
        )
        if session.channel.is_single or (self._watches_changes and pushes):
            session.listening = self._supervisor.start(
                self._listen(session), name=f"session-stream:{self._connector.upstream}"
            )
        return session

    async def _listen(self, session: LegacySession) -> None:
        """Keep the session's own stream open; an upstream that has none is left alone."""
        event_id: str | None = None
        pause_s = _FIRST_BACKOFF_S
        while not (session.is_lost or session.channel.is_closed):
            began_s = self._now()
            try:
                event_id = await self._connector.listen(session, event_id)
            except UpstreamError as exc:
                _log.debug("%s: no stream of its session: %s", self._connector.upstream, exc)
                if event_id is None:
                    return
            if self._now() - began_s > _MAX_BACKOFF_S:
                pause_s = _FIRST_BACKOFF_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _MAX_BACKOFF_S)

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
        place = self._places.pop(key, None)
        if place is not None and place.session is not None:
            self._supervisor.start(
                self._connector.close(place.session),
                name=f"session-end:{self._connector.upstream}",
            )
