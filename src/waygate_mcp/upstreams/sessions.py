"""Sessions at a legacy upstream, lent to callers.

Knows who may share a session: nobody but the same principal with the same capabilities, and with a
session of its own at our door, only that. Refuses to know what is said in one.
Spec: protocol.md 6.4; threat model rule 12.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from waygate_mcp.errors import LimitError, UpstreamError
from waygate_mcp.model.call import Call
from waygate_mcp.model.catalog import Viewer
from waygate_mcp.model.ports import Supervisor
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES, ClientCapabilities
from waygate_mcp.upstreams.legacy import LegacyConnector, LegacySession, SessionLostError

__all__ = ["OUR_OWN", "SessionKey", "SessionPool"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_FIRST_BACKOFF_S, _MAX_BACKOFF_S = 0.5, 30.0


class SessionKey(msgspec.Struct, frozen=True):
    """Whose session it is. `session_id` is the client's session at our door, if it has one."""

    principal: bytes
    capability_bits: int = 0
    session_id: str | None = None

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


class _Place:
    """Where a session is kept, or is being opened."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.session: LegacySession | None = None
        self.users = 0


class SessionPool:
    """The open sessions of one upstream.

    `now` is a monotonic clock. Sessions unused for `idle_s` are closed when another is opened; at
    most `most` are open.
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
    ) -> None:
        self._connector = connector
        self._supervisor = supervisor
        self._now = now
        self._most = most
        self._idle_s = idle_s
        self._watches_changes = watches_changes
        self._places: dict[SessionKey, _Place] = {}

    def __len__(self) -> int:
        """The number of sessions."""
        return len(self._places)

    async def get(self, key: SessionKey) -> LegacySession:
        """Give the session of `key`, opened where there is none; one opens at a time for each key.

        Raises:
            LimitError: every place is taken by a session in use.
            UpstreamError: it cannot be opened.
        """
        place = self._places.get(key)
        if place is None:
            await self._make_room()
            place = self._places.setdefault(key, _Place())
        place.users += 1
        try:
            async with place.lock:
                if place.session is None or place.session.is_lost:
                    place.session = await self._open(key)
                place.session.used_at_s = self._now()
                return place.session
        finally:
            place.users -= 1
            if place.session is None and not place.users:
                self._places.pop(key, None)

    async def use(self, key: SessionKey, work: Callable[[LegacySession], Awaitable[_T]]) -> _T:
        """Do `work` in the session of `key`, once more in a new one if the upstream lost it.

        It answered 404, so the work was not done the first time.
        Spec: 2025-11-25 basic/transports, "Session Management".
        """
        session = await self.get(key)
        try:
            return await work(session)
        except SessionLostError:
            return await work(await self.get(key))

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
        pushes = any(session.has(area, "listChanged") for area in ("tools", "prompts", "resources"))
        if self._watches_changes and (pushes or session.has("resources", "subscribe")):
            session.listening = self._supervisor.start(
                self._listen(session), name=f"session-stream:{self._connector.upstream}"
            )
        return session

    async def _listen(self, session: LegacySession) -> None:
        """Keep the session's own stream open; an upstream that has none is left alone."""
        event_id: str | None = None
        pause_s = _FIRST_BACKOFF_S
        while not session.is_lost:
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

    async def _make_room(self) -> None:
        """Close sessions nobody used for long; where all places are taken, the one idle longest."""
        idle = sorted(
            (
                (place.session.used_at_s, key)
                for key, place in self._places.items()
                if place.session is not None and place.session.is_idle and not place.users
                and key != OUR_OWN
            ),
            key=lambda pair: pair[0],
        )  # fmt: skip
        limit_s = self._now() - self._idle_s
        stale = [key for used_at_s, key in idle if used_at_s < limit_s]
        if not stale and len(self._places) >= self._most:
            if not idle:
                raise LimitError(
                    "sessions at an upstream", limit="sessions",
                    safe_message="Too many sessions are open at the upstream server.",
                )  # fmt: skip
            stale = [idle[0][1]]
        for key in stale:
            session = self._places.pop(key).session
            if session is not None:
                self._supervisor.start(
                    self._connector.close(session), name=f"session-end:{self._connector.upstream}"
                )
