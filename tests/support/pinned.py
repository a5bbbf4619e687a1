"""An upstream in memory whose definitions change, and a pin store that fails when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from tests.support.definitions import KEYS, encoded
from waygate_mcp.errors import StorageError
from waygate_mcp.model.call import Call, Outcome, Reply
from waygate_mcp.model.catalog import Condition, Entry, Features, Kind, Listing, Viewer
from waygate_mcp.model.pins import Pin, Sighting
from waygate_mcp.testing.pins import MemoryPins


class Upstream:
    """A `policy.pinned.Watched`: `show` changes it silently, `announce` says that it may have changed."""

    name = "files"
    features = Features(tools=True)

    def __init__(self) -> None:
        self.instructions: str | None = None
        self.changes = dict.fromkeys(Kind, 1)
        self.condition: Condition = "current"
        self.calls: list[str] = []
        self.readings = 0
        self.while_reading: Callable[[], None] = lambda: None
        self.before_sending: Callable[[], None] = lambda: None
        self._lists: dict[Kind, tuple[Entry, ...]] = {}

    def show(self, kind: Kind, *definitions: dict[str, Any]) -> None:
        """Give these definitions from now on."""
        self._lists[kind] = tuple(
            Entry(kind, one[KEYS.get(kind, "uri")], encoded(one)) for one in definitions
        )

    def show_raw(self, kind: Kind, name: str, definition: bytes) -> None:
        """Give this definition from now on, whatever it is."""
        self._lists[kind] = (Entry(kind, name, definition),)

    def announce(self, kind: Kind) -> None:
        """Let it be known that a list may have changed."""
        self.changes[kind] += 1

    async def listing(self, kind: Kind, viewer: Viewer) -> Listing:
        """See Provider."""
        self.readings += 1
        began = self.changes[kind]
        entries = self._lists.get(kind, ())
        await asyncio.sleep(0)
        self.while_reading()
        return Listing(entries, 1, 1_000, "public", self.condition, began)

    async def call(self, call: Call) -> Outcome:
        """See Provider: as `SteadyUpstream` does, it asks the gate when all else is ready."""
        self.before_sending()
        while call.gate is not None and (check := call.gate(call)) is not None:
            await check
        self.calls.append(call.target)
        return Reply(b"{}")

    async def refresh(self, kind: Kind, viewer: Viewer) -> None:
        """See Refreshable."""
        self.readings += 1

    def tell_of_tasks(
        self, ids: tuple[str, ...], on_task: Callable[[bytes], None], on_end: Callable[[], None]
    ) -> AbstractAsyncContextManager[frozenset[str]]:
        """See TaskTeller."""
        return nullcontext(frozenset(ids))


class FailingPins(MemoryPins):
    """A store that fails while `is_broken`, and counts what it was asked to write."""

    is_broken = False
    writes = 0

    async def load(self, after: int = 0) -> Sequence[Pin]:
        """See PinStore."""
        self._fail()
        return await super().load(after)

    async def see(self, sightings: Sequence[Sighting]) -> Sequence[Pin]:
        """See PinStore."""
        self._fail()
        self.writes += 1
        return await super().see(sightings)

    def _fail(self) -> None:
        if self.is_broken:
            raise StorageError("the disk is gone")
