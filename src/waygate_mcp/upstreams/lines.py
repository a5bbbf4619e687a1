"""Lines of one upstream, opened when they are needed and again after they broke off.

Knows that a line is locked to the era of its first request: one serves the modern era, and each legacy
session has its own. Refuses to know what a line is made of.
Spec: protocol.md 2.5; threat model rule 26.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from waygate_mcp.errors import WaygateError
from waygate_mcp.net.http import Header
from waygate_mcp.upstreams.breaker import LeftAloneError
from waygate_mcp.upstreams.channel import Begun, Claim
from waygate_mcp.upstreams.multiplex import Line, LineConversation, Multiplex

__all__ = ["Backoff", "Lines", "ModernLine"]

OpenLine = Callable[[Multiplex], Awaitable[Line]]
"""Opens a line whose messages go to the Multiplex."""


class Backoff:
    """How long to wait before something is opened again: longer after each failure in a row.

    The first failure costs nothing. `now` is a monotonic clock; what held for `steady_s` counts as a
    success. One outage breaks all that is open, and is one failure: what was opened before the last one
    tells nothing new.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        *,
        first_s: float = 0.5,
        most_s: float = 30.0,
        steady_s: float = 10.0,
    ) -> None:
        self.now = now
        self._first_s = first_s
        self._most_s = most_s
        self._steady_s = steady_s
        self._failures = 0
        self._failed_s = -math.inf
        self._not_before_s = 0.0

    @property
    def wait_s(self) -> float:
        """How long from now nothing should be opened."""
        return max(self._not_before_s - self.now(), 0.0)

    def note_end(self, opened_s: float) -> None:
        """Take note that what was opened at `opened_s` failed or broke off."""
        if opened_s < self._failed_s:
            return
        now_s = self._failed_s = self.now()
        if now_s - opened_s > self._steady_s:
            self._failures = 0
        self._failures += 1
        if self._failures > 1:
            pause_s = min(self._first_s * 2 ** min(self._failures - 2, 16), self._most_s)
            pause_s *= random.uniform(0.5, 1.0)  # noqa: S311 - jitter
            self._not_before_s = now_s + pause_s


class Lines:
    """Opens the lines of one upstream, with one back-off for all of them."""

    def __init__(self, name: str, open_line: OpenLine, backoff: Backoff) -> None:
        self.name = name
        self.modern = ModernLine(self)
        self.opened = 0
        self._open_line = open_line
        self._backoff = backoff

    async def open_session(self) -> Multiplex:
        """Open a line for a legacy session; the one a probe in vain was made on is used first."""
        probed = self.modern.give_up()
        if probed is not None:
            probed.cancels = False
            return probed
        return await self.open(cancels=False)

    async def open(self, *, cancels: bool) -> Multiplex:
        """Open a line.

        Raises:
            LeftAloneError: it broke off too often of late.
            UpstreamUnavailableError: it cannot be opened.
        """
        wait_s = self._backoff.wait_s
        if wait_s:
            text = f"broke off; not opened again for {wait_s:.1f} s"
            raise LeftAloneError(self.name, text)
        channel = Multiplex(self.name, self._open_line, cancels=cancels)
        opened_s = self._backoff.now()
        self.opened += 1
        try:
            await channel.open()
        except WaygateError:
            self._backoff.note_end(opened_s)
            raise
        if channel.is_closed:
            self._backoff.note_end(opened_s)
        channel.on_break = lambda: self._backoff.note_end(opened_s)
        return channel

    async def close(self) -> None:
        """Close the modern line; sessions close theirs."""
        await self.modern.close()


class ModernLine:
    """A Channel over the line of the modern era, whichever it is at the moment."""

    is_single = True
    is_closed = False

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._channel: Multiplex | None = None
        self._opening = asyncio.Lock()

    def give_up(self) -> Multiplex | None:
        """Give a line away that no modern request succeeded on; None where there is none."""
        channel = self._channel
        if channel is None or channel.is_closed or channel.has_succeeded:
            return None
        self._channel = None
        return channel

    async def send(
        self, message: bytes, headers: Sequence[Header] = (), *, identifier: str
    ) -> Begun:
        """See Channel."""
        channel = self._channel
        if channel is None or channel.is_closed:
            channel = await self._live()
        return await channel.send(message, headers, identifier=identifier)

    @asynccontextmanager
    async def request(
        self, message: bytes, headers: Sequence[Header] = ()
    ) -> AsyncIterator[LineConversation]:
        """See Channel."""
        channel = await self._live()
        async with channel.request(message) as conversation:
            yield conversation

    @asynccontextmanager
    async def listen(
        self, headers: Sequence[Header] = (), last_event_id: str | None = None
    ) -> AsyncIterator[LineConversation]:
        """See Channel."""
        channel = await self._live()
        async with channel.listen() as conversation:
            yield conversation

    def attribute(self, claim: Claim) -> None:
        """See Channel; modern messages say whom they concern."""

    async def post(self, message: bytes, headers: Sequence[Header] = ()) -> int:
        """See Channel."""
        return await (await self._live()).post(message)

    async def end_session(self, headers: Sequence[Header]) -> None:
        """See Channel; there is no session."""

    async def close(self) -> None:
        """Close the line, if one is open."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def _live(self) -> Multiplex:
        """Give the line, opened where there is none; one caller opens it for all."""
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                if self._channel is not None:
                    await self._channel.close()
                    self._channel = None
                self._channel = await self._lines.open(cancels=True)
            return self._channel
