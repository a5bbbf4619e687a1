"""Which method exists in which revision, and what each is about.

Spec: the ClientRequest unions of the schemas of all five revisions; the tasks extension of 2026-07-28.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from waygate_mcp.protocol.versions import LATEST_LEGACY, MODERN, Era, Revision

__all__ = ["CLIENT_NOTIFICATIONS", "METHODS", "Method", "find_method"]


class Method(msgspec.Struct, frozen=True):
    """One request method a client may send.

    `names` is the member of `params` that says which entry is meant and that `Mcp-Name` mirrors,
    None where nothing is named. `required` are the members of `params` that must be there, with the
    type the schema gives them. `may_ask` allows `input_required` as a modern answer. `cacheable`
    results carry caching hints. `permission` is what a principal needs (surface.md 5). `revisions`
    are those that have the method, None where all of its eras do.
    """

    name: str
    eras: frozenset[Era]
    permission: str
    names: Literal["name", "uri", "taskId"] | None = None
    required: tuple[tuple[str, type], ...] = ()
    may_ask: bool = False
    is_cacheable: bool = False
    revisions: frozenset[str] | None = None


_BOTH = frozenset(Era)
_LEGACY = frozenset({Era.LEGACY})
_MODERN = frozenset({Era.MODERN})
_NAME = (("name", str),)
_URI = (("uri", str),)
_TASK = (("taskId", str),)
_HAVE_TASKS = frozenset({LATEST_LEGACY.text, MODERN.text})

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("initialize", _LEGACY, "session:open"),
        Method("ping", _LEGACY, "session:open"),
        Method("logging/setLevel", _LEGACY, "session:open", required=(("level", str),)),
        Method("server/discover", _MODERN, "session:open", is_cacheable=True),
        Method("tools/list", _BOTH, "tools:list", is_cacheable=True),
        Method("tools/call", _BOTH, "tools:call", "name", _NAME, may_ask=True),
        Method("prompts/list", _BOTH, "prompts:list", is_cacheable=True),
        Method("prompts/get", _BOTH, "prompts:get", "name", _NAME, may_ask=True),
        Method("resources/list", _BOTH, "resources:list", is_cacheable=True),
        Method("resources/templates/list", _BOTH, "resources:list", is_cacheable=True),
        Method(
            "resources/read", _BOTH, "resources:read", "uri", _URI, may_ask=True, is_cacheable=True
        ),
        Method("resources/subscribe", _LEGACY, "resources:read", "uri", _URI),
        Method("resources/unsubscribe", _LEGACY, "resources:read", "uri", _URI),
        Method(
            "subscriptions/listen", _MODERN, "session:open", required=(("notifications", dict),)
        ),
        Method(
            "completion/complete",
            _BOTH,
            "completions:use",
            required=(("ref", dict), ("argument", dict)),
        ),
        Method("tasks/get", _BOTH, "tools:call", "taskId", _TASK, revisions=_HAVE_TASKS),
        Method("tasks/cancel", _BOTH, "tools:call", "taskId", _TASK, revisions=_HAVE_TASKS),
        Method("tasks/result", _LEGACY, "tools:call", "taskId", _TASK, revisions=_HAVE_TASKS),
        Method(
            "tasks/update",
            _MODERN,
            "tools:call",
            "taskId",
            (*_TASK, ("inputResponses", dict)),
            revisions=_HAVE_TASKS,
        ),
    )
}

CLIENT_NOTIFICATIONS = frozenset(
    {
        "notifications/initialized",
        "notifications/cancelled",
        "notifications/progress",
        "notifications/roots/list_changed",
    }
)
"""Notifications a client may send; others are accepted and dropped."""


def find_method(name: str, revision: Revision) -> Method | None:
    """Look a method up as it exists in `revision`, None where it does not."""
    method = METHODS.get(name)
    if method is None or revision.era not in method.eras:
        return None
    is_there = method.revisions is None or revision.text in method.revisions
    return method if is_there else None
