"""A provider whose answers a test writes as functions of the Call, and its entries as plain values."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

from waygate_mcp.errors import UnknownNameError
from waygate_mcp.model.call import Answer, Call, Outcome, Question, Reply
from waygate_mcp.model.catalog import Condition, Entry, Features, Kind, Listing, Viewer
from waygate_mcp.protocol.headers import find_header_params
from waygate_mcp.protocol.tasks import TASKS_EXTENSION, LegacyTasks

Script = Callable[[Call], Awaitable[Outcome] | Outcome]

ALL_FEATURES = Features(
    tools=True,
    prompts=True,
    resources=True,
    subscribe=True,
    completions=True,
    logging=True,
    tasks=LegacyTasks(calls=True, cancels=True),
    extensions=(TASKS_EXTENSION,),
)
_MEMBERS = {
    Kind.TOOL: "name",
    Kind.PROMPT: "name",
    Kind.RESOURCE: "uri",
    Kind.TEMPLATE: "uriTemplate",
}


def text(words: str, *, is_error: bool = False) -> Reply:
    """A tool's reply of one text block."""
    content = {"content": [{"type": "text", "text": words}]}
    return Reply(json.dumps(content).encode(), is_error=is_error)


def form(message: str = "Name?", key: str | None = None, **more: Any) -> Question:
    """A form elicitation with one text field."""
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    params = {"message": message, "requestedSchema": schema, **more}
    return Question("elicitation/create", json.dumps(params).encode(), key)


def sampling(prompt: str = "Say hi", key: str | None = None) -> Question:
    """A sampling of one message."""
    message = {"role": "user", "content": {"type": "text", "text": prompt}}
    params = {"messages": [message], "maxTokens": 10}
    return Question("sampling/createMessage", json.dumps(params).encode(), key)


def content_of(answer: Answer) -> Any:
    """What an elicitation was answered with; the action where it was not accepted."""
    if answer.result is None:
        return f"error {answer.error_code}"
    result = json.loads(answer.result)
    return result.get("content", result.get("action", result))


class Scripted:
    """A provider. `tool`, `prompt`, `resource` and `template` add entries, `scripts` answer them.

    Entries are kept per kind as (name, definition); `cache_scope` and `condition` are those of its
    listings, `by_principal` replaces the entries of a viewer's principal, `fixed` those of all.
    """

    def __init__(
        self,
        name: str = "box",
        *,
        features: Features = ALL_FEATURES,
        instructions: str | None = None,
    ) -> None:
        self.name = name
        self.features = features
        self.instructions = instructions
        self.calls: list[Call] = []
        self.listed = 0
        self.ttl_ms = 60_000
        self.cache_scope: Literal["public", "private"] = "public"
        self.condition: Condition = "current"
        self.pause: asyncio.Event | None = None
        self.list_failure: BaseException | None = None
        self.fixed: tuple[Entry, ...] | None = None
        self.by_principal: dict[str, dict[Kind, dict[str, dict[str, Any]]]] = {}
        self.entries: dict[Kind, dict[str, dict[str, Any]]] = {kind: {} for kind in Kind}
        self._scripts: dict[tuple[str, str], Script] = {}
        self._version = 0

    # --- writing it

    def add(self, kind: Kind, name: str, /, **members: Any) -> None:
        """Add an entry without an answer."""
        self.entries[kind][name] = {_MEMBERS[kind]: name, **members}
        self._version += 1

    def remove(self, kind: Kind, name: str) -> None:
        """Take an entry away."""
        del self.entries[kind][name]
        self._version += 1

    def on(self, method: str, name: str, script: Script) -> None:
        """Answer a method for a name; `*` stands for any."""
        self._scripts[method, name] = script

    def tool(self, name: str, script: Script | None = None, /, **members: Any) -> None:
        """Add a tool and what answers it."""
        self.add(Kind.TOOL, name, **{"inputSchema": {"type": "object"}, **members})
        self.on("tools/call", name, script or (lambda call: text(name)))

    def prompt(self, name: str, script: Script | None = None) -> None:
        """Add a prompt and what answers it."""
        self.add(Kind.PROMPT, name)
        self.on("prompts/get", name, script or (lambda call: Reply(b'{"messages":[]}')))

    def resource(self, uri: str, script: Script | None = None) -> None:
        """Add a resource and what answers it."""
        self.add(Kind.RESOURCE, uri, name=uri)
        self.on("resources/read", uri, script or _read)

    def template(self, uri_template: str) -> None:
        """Add a template; every URI that is read gets an answer from then on."""
        self.add(Kind.TEMPLATE, uri_template, name=uri_template)
        self.on("resources/read", "*", _read)

    # --- the port

    async def listing(self, kind: Kind, viewer: Viewer) -> Listing:
        self.listed += 1
        shown = self.by_principal.get(viewer.principal.id, self.entries)[kind]
        entries = tuple(_entry(kind, name, members) for name, members in shown.items())
        if self.pause is not None:
            await self.pause.wait()
        if self.list_failure is not None:
            raise self.list_failure
        if self.condition == "missing":
            return Listing((), 0, 1_000, "private", "missing")
        entries = entries if self.fixed is None else self.fixed
        return Listing(entries, self._version, self.ttl_ms, self.cache_scope, self.condition)

    async def call(self, call: Call) -> Outcome:
        self.calls.append(call)
        script = self._scripts.get((call.method, call.target)) or self._scripts.get(
            (call.method, "*")
        )
        if script is None:
            raise UnknownNameError("tool", call.target)
        outcome = script(call)
        return outcome if not isinstance(outcome, Awaitable) else await outcome


def _read(call: Call) -> Reply:
    contents = [{"uri": call.target, "text": f"content of {call.target}"}]
    return Reply(json.dumps({"contents": contents}).encode())


def _entry(kind: Kind, name: str, members: Mapping[str, Any]) -> Entry:
    schema = members.get("inputSchema", {})
    params = find_header_params(schema) if kind is Kind.TOOL else ()
    return Entry(kind, name, json.dumps(members, separators=(",", ":")).encode(), params)
