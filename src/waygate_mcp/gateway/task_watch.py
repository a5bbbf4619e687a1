"""Tasks on a listen stream: whose changes are heard there, and under which handles.

Knows which of the handles a client asks for lead to an upstream that agrees to tell of them. Refuses to
know how the stream is written. What an upstream tells no more ends the stream, gracefully: the client
listens anew and misses nothing it believes to hear.
Spec: io.modelcontextprotocol/tasks 2026-07-28, "Task Status Notifications".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import msgspec

from waygate_mcp.errors import (
    CapabilityMissingError,
    ForbiddenError,
    UnknownNameError,
    WaygateError,
)
from waygate_mcp.gateway.endpoint import Endpoint
from waygate_mcp.gateway.hub import Change, Listener
from waygate_mcp.gateway.links import map_result
from waygate_mcp.gateway.names import UriMark
from waygate_mcp.model.catalog import Viewer
from waygate_mcp.model.ports import TaskTeller
from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.methods import METHODS
from waygate_mcp.protocol.stateless import (
    CAPABILITIES_KEY,
    ListenFilter,
    tag_notification,
)
from waygate_mcp.protocol.tasks import REQUIRED_CAPABILITY, TASKS_EXTENSION, name_task, read_task
from waygate_mcp.protocol.versions import MODERN

__all__ = ["check_may_listen", "tag_change", "watch_tasks"]

_log = logging.getLogger(__name__)
_AGREE_S = 5.0
"""How long an upstream may keep the acknowledgement waiting."""
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def check_may_listen(
    endpoint: Endpoint, params: Mapping[str, Any], wanted: ListenFilter, principal: Principal
) -> Viewer:
    """Check that somebody may listen, and declared tasks on this request if it wants to hear of some.

    `params` are those of the request, whose envelope was read. Gives who looks.

    Raises:
        ForbiddenError: the principal may not converse at all.
        CapabilityMissingError: it did not. Where nobody has tasks there is nothing to declare.
    """
    permission = METHODS["subscriptions/listen"].permission
    if not principal.may(permission):
        raise ForbiddenError(permission=permission)
    capabilities = ClientCapabilities.parse(params["_meta"][CAPABILITIES_KEY], MODERN)
    is_offered = bool(wanted.tasks) and endpoint.has_task_extension
    if is_offered and not capabilities.declares(TASKS_EXTENSION):
        raise CapabilityMissingError(REQUIRED_CAPABILITY)
    return Viewer(principal, capabilities)


@asynccontextmanager
async def watch_tasks(
    endpoint: Endpoint, viewer: Viewer, handles: tuple[str, ...], listener: Listener
) -> AsyncIterator[tuple[str, ...]]:
    """Let a listener hear of tasks; gives the handles somebody agreed to tell of, in their order."""
    by_provider: dict[TaskTeller, dict[str, _Watched]] = {}
    for handle in handles if endpoint.has_task_extension else ():
        try:
            found, task_id = await endpoint.find_task(handle, viewer)
        except UnknownNameError:
            continue  # as one that nobody agrees to tell of
        if isinstance(found.provider, TaskTeller):
            known = by_provider.setdefault(found.provider, {})
            known[task_id] = _Watched(handle, found.mark)
    agreed: set[str] = set()
    async with AsyncExitStack() as stack:
        for teller, known in by_provider.items():
            told = teller.tell_of_tasks(
                tuple(known), partial(_take, known, listener), listener.close
            )
            try:
                async with asyncio.timeout(_AGREE_S):
                    ids = await stack.enter_async_context(told)
                agreed |= {known[one].handle for one in ids}
            except (WaygateError, TimeoutError) as exc:
                _log.debug("tasks are not told of: %s", exc)
        yield tuple(handle for handle in handles if handle in agreed)


class _Watched(msgspec.Struct, frozen=True):
    """A task as the client knows it: its handle, and what its URIs bear here."""

    handle: str
    mark: UriMark


def _take(known: Mapping[str, _Watched], listener: Listener, params: bytes) -> None:
    """Take a notification of an upstream about one of its tasks."""
    try:
        task = known.get(read_task(params).id)
        members = _decode_members(params)
    except (ValueError, UnicodeDecodeError, RecursionError):
        return
    if task is not None:
        members.pop("_meta", None)
        told = map_result("tasks/get", msgspec.json.encode(members), task.mark.add)
        listener.offer_task(task.handle, name_task(told, task.handle))


def tag_change(change: Change, identifier: str | int) -> bytes:
    """Word a change for one listen stream."""
    return tag_notification(change.method, identifier, change.uri, change.params)
