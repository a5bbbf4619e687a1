"""How many calls may be under way? Asked before a call goes on, and told when it has ended, however it does.

Knows when a place is taken and given back. Refuses to know how many there are: `Room` does. A call that asks
its client has left its upstream's place to others meanwhile, and takes one again when it goes on, whether there is
one or not: it was let in. Its caller's place it keeps, parked or not.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from waygate_mcp.model.call import Answer, Call, LogEvent, Outcome, Progress, Question
from waygate_mcp.model.nobody import NOBODY
from waygate_mcp.model.ports import Caller, Handler

__all__ = ["AtOnce", "AtOnceUpstream", "Room"]


class Room(Protocol):
    """Who counts. What is taken is given back by whoever took it."""

    def enter(self, call: Call) -> Any:
        """Take the places of a call.

        Raises:
            RateLimitedError: there are none; nothing was taken.
        """

    def enter_again(self, taken: Any) -> None:
        """Take places that were given back, whether they are free or not."""

    def leave(self, taken: Any) -> None:
        """Give places back."""


class AtOnce:
    """The step by which a call holds its caller's and its tool's place until it has ended.

    What the gateway asks for by itself (subscriptions of a listener) is not counted.
    """

    def __init__(self, room: Room) -> None:
        self._room = room

    def __call__(self, call: Call, call_next: Handler) -> Awaitable[Outcome]:
        """Take the places and pass the call on.

        Raises:
            RateLimitedError: too many are under way.
        """
        return call_next(call) if call.caller is NOBODY else self._hold(call, call_next)

    async def _hold(self, call: Call, call_next: Handler) -> Outcome:
        taken = self._room.enter(call)
        try:
            return await call_next(call)
        finally:
            self._room.leave(taken)


class AtOnceUpstream:
    """The step by which a call holds a place at its upstream while that works for it."""

    def __init__(self, room: Room) -> None:
        self._room = room

    async def __call__(self, call: Call, call_next: Handler) -> Outcome:
        """Take the place and pass the call on.

        Raises:
            RateLimitedError: too many are under way there.
        """
        taken = self._room.enter(call)
        if not taken:
            return await call_next(call)
        caller = call.caller
        stepping = call.caller = _SteppingOut(caller, self._room, taken)
        try:
            return await call_next(call)
        finally:
            call.caller = caller
            stepping.end()


class _SteppingOut:
    """A Caller that leaves the upstream's place to others while questions are open."""

    def __init__(self, caller: Caller, room: Room, taken: Any) -> None:
        self._caller = caller
        self._room = room
        self._taken = taken
        self._open = 0
        self._is_over = False

    @property
    def log_level(self) -> str | None:
        """See Caller."""
        return self._caller.log_level

    async def emit(self, event: Progress | LogEvent) -> None:
        """See Caller."""
        await self._caller.emit(event)

    async def ask(self, question: Question) -> Answer:
        """See Caller."""
        self._open += 1
        if self._open == 1 and not self._is_over:
            self._room.leave(self._taken)
        try:
            return await self._caller.ask(question)
        finally:
            self._open -= 1
            if not self._open and not self._is_over:
                self._room.enter_again(self._taken)

    async def close_stream(self) -> None:
        """See Caller."""
        await self._caller.close_stream()

    def end(self) -> None:
        """Give the place back, where it is held."""
        if not self._open and not self._is_over:
            self._room.leave(self._taken)
        self._is_over = True
