"""One call: what was asked, what happens on the way, what comes back.

Knows no revision's wire shapes but the client's revision itself, which providers may need to read
(`call.revision`). Refuses to know how messages travel: that is the Caller's work (`ports.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import msgspec

from waygate_mcp.model.ports import Caller
from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.versions import Revision

__all__ = [
    "Answer",
    "Call",
    "InputRequired",
    "LogEvent",
    "Outcome",
    "Progress",
    "Question",
    "QuestionMethod",
    "Reply",
]

_NOTHING: Mapping[str, Any] = {}

QuestionMethod = Literal["elicitation/create", "sampling/createMessage", "roots/list"]


class Question(msgspec.Struct, frozen=True):
    """Something only the client can answer: an elicitation, a sampling or its roots.

    `params` is the raw JSON object of the request. `key` is the name a modern client sees it under
    in `inputRequests`; None lets the exchange invent one.
    Spec: 2026-07-28 basic/patterns/mrtr, "InputRequests".
    """

    method: QuestionMethod
    params: bytes = b"{}"
    key: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """A client's answer to a Question: the raw JSON result, or the JSON-RPC error it sent.

    `error_data` is the raw JSON of the error's `data`, None where it has none.
    """

    result: bytes | None
    error_code: int = 0
    error_message: str = ""
    error_data: bytes | None = None


class Progress(msgspec.Struct, frozen=True):
    """How far a call is. `progress` must grow from event to event; others are dropped."""

    progress: float
    total: float | None = None
    message: str | None = None


class LogEvent(msgspec.Struct, frozen=True):
    """A log message for the client. `data` is raw JSON; `level` one of the eight of RFC 5424."""

    level: str
    data: bytes
    logger: str | None = None


class Reply(msgspec.Struct, frozen=True):
    """The final result of a call, in no era's shape.

    `result` is a JSON object without `resultType`, `ttlMs`, `cacheScope` and `_meta`: the encoder
    adds those the client's revision has. `meta` is the raw `_meta` object, if any. `is_error` says
    that a tool reported its own failure (`isError`), which is a reply and not an exception.
    `ttl_ms` and `cache_scope` are read for cacheable results only. `task_id` is there where the
    result is no answer yet but a task, written as the client's era has it: the provider's own id, until
    the gateway has put a handle of its own in both places.
    """

    result: bytes
    meta: bytes | None = None
    is_error: bool = False
    ttl_ms: int = 0
    cache_scope: Literal["public", "private"] = "private"
    task_id: str | None = None


class InputRequired(msgspec.Struct, frozen=True):
    """The call cannot be finished before the client answered `requests`; nothing is kept here.

    The provider is called again with `call.input_responses` and `call.request_state`. `state` is the
    provider's own text; it reaches the client sealed, and comes back opened.
    Spec: 2026-07-28 basic/patterns/mrtr, "InputRequiredResult".
    """

    requests: Mapping[str, Question]
    state: str | None = None


Outcome = Reply | InputRequired


class Call(msgspec.Struct, kw_only=True):
    """One request on its way to a provider.

    `name` is the public name or URI as the client said it; `target` the provider's own name for
    it, set by the router together with `provider`. `params` are the parsed parameters, `body` the
    bytes they came in, for providers that relay raw slices. `deadline_s` is on the monotonic clock.
    `gate` is asked last before the call leaves for an upstream: None lets it pass, else what is awaited
    first, which raises where it must not.
    `input_responses` maps question keys to raw JSON results, `request_state` is the provider's own
    state, opened. `headers` are there for modern calls over HTTP only. `audit_sequence` is the number
    of the audit record that says it began, 0 before that; `shadowed` are roles in shadow that would have
    refused it.
    """

    request_id: str
    endpoint: str
    method: str
    name: str
    params: dict[str, Any]
    body: bytes
    principal: Principal
    revision: Revision
    capabilities: ClientCapabilities
    caller: Caller
    deadline_s: float
    target: str = ""
    provider: str = ""
    progress_token: str | int | None = None
    input_responses: Mapping[str, bytes] | None = None
    request_state: str | None = None
    session_id: str | None = None
    headers: Mapping[bytes, bytes] | None = None
    client_name: str = ""
    gate: Callable[[Call], Awaitable[None] | None] | None = None
    audit_sequence: int = 0
    shadowed: tuple[str, ...] = ()

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The parsed `params.arguments`, an empty mapping where the client sent none."""
        return self.params.get("arguments") or _NOTHING

    @property
    def meta(self) -> Mapping[str, Any]:
        """The parsed `params._meta`, an empty mapping where the client sent none."""
        return self.params.get("_meta") or _NOTHING
