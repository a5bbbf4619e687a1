"""Pins of definitions kept in memory: the port `PinStore` without a database.

Several `Pins` may share one, as processes share a database.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from waygate_mcp.model.pins import Approval, Pin, Sighting, approved, rejected, seen

__all__ = ["MemoryPins"]


class MemoryPins:
    """A `model.ports.PinStore` that lasts as long as it is referred to."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._pins: dict[tuple[str, str, str], Pin] = {}
        self._version = 0

    async def load(self, after: int = 0) -> Sequence[Pin]:
        """See PinStore."""
        newer = (pin for pin in self._pins.values() if pin.version > after)
        return sorted(newer, key=lambda pin: pin.version)

    async def see(self, sightings: Sequence[Sighting]) -> Sequence[Pin]:
        """See PinStore."""
        for one in sightings:
            pin = seen(self._pins.get(one.key), one, self._now())
            if pin is not None:
                self._keep(pin)
        return [self._pins[key] for key in dict.fromkeys(one.key for one in sightings)]

    async def approve(self, approvals: Sequence[Approval], by: str) -> Sequence[Pin]:
        """See PinStore."""
        known = ((self._pins.get(one.key), one) for one in approvals)
        found = [
            approved(pin, one.digest, by, self._now()) for pin, one in known if pin is not None
        ]
        return [self._keep(pin) for pin in found if pin is not None]

    async def reject(self, approvals: Sequence[Approval]) -> Sequence[Pin]:
        """See PinStore."""
        known = ((self._pins.get(one.key), one) for one in approvals)
        found = [rejected(pin, one.digest) for pin, one in known if pin is not None]
        return [self._keep(pin) for pin in found if pin is not None]

    def _keep(self, pin: Pin) -> Pin:
        self._version += 1
        kept = self._pins[pin.key] = msgspec.structs.replace(pin, version=self._version)
        return kept
