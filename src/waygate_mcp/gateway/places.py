"""Which of several workers holds a conversation: what its ids say, and what that means here.

Knows slots (the numbered places of workers, filled again when one dies) and nodes (one process in a
slot, with a boot epoch). Refuses to know how another worker is reached: the door does that.

A legacy session belongs to a slot, since its token says all a successor needs. A parked call belongs to
a node: it died with its process, and whoever has the slot now must not be taken for it.
Spec: protocol.md 8.
"""

from __future__ import annotations

import os
import re

import msgspec

from waygate_mcp.errors import InterruptedCallError

__all__ = ["ALONE", "OwnedElsewhereError", "Place"]

_MARKED = re.compile(r"q?(\d{1,3})[.-]")


class OwnedElsewhereError(InterruptedCallError):
    """What is asked for is held by the worker in `slot`.

    A door that can reach it sends the request there; to all others the call is lost.
    """

    def __init__(self, slot: int, message: str = "") -> None:
        self.slot = slot
        super().__init__(message or f"held by worker {slot}")


class Place(msgspec.Struct, frozen=True):
    """The slot of this process, of `count` on this machine."""

    slot: int = 0
    count: int = 1

    def new_node(self) -> str:
        """Name this process: its slot and a boot epoch."""
        return f"{self.slot}.{os.urandom(6).hex()}"

    def mark(self, identifier: str) -> str:
        """Let an id say which worker gave it."""
        return f"{self.slot}-{identifier}"

    def owner_of(self, slot: int) -> int:
        """Give the slot that has what was given out by `slot` when there were more workers, perhaps."""
        return slot % self.count

    def slot_in(self, identifier: object) -> int | None:
        """Give the slot an id names, None where it names none there is."""
        marked = _MARKED.match(identifier) if isinstance(identifier, str) else None
        slot = int(marked[1]) if marked else self.count
        return slot if slot < self.count else None

    def other_slot(self, identifier: object) -> int | None:
        """Give the slot of another worker that an id names, None where it names this one or none."""
        slot = self.slot_in(identifier)
        return None if slot == self.slot else slot

    def heirs(self, slot: int) -> tuple[int, ...]:
        """Give the workers before this one that would serve a session of `slot`, the first that lives.

        All workers go through the slots in the same order, so that they find the same one.
        """
        distance = (self.slot - slot) % self.count
        return tuple((slot + step) % self.count for step in range(distance))


ALONE = Place()
"""The place of a process that has no neighbours."""
