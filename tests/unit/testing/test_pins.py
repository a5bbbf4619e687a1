"""The pin store in memory gives versions and times; the rest is its contract's."""

from __future__ import annotations

from waygate_mcp.model.pins import Sighting
from waygate_mcp.testing.pins import MemoryPins


async def test_times_are_those_of_its_clock() -> None:
    store = MemoryPins(lambda: 5.0)
    (pin,) = await store.see([Sighting("files", "tool", "read", "a" * 64, "{}", True)])
    assert (pin.first_seen_at, pin.approved_at, pin.version) == (5.0, 5.0, 1)
