"""An upstream that is open: what whoever keeps it steady needs of it.

Knows signatures. Refuses to know where the connection is held: in this process (`streamable_http.py`), or in
the host of processes (`hosted.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from waygate_mcp.model.call import Call, Outcome
from waygate_mcp.model.catalog import Features, Kind, Listing, Viewer
from waygate_mcp.model.ports import Announce

__all__ = ["Connector", "OpenUpstream"]


class Connector(Protocol):
    """An upstream that is open."""

    @property
    def features(self) -> Features:
        """See Provider."""

    @property
    def instructions(self) -> str | None:
        """See Provider."""

    @property
    def eras(self) -> tuple[str, ...]:
        """The eras it is known to speak."""

    @property
    def revision(self) -> str:
        """The revision spoken to it."""

    @property
    def is_interactive(self) -> bool:
        """Tell whether it was seen asking where nobody can say who is meant."""

    @property
    def refused_questions(self) -> int:
        """How many questions of it could not be attributed to a call."""

    async def listing(self, kind: Kind, viewer: Viewer) -> Listing:
        """See Provider."""

    async def refresh(self, kind: Kind, viewer: Viewer) -> None:
        """See Refreshable."""

    async def call(self, call: Call) -> Outcome:
        """See Provider."""

    async def probe(self) -> None:
        """See that the server answers.

        Raises:
            UpstreamError: it does not.
        """

    def forget_session(self, session_id: str) -> None:
        """End what was opened for a session at our door that is over."""

    def tell_roots_changed(self, session_id: str) -> None:
        """Tell what was opened for a session at our door that its client's roots changed."""

    def tell_of_tasks(
        self,
        ids: tuple[str, ...],
        on_task: Callable[[bytes], None],
        on_end: Callable[[], None],
    ) -> AbstractAsyncContextManager[frozenset[str]]:
        """See TaskTeller."""


OpenUpstream = Callable[[Announce], AbstractAsyncContextManager[Connector]]
"""Opens the connector; its changes go to the given function."""
