"""Calls in flight in one legacy session, and which of them a message is about.

Knows who is told and asked. Refuses to guess: what might be about another caller is nobody's.
Spec: protocol.md 6.4; 2025-11-25 basic/utilities/tasks, "Related Task Metadata".
"""

from __future__ import annotations

import asyncio
from functools import cached_property

from waygate_mcp.errors import CapabilityMissingError, LimitError
from waygate_mcp.model.call import Answer, Call, Question
from waygate_mcp.protocol.tasks import related_task
from waygate_mcp.upstreams.channel import Incoming
from waygate_mcp.upstreams.events import log_event, progress_event
from waygate_mcp.upstreams.gathering import Siblings
from waygate_mcp.upstreams.questions import question_of

__all__ = ["LiveCall", "LiveCalls"]


class LiveCall:
    """A call in flight: who to tell, who to ask, and what came of asking."""

    # What most calls leave as it is stands in the class: it is set where it differs.
    asking: asyncio.TaskGroup | None = None
    missing: CapabilityMissingError | None = None
    refused: LimitError | None = None
    may_be_task = False
    task_id: str | None = None
    """The task the request is about, whose questions are its own."""

    def __init__(self, call: Call, identifier: str, token: str | None) -> None:
        self.call = call
        self.identifier = identifier
        self.token = token
        self.asked: set[str | int] = set()

    @cached_property
    def siblings(self) -> Siblings:
        """The questions asked together."""
        return Siblings()

    def answered_before(self, question: Question) -> Answer | None:
        """Give the answer the client sent along, if it knew the question's key."""
        given = (self.call.input_responses or {}).get(question.key or "")
        return None if given is None else Answer(given)

    async def tell(self, incoming: Incoming) -> None:
        """Hand progress and log messages to the caller."""
        event = progress_event(incoming, self.token) or log_event(incoming)
        if event is not None:
            await self.call.caller.emit(event)


class LiveCalls(dict[str, LiveCall]):
    """The requests in flight, by their ids, oldest first."""

    def owner_of(self, incoming: Incoming) -> LiveCall | None:
        """Give the call a message on the session's own stream belongs to, None where that is unsure.

        Progress is attributed by its token, what names a task by the task; anything else only while a
        single call is in flight.
        """
        for live in self.values():
            if progress_event(incoming, live.token) is not None:
                return live
        task_id = related_task(incoming.params)
        if task_id is not None:
            return self._waiting_for(task_id)
        return next(iter(self.values())) if len(self) == 1 else None

    def claim(self, incoming: Incoming, in_flight: int, *, is_shared: bool) -> str | None:
        """Give the request a message on a single channel belongs to, None where that is unsure.

        1. Progress is attributed by its token.
        2. What names a task belongs to the request that waits for the task, and to no other.
        3. A question or a log line belongs to a call only if it is the one in flight, or if all
           calls in flight come from one session at our door. `in_flight` counts requests of our own
           too: in a session that callers share, any of them might be what it is about.
        4. The rest is nobody's.
        """
        for live in self.values():
            if progress_event(incoming, live.token) is not None:
                return live.identifier
        if question_of(incoming) is None and incoming.method != "notifications/message":
            return None
        task_id = related_task(incoming.params)
        if task_id is not None:
            owner = self._waiting_for(task_id)
            return None if owner is None else owner.identifier
        if is_shared and in_flight != len(self):
            return None
        calls = {name: one.call for name, one in self.items() if one.task_id is None}
        fronts = {(call.principal.id, call.session_id) for call in calls.values()}
        if not calls or (len(calls) > 1 and (len(fronts) > 1 or next(iter(fronts))[1] is None)):
            return None
        return next(reversed(calls))

    def _waiting_for(self, task_id: str) -> LiveCall | None:
        """Give the request that waits for a task."""
        return next((one for one in self.values() if one.task_id == task_id), None)
