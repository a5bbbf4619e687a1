"""One endpoint: what it offers, and the answers to its methods.

Knows the methods of both eras that are about entries or about the endpoint itself. Refuses to know
HTTP, sessions and streams; those are the doors'.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from waygate_mcp.errors import (
    InvalidArgumentsError,
    RpcError,
    UnknownMethodError,
    UnknownNameError,
)
from waygate_mcp.gateway.catalog import Catalog
from waygate_mcp.gateway.chain import compose
from waygate_mcp.gateway.links import map_error_data, map_meta, map_result
from waygate_mcp.gateway.offers import EndpointStatus, Found
from waygate_mcp.gateway.tasks import TaskHandles, Tasks
from waygate_mcp.model.call import Call, Outcome, Reply
from waygate_mcp.model.catalog import Kind, Viewer
from waygate_mcp.model.event import Event, ListChanged
from waygate_mcp.model.ports import Handler, Step
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.handshake import Hello, initialize_result
from waygate_mcp.protocol.headers import param_mismatch
from waygate_mcp.protocol.stateless import discover_result
from waygate_mcp.protocol.tasks import TASK_METHODS
from waygate_mcp.protocol.versions import MODERN, Revision

__all__ = ["Endpoint"]

_DISCOVER_TTL_MS = 60_000
_MAX_INSTRUCTIONS_CHARS = 4_096
_LISTS = {
    "tools/list": Kind.TOOL,
    "prompts/list": Kind.PROMPT,
    "resources/list": Kind.RESOURCE,
    "resources/templates/list": Kind.TEMPLATE,
}
_TARGETS = {
    "tools/call": Kind.TOOL,
    "prompts/get": Kind.PROMPT,
    "resources/read": Kind.RESOURCE,
    "resources/subscribe": Kind.RESOURCE,
    "resources/unsubscribe": Kind.RESOURCE,
}
_SUBSCRIPTIONS = frozenset({"resources/subscribe", "resources/unsubscribe"})
_AREAS = {
    "tools": "tools",
    "prompts": "prompts",
    "resources": "resources",
    "completion": "completions",
}


class Endpoint:
    """What is served at one path.

    `steps` are the rings around every call, outermost first. `instructions` replaces the providers'
    own advice where it is given. `handles` seals the ids of tasks. `admit`, where it is set, is shown each
    call once its provider is known, and refuses it by raising, or what it gives does when it is awaited.
    `hold` is a last step around the provider, once it is known.
    """

    def __init__(
        self,
        name: str,
        catalog: Catalog,
        steps: Sequence[Step],
        server_info: Mapping[str, Any],
        handles: TaskHandles,
        instructions: str | None = None,
    ) -> None:
        self.name = name
        self.catalog = catalog
        self.server_info = server_info
        self.capabilities: dict[str, Any] = {}
        self.instructions: str | None = None
        self._own_instructions = instructions
        self._steps = tuple(steps)
        self._tasks = Tasks(handles, catalog)
        self.hold: Step | None = None
        self.admit: Callable[[Call], Awaitable[None] | None] | None = None
        self.handle: Handler = compose(steps, self._route)
        self._all_handlers: dict[str, Handler] = {
            **dict.fromkeys(_LISTS, compose(steps, self._list)),
            **dict.fromkeys(_TARGETS, self.handle),
            "completion/complete": self.handle,
            "server/discover": compose(steps, self._discover),
            **dict.fromkeys(TASK_METHODS, compose(steps, self._route_task)),
        }
        self._handlers: dict[str, Handler] = {}
        self._provider_names = frozenset(b.provider.name for b in catalog.bindings)
        self._has_rivals = False
        self._look_at_providers()

    def handler_for(self, method: str) -> Handler:
        """Give what answers a method.

        Raises:
            UnknownMethodError: no provider here has that capability (or the door's own methods).
        """
        handler = self._handlers.get(method)
        if handler is None:
            raise UnknownMethodError(method, safe_message=f"Method not found: {method}")
        return handler

    def _offers(self, method: str) -> bool:
        """Tell whether some provider here has the capability a method belongs to."""
        if method in TASK_METHODS:
            return any(b.provider.features.has_tasks for b in self.catalog.bindings)
        area = _AREAS.get(method.partition("/")[0])
        if method in _SUBSCRIPTIONS:
            return "subscribe" in self.capabilities.get("resources", {})
        return area is None or area in self.capabilities

    def guard(self, handler: Handler) -> Handler:
        """Put the steps around a handler of the door's own: no method goes past them."""
        return compose(self._steps, handler)

    def binds(self, provider: str) -> bool:
        """Tell whether a provider is shown here."""
        return provider in self._provider_names

    def status(self) -> EndpointStatus:
        """Tell what it binds, what is hidden and why, and what it waits for."""
        return self.catalog.status()

    def public_uri(self, provider: str, uri: str) -> str | None:
        """Give the URI clients know a provider's resource by, None where they know none."""
        return self.catalog.public_uri(provider, uri)

    def shows_uri(self, uri: str) -> bool:
        """Tell whether a public URI may exist here at all."""
        return self.catalog.rules.resources(uri)

    def forget(self, event: Event) -> None:
        """Let the catalog drop what an event made stale."""
        if event.provider in self._provider_names:
            self.catalog.forget(event)
            if isinstance(event, ListChanged):
                self._look_at_providers()

    def _look_at_providers(self) -> None:
        """Take over what the providers can do; an upstream says so only once it is open."""
        self.capabilities = self._unite_capabilities()
        self._has_rivals = self.catalog.has_rivals
        handlers = self._all_handlers.items()
        self._handlers = {name: handler for name, handler in handlers if self._offers(name)}
        self.instructions = self._own_instructions or self._join_instructions()

    def initialize(self, hello: Hello) -> bytes:
        """Build the result of `initialize`, without asking any provider."""
        offered = self._offered_to(hello.revision)
        return initialize_result(hello.revision, offered, self.server_info, self.instructions)

    def _offered_to(self, revision: Revision) -> dict[str, Any]:
        """Add to the capabilities what only one revision has."""
        return {**self.capabilities, **self._tasks.capabilities(revision)}

    @property
    def has_task_extension(self) -> bool:
        """Tell whether modern clients may get tasks here."""
        return "extensions" in self._tasks.capabilities(MODERN)

    async def find_task(self, handle: str, viewer: Viewer) -> tuple[Found, str]:
        """Give where a modern client's task is run, and its id there.

        Raises:
            UnknownNameError: no such task for this viewer.
        """
        return await self._tasks.find(handle, self.name, viewer, MODERN)

    def _unite_capabilities(self) -> dict[str, Any]:
        """Unite what the providers can do; lists can always change, by our own configuration."""
        features = [binding.provider.features for binding in self.catalog.bindings]
        united: dict[str, Any] = {}
        if any(f.tools for f in features):
            united["tools"] = {"listChanged": True}
        if any(f.prompts for f in features):
            united["prompts"] = {"listChanged": True}
        if any(f.resources for f in features):
            united["resources"] = {"listChanged": True}
            if any(f.subscribe for f in features):
                united["resources"]["subscribe"] = True
        if any(f.completions for f in features):
            united["completions"] = {}
        if any(f.logging for f in features):
            united["logging"] = {}
        return united

    def _join_instructions(self) -> str | None:
        """Join the providers' advice, each under its name where there are several."""
        advice = [
            (binding.provider.name, text[:_MAX_INSTRUCTIONS_CHARS])
            for binding in self.catalog.bindings
            if (text := binding.provider.instructions)
        ]
        if len(advice) == 1 and len(self.catalog.bindings) == 1:
            return advice[0][1]
        return "\n\n".join(f"# {name}\n{text}" for name, text in advice) or None

    async def _discover(self, _call: Call) -> Reply:
        """Answer `server/discover`."""
        result = discover_result(self._offered_to(MODERN), self.instructions)
        return Reply(result, ttl_ms=_DISCOVER_TTL_MS, cache_scope="private")

    async def _list(self, call: Call) -> Reply:
        """Answer a list method with one page."""
        viewer = Viewer(call.principal, call.capabilities)
        cursor = call.params.get("cursor")
        return await self.catalog.page(_LISTS[call.method], cursor, viewer, call.revision)

    async def _route(self, call: Call) -> Outcome:
        """Find who answers and let them."""
        viewer = Viewer(call.principal, call.capabilities)
        if call.method == "completion/complete":
            found = await self._find_reference(call, viewer)
        else:
            kind = _TARGETS[call.method]
            known = self.catalog.find_known(kind, call.name, viewer)
            found = known or await self.catalog.find(kind, call.name, viewer)
        call.target = found.target
        call.provider = found.provider.name
        if call.headers is not None and found.entry is not None and found.entry.header_params:
            problem = param_mismatch(found.entry.header_params, call.arguments, call.headers)
            if problem is not None:
                raise HeaderMismatchError(problem)
        return await self._answer(found, call)

    async def _route_task(self, call: Call) -> Outcome:
        """Let whoever runs a task answer for it."""
        return await self._answer(await self._tasks.locate(call), call)

    async def _answer(self, found: Found, call: Call) -> Outcome:
        """Let a provider answer; URIs and tasks in its answer get the names they have here."""
        if self.admit is not None and (waits := self.admit(call)) is not None:
            await waits
        if not found.mark.text:
            outcome = await self._ask(found, call)
            if type(outcome) is not Reply:
                return outcome
            if self._has_rivals and b'"resource' in outcome.result:
                self._note_links(found, call, outcome)
            return outcome if outcome.task_id is None else self._tasks.hand_out(call, outcome)
        try:
            outcome = await self._ask(found, call)
        except RpcError as exc:
            raise _marked_error(found, exc) from exc
        except UnknownNameError as exc:
            raise UnknownNameError(exc.kind, call.name) from exc
        if type(outcome) is not Reply:
            return outcome
        marked = _marked(found, call.method, outcome)
        return marked if marked.task_id is None else self._tasks.hand_out(call, marked)

    def _ask(self, found: Found, call: Call) -> Awaitable[Outcome]:
        provider = found.provider
        return provider.call(call) if self.hold is None else self.hold(call, provider.call)

    def _note_links(self, found: Found, call: Call, reply: Reply) -> None:
        """Remember whose the resources are that a result points to."""
        uris: list[str] = []

        def note(uri: str) -> str:
            uris.append(uri)
            return uri

        map_result(call.method, reply.result, note)
        self.catalog.note_links(
            uris, found.provider.name, Viewer(call.principal, call.capabilities)
        )

    async def _find_reference(self, call: Call, viewer: Viewer) -> Found:
        """Find who completes: the owner of the prompt or template `ref` names."""
        ref = call.params.get("ref")
        if not isinstance(ref, dict):
            raise InvalidArgumentsError(["ref must be an object"])
        kind = ref.get("type")
        name = ref.get("name") if kind == "ref/prompt" else ref.get("uri")
        if kind not in ("ref/prompt", "ref/resource") or not isinstance(name, str):
            raise InvalidArgumentsError(["ref must name a prompt or a resource"])
        if kind == "ref/prompt":
            return await self.catalog.find(Kind.PROMPT, name, viewer)
        try:
            return await self.catalog.find(Kind.TEMPLATE, name, viewer)
        except UnknownNameError:
            return await self.catalog.find(Kind.RESOURCE, name, viewer)


def _marked(found: Found, method: str, reply: Reply) -> Reply:
    """Give a reply with the URIs clients know."""
    return msgspec.structs.replace(
        reply,
        result=map_result(method, reply.result, found.mark.add),
        meta=None if reply.meta is None else map_meta(reply.meta, found.mark.add),
    )


def _marked_error(found: Found, error: RpcError) -> RpcError:
    """Give an error with the URI clients know, where it is about the one that was asked for."""
    if error.data is None:
        return error

    def mark(uri: str) -> str:
        return found.mark.add(uri) if uri == found.target else uri

    return RpcError(error.rpc_code, error.safe_message, map_error_data(error.data, mark))


class HeaderMismatchError(RpcError):
    """An `Mcp-Param-*` header does not say what the arguments say: HTTP 400, -32020."""

    def __init__(self, message: str) -> None:
        super().__init__(jsonrpc.HEADER_MISMATCH, message)
