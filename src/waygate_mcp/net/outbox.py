"""What a turn of the event loop has to write, written together at its end.

Knows when bytes are handed to sockets and pipes. Refuses to know which and whose. A write wakes whoever waits
for it at the other end, and that costs far more where the other end is idle: between two answers there is
time enough for it to fall asleep again, between two writes in a row there is not (docs/decisions/0129).

Whoever begins or wakes work that will write soon says so (`expect`), and from then to the end of the turn
writes are kept. Where nobody said so they are not, and a request that is alone waits for nothing and does
nothing more than it has to:

    expect     the loop's queue          what happens
    alone      work                      written at once
    once       work, flush               written right behind the work
    more       work, flush, work, …      put off behind the others, once
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakKeyDictionary

__all__ = ["Outbox"]

_SEVERAL = 2


class Outbox:
    """The writes of one loop's turn. `is_open` tells whether they are kept.

    `load` is how many requests are served at once, from whoever knows; with one there is nothing to gather.
    """

    def __init__(self) -> None:
        self.load = 0
        self.is_open = False
        self._expected = 0
        self._is_behind = False
        self._writes: list[Callable[[], None]] = []

    @staticmethod
    def here() -> Outbox:
        """Give that of the running loop."""
        loop = asyncio.get_running_loop()
        outbox = _outboxes.get(loop)
        if outbox is None:
            outbox = _outboxes[loop] = Outbox()
        return outbox

    def expect(self) -> None:
        """Note that work was put into the loop's queue just now that will write."""
        if self.load < _SEVERAL:
            return
        self._expected += 1
        if not self.is_open:
            self.is_open = True
            asyncio.get_running_loop().call_soon(self._flush)

    def add(self, write: Callable[[], None]) -> None:
        """Have something written at the end of the turn, while it `is_open`."""
        self._writes.append(write)

    def _flush(self) -> None:
        """Write, behind all the work that was expected when this was put into the queue."""
        if self._expected > 1 and not self._is_behind:
            self._go_behind()
            return
        writes, self._writes = self._writes, []
        if self._is_behind and self._expected:
            self._go_behind()  # the turn before read more; its work is in the queue already
        else:
            self.is_open = self._is_behind = False
            self._expected = 0
        left = iter(writes)
        try:
            for write in left:
                write()
        finally:
            for write in left:  # a failure of one is none of the others
                asyncio.get_running_loop().call_soon(write)

    def _go_behind(self) -> None:
        self._is_behind, self._expected = True, 0
        asyncio.get_running_loop().call_soon(self._flush)


_outboxes: WeakKeyDictionary[asyncio.AbstractEventLoop, Outbox] = WeakKeyDictionary()
