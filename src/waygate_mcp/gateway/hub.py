"""Changes on their way to those who listen: modern listen streams and legacy sessions.

Knows who wants to hear of what. Refuses to know how a notification is written: the doors read
`Listener.take()` and word it.

A listener holds no queue but a set of what is due, in order: a list that changed twice before it was
told is told once. That bounds it by what can be subscribed to, without ever dropping a change. Only of
completed elicitations, which nobody subscribes to, the oldest are dropped where too many are due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import ElicitationCompleted, Event, ListChanged, ResourceUpdated
from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol.jsonrpc import encode_json

__all__ = ["ELICITATION_COMPLETE", "TASK_CHANGED", "Change", "Hub", "Listener"]

TASK_CHANGED = "notifications/tasks"
ELICITATION_COMPLETE = "notifications/elicitation/complete"
_MAX_COMPLETED = 256

_METHODS = {
    Kind.TOOL: "notifications/tools/list_changed",
    Kind.PROMPT: "notifications/prompts/list_changed",
    Kind.RESOURCE: "notifications/resources/list_changed",
    Kind.TEMPLATE: "notifications/resources/list_changed",
}


_PublicUri = Callable[[str, str, str], str | None]


class Change(msgspec.Struct, frozen=True):
    """A notification due: its method, and what it is about.

    `uri` is the public URI of one resource, `params` the raw parameters of one that is about something else.
    """

    method: str
    uri: str | None = None
    params: bytes | None = None


class Listener:
    """One reader of changes: what it wants, and what is due to it.

    `kinds` are the lists it wants to hear of; `uris` the public URIs, which may change at any time;
    `session_id` the legacy session it belongs to, if any.
    """

    def __init__(
        self,
        endpoint: str,
        principal: Principal,
        kinds: frozenset[Kind],
        session_id: str | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.session_id = session_id
        self.principal = principal
        self.kinds = kinds
        self.uris: set[str] = set()
        self.is_closed = False
        self._tasks_due: dict[str, bytes] = {}
        self._completed: dict[str, None] = {}
        self._due: dict[Change, None] = {}
        self._wake = asyncio.Event()

    def offer(self, change: Change) -> None:
        """Note a change as due, if it is wanted."""
        if self.is_closed or (change.uri is not None and change.uri not in self.uris):
            return
        self._due[change] = None
        self._wake.set()

    def offer_task(self, handle: str, params: bytes) -> None:
        """Note how a task is now; of one that changed twice before it was told the last is told."""
        if not self.is_closed:
            self._tasks_due[handle] = params
            self._wake.set()

    def offer_completion(self, elicitation_id: str) -> None:
        """Note that an elicitation is completed."""
        if self.is_closed:
            return
        self._completed[elicitation_id] = None
        if len(self._completed) > _MAX_COMPLETED:
            del self._completed[next(iter(self._completed))]
        self._wake.set()

    def is_meant(self, event: ResourceUpdated) -> bool:
        """Tell whether an update is for this reader: not one that another session subscribed to."""
        return event.session_id is None or event.session_id == self.session_id

    def close(self) -> None:
        """End it: `take` gives what is due and then None."""
        self.is_closed = True
        self._wake.set()

    async def take(self) -> list[Change] | None:
        """Wait for changes and give all that are due, None once closed."""
        await self._wake.wait()
        self._wake.clear()
        due, self._due = list(self._due), {}
        if self._tasks_due:
            tasks, self._tasks_due = self._tasks_due.values(), {}
            due += [Change(TASK_CHANGED, params=params) for params in tasks]
        if self._completed:
            completed, self._completed = self._completed, {}
            ids = (encode_json({"elicitationId": one}) for one in completed)
            due += [Change(ELICITATION_COMPLETE, params=params) for params in ids]
        if self.is_closed:
            self._wake.set()
        return due or (None if self.is_closed else [])


class Hub:
    """Takes events from providers and offers them to every listener they concern.

    `binds` tells whether an endpoint binds a provider; `public_uri` gives the URI an endpoint's clients
    know its resource by, None where they know none.
    """

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self._binds: Callable[[str, str], bool] = lambda _endpoint, _provider: True
        self._public_uri: _PublicUri = lambda _endpoint, _provider, uri: uri

    def route_by(
        self, binds: Callable[[str, str], bool], public_uri: _PublicUri | None = None
    ) -> None:
        """Set how both are decided; the runtime points it at the generation in force."""
        self._binds = binds
        if public_uri is not None:
            self._public_uri = public_uri

    def __len__(self) -> int:
        """The number of listeners."""
        return len(self._listeners)

    def add(self, listener: Listener) -> None:
        """Let a listener hear from now on."""
        self._listeners.add(listener)

    def remove(self, listener: Listener) -> None:
        """Let it hear no more."""
        self._listeners.discard(listener)

    def announce(self, event: Event) -> None:
        """Offer an event to whom it concerns. Never blocks, never raises."""
        for listener in tuple(self._listeners):
            if not self._binds(listener.endpoint, event.provider):
                continue
            if isinstance(event, ResourceUpdated) and not listener.is_meant(event):
                continue
            if isinstance(event, ElicitationCompleted):
                if listener.session_id == event.session_id:
                    listener.offer_completion(event.elicitation_id)
            elif isinstance(event, ListChanged):
                if event.kind in listener.kinds:
                    listener.offer(Change(_METHODS[event.kind]))
            else:
                uri = self._public_uri(listener.endpoint, event.provider, event.uri)
                if uri is not None:
                    listener.offer(Change("notifications/resources/updated", uri))

    def announce_everything(self) -> None:
        """Tell all listeners that all lists may have changed, after a reload."""
        for listener in tuple(self._listeners):
            for kind in sorted(listener.kinds, key=lambda kind: kind.value):
                listener.offer(Change(_METHODS[kind]))

    def close_for(self, principal_id: str) -> None:
        """End the listeners of a principal whose credential is good no more."""
        for listener in tuple(self._listeners):
            if listener.principal.id == principal_id:
                listener.close()

    def close(self) -> None:
        """End every listener, so that their streams end gracefully."""
        for listener in tuple(self._listeners):
            listener.close()
