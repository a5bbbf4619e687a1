"""Tasks at one endpoint: the handles clients get for them, and the way back to who runs them.

Knows what a handle binds (provider, tool, era, endpoint, principal, expiry), so that any node can route
it and nothing is stored. Refuses to know how a task is run or awaited. A handle that is forged, altered,
expired or of somebody else is a task nobody knows (threat model rules 9 to 11).
Spec: protocol.md 4.1; 2025-11-25 basic/utilities/tasks; io.modelcontextprotocol/tasks 2026-07-28.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from waygate_mcp.errors import CapabilityMissingError, UnknownMethodError, UnknownNameError
from waygate_mcp.gateway.catalog import Catalog
from waygate_mcp.gateway.offers import Found
from waygate_mcp.model.call import Call, Reply
from waygate_mcp.model.catalog import Features, Kind, Viewer
from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol.seal import KeyRing, SealError
from waygate_mcp.protocol.tasks import (
    REQUIRED_CAPABILITY,
    TASKS_EXTENSION,
    has_legacy_tasks,
    name_related_task,
    name_task,
    read_task,
)
from waygate_mcp.protocol.versions import Revision

__all__ = ["Handle", "TaskHandles", "Tasks", "task_capabilities"]

_PURPOSE = "task"
_DAY_S = 86_400.0
_MIN_LIFE_S, _MAX_LIFE_S = _DAY_S, 30 * _DAY_S
_encode = msgspec.msgpack.Encoder().encode


class Handle(msgspec.Struct, frozen=True, array_like=True):
    """What a handle says. `task` is the provider's own id, `tool` the public name of what was called.

    `expires_at` is in seconds since 1970, since a handle may come back to another process.
    """

    provider: str
    task: str
    tool: str
    is_modern: bool
    endpoint: str
    fingerprint: bytes
    expires_at: int


_decode = msgspec.msgpack.Decoder(Handle).decode


class TaskHandles:
    """Writes and reads handles. `now` is the wall clock in seconds."""

    def __init__(self, ring: KeyRing, now: Callable[[], float]) -> None:
        self._ring = ring
        self._now = now

    def seal(self, call: Call, task_id: str, ttl_ms: float | None) -> str:
        """Write the handle of a task that answers `call`.

        It lives twice as long as the task says, which may be prolonged, but a day at least and 30 at
        most.
        """
        life_s = _MAX_LIFE_S if ttl_ms is None else ttl_ms / 500.0
        expires_at = int(self._now() + min(max(life_s, _MIN_LIFE_S), _MAX_LIFE_S))
        handle = Handle(
            call.provider, task_id, call.name, call.revision.is_modern,
            call.endpoint, call.principal.fingerprint, expires_at,
        )  # fmt: skip
        return self._ring.seal(_encode(handle), _PURPOSE)

    def open(self, text: str, endpoint: str, principal: Principal, revision: Revision) -> Handle:
        """Read a handle that came back.

        Raises:
            UnknownNameError: forged, altered, expired, or of another principal, endpoint or era.
        """
        try:
            handle = _decode(self._ring.open(text, _PURPOSE))
        except (SealError, msgspec.DecodeError) as exc:
            raise _unknown() from exc
        is_ours = (
            handle.fingerprint == principal.fingerprint
            and handle.endpoint == endpoint
            and handle.is_modern == revision.is_modern
        )
        if not is_ours or handle.expires_at < self._now():
            raise _unknown()
        return handle


def _unknown() -> UnknownNameError:
    return UnknownNameError("task", "", safe_message="Task not found")


def task_capabilities(features: list[Features], revision: Revision) -> dict[str, Any]:
    """Give the capabilities about tasks and extensions that are announced to clients of `revision`.

    The list of all tasks is never announced: an upstream that is called with one credential for all
    callers cannot say whose a task is.
    """
    if revision.is_modern:
        extensions = sorted({name for one in features for name in one.extensions})
        return {"extensions": {name: {} for name in extensions}} if extensions else {}
    if not has_legacy_tasks(revision) or not any(one.tasks.calls for one in features):
        return {}
    tasks: dict[str, Any] = {"requests": {"tools": {"call": {}}}}
    if any(one.tasks.cancels for one in features):
        tasks["cancel"] = {}
    return {"tasks": tasks}


class Tasks:
    """The tasks of one endpoint."""

    def __init__(self, handles: TaskHandles, catalog: Catalog) -> None:
        self._handles = handles
        self._catalog = catalog

    def capabilities(self, revision: Revision) -> dict[str, Any]:
        """See `task_capabilities`, for what is bound here."""
        features = [binding.provider.features for binding in self._catalog.bindings]
        return task_capabilities(features, revision)

    def hand_out(self, call: Call, reply: Reply) -> Reply:
        """Put a handle in the place of a provider's own id of a task."""
        assert reply.task_id is not None, "only tasks are handed out"
        handle = self._handles.seal(call, reply.task_id, _ttl_ms(reply))
        return msgspec.structs.replace(
            reply,
            result=name_task(reply.result, handle),
            meta=None if reply.meta is None else name_related_task(reply.meta, handle),
            task_id=handle,
        )

    async def locate(self, call: Call) -> Found:
        """Find who runs the task a call is about, and give the call its target there.

        Raises:
            UnknownMethodError: nobody here has tasks for clients of this revision.
            CapabilityMissingError: the client did not declare the extension on this request.
            UnknownNameError: no such task for this caller.
        """
        self._check_offered(call)
        viewer = Viewer(call.principal, call.capabilities)
        found, call.target = await self.find(call.name, call.endpoint, viewer, call.revision)
        call.provider = found.provider.name
        return found

    async def find(
        self, text: str, endpoint: str, viewer: Viewer, revision: Revision
    ) -> tuple[Found, str]:
        """Give where the tool leads whose task a handle is of, and the task's id there.

        Whether the viewer may still use the tool is looked up anew.

        Raises:
            UnknownNameError: no such task for this viewer.
        """
        handle = self._handles.open(text, endpoint, viewer.principal, revision)
        try:
            found = self._catalog.find_known(Kind.TOOL, handle.tool, viewer)
            found = found or await self._catalog.find(Kind.TOOL, handle.tool, viewer)
        except UnknownNameError as exc:
            raise _unknown() from exc
        if found.provider.name != handle.provider:
            raise _unknown()
        return found, handle.task

    def _check_offered(self, call: Call) -> None:
        offered = self.capabilities(call.revision)
        if call.revision.is_modern:
            is_offered = TASKS_EXTENSION in offered.get("extensions", {})
        else:
            tasks = offered.get("tasks", {})
            is_offered = "cancel" in tasks if call.method == "tasks/cancel" else bool(tasks)
        if not is_offered:
            raise UnknownMethodError(call.method, safe_message=f"Method not found: {call.method}")
        if call.revision.is_modern and not call.capabilities.declares(TASKS_EXTENSION):
            raise CapabilityMissingError(REQUIRED_CAPABILITY)


def _ttl_ms(reply: Reply) -> float | None:
    """Read how long a task that is handed out is kept, in either era's shape."""
    try:
        return read_task(reply.result).ttl_ms
    except ValueError:
        pass
    try:
        return read_task(_decode_wrapped(reply.result).task).ttl_ms
    except (
        ValueError,
        msgspec.DecodeError,
    ):  # a step on the way changed it: it is not ours to judge
        return None


class _Wrapped(msgspec.Struct):
    task: msgspec.Raw


_decode_wrapped = msgspec.json.Decoder(_Wrapped).decode
