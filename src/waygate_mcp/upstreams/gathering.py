"""Questions of one call that are asked together, and the response that ends all asking.

Knows time and task groups. Refuses to know what is asked.
"""

from __future__ import annotations

import asyncio

from waygate_mcp.upstreams.channel import Incoming

__all__ = ["DoneError", "Siblings", "first_failure"]

SIBLINGS_S = 0.02
"""Seconds in which questions of one call count as asked together (protocol.md 6.2, rule 1)."""


class Siblings:
    """Lets questions go on in one step that came within a moment of each other.

    A modern client is shown in one answer what is asked in the same step of the loop, and an upstream that
    asks several things at once sends them one after the other.
    """

    def __init__(self) -> None:
        self._gathered: asyncio.Event | None = None

    async def gather(self) -> None:
        """Wait until the questions asked together with this one are here."""
        if self._gathered is None or self._gathered.is_set():
            self._gathered = asyncio.Event()
            asyncio.get_running_loop().call_later(SIBLINGS_S, self._gathered.set)
        await self._gathered.wait()


class DoneError(Exception):
    """No error: the response of the call is there, and whatever is still being asked is moot."""

    def __init__(self, response: Incoming) -> None:
        self.response = response
        super().__init__()


def first_failure(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Give the failure that ended a group; the response counts before what failed beside it."""
    failures = list(_flatten(group))
    return next((one for one in failures if isinstance(one, DoneError)), failures[0])


def _flatten(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """Give the leaves of a group."""
    leaves: list[BaseException] = []
    for one in group.exceptions:
        leaves.extend(_flatten(one) if isinstance(one, BaseExceptionGroup) else [one])
    return leaves
