"""What an upstream says besides its answer: progress, log messages, changes.

Knows the notifications of both eras. Refuses to know whether anybody wants them: the caller drops
what its client did not ask for, the announcer tells whoever listens.
Spec: 2026-07-28 basic/patterns/progress, server/utilities/logging; 2025-11-25 the same.
"""

from __future__ import annotations

import math

import msgspec

from waygate_mcp.model.call import LogEvent, Progress
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import Event, ListChanged, ResourceUpdated
from waygate_mcp.protocol.log_levels import LOG_LEVELS
from waygate_mcp.upstreams.channel import Incoming
from waygate_mcp.upstreams.slices import one_line

__all__ = ["changes_of", "log_event", "progress_event"]

_LISTS = {
    "notifications/tools/list_changed": (Kind.TOOL,),
    "notifications/prompts/list_changed": (Kind.PROMPT,),
    "notifications/resources/list_changed": (Kind.RESOURCE, Kind.TEMPLATE),
}
_MAX_TEXT = 16_384


class _Progress(msgspec.Struct, rename="camel"):
    progress_token: str | int
    progress: int | float
    total: int | float | None = None
    message: str | None = None


class _Log(msgspec.Struct):
    level: str
    data: msgspec.Raw = msgspec.Raw(b"null")
    logger: str | None = None


class _Updated(msgspec.Struct):
    uri: str


_decode_progress = msgspec.json.Decoder(_Progress).decode
_decode_log = msgspec.json.Decoder(_Log).decode
_decode_updated = msgspec.json.Decoder(_Updated).decode


def progress_event(incoming: Incoming, token: str | None) -> Progress | None:
    """Read progress of the call that has `token`; None for anything else, or what is malformed."""
    if token is None or incoming.method != "notifications/progress":
        return None
    try:
        read = _decode_progress(incoming.params)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if read.progress_token != token or not math.isfinite(read.progress):
        return None
    total = read.total if read.total is not None and math.isfinite(read.total) else None
    return Progress(read.progress, total, read.message and read.message[:_MAX_TEXT])


def log_event(incoming: Incoming) -> LogEvent | None:
    """Read a log message; None for anything else, or what is malformed."""
    if incoming.method != "notifications/message":
        return None
    try:
        read = _decode_log(incoming.params)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if read.level not in LOG_LEVELS:
        return None
    return LogEvent(read.level, one_line(read.data), read.logger and read.logger[:_MAX_TEXT])


def changes_of(incoming: Incoming, provider: str) -> tuple[Event, ...]:
    """Read what a notification says has changed at `provider`; empty for other notifications."""
    kinds = _LISTS.get(incoming.method or "")
    if kinds is not None:
        return tuple(ListChanged(provider, kind) for kind in kinds)
    if incoming.method != "notifications/resources/updated":
        return ()
    try:
        return (ResourceUpdated(provider, _decode_updated(incoming.params).uri),)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ()
