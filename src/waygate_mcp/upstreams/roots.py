"""Telling upstream sessions that the roots of their client changed.

Knows that a client may say so faster than an upstream takes it: one message is under way for each
session, and one more follows where the roots changed meanwhile. Refuses to know whose session it is.
Spec: 2025-11-25 client/roots, "Root List Changes".
"""

from __future__ import annotations

import logging

from waygate_mcp.errors import LimitError
from waygate_mcp.model.ports import Supervisor
from waygate_mcp.upstreams.legacy import LegacyConnector, LegacySession

__all__ = ["RootsTeller"]

_log = logging.getLogger(__name__)


class RootsTeller:
    """Tells sessions in the background; whoever says `tell` waits for nothing."""

    def __init__(self, connector: LegacyConnector, supervisor: Supervisor) -> None:
        self._connector = connector
        self._supervisor = supervisor
        self._under_way: dict[LegacySession, bool] = {}

    def tell(self, session: LegacySession) -> None:
        """Tell a session, once more where it is being told already."""
        is_under_way = session in self._under_way
        self._under_way[session] = is_under_way
        if is_under_way:
            return
        upstream = self._connector.upstream
        try:
            self._supervisor.start(self._tell(session), name=f"roots:{upstream}")
        except LimitError as exc:
            del self._under_way[session]
            _log.debug("%s: not told of changed roots: %s", upstream, exc)

    async def _tell(self, session: LegacySession) -> None:
        try:
            while True:
                await self._connector.notify(session, "notifications/roots/list_changed")
                if session.is_lost or not self._under_way[session]:
                    return
                self._under_way[session] = False
        finally:
            del self._under_way[session]
