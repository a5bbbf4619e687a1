"""A Toolbox as a Provider: calls in, replies out, and the boundary where plugins' faults end.

Knows the six methods a provider answers, and what becomes of exceptions: a ToolError is the tool's own
answer, errors of the house pass, everything else gets an id that stands in the log and in the answer,
and nothing more. Refuses to know doors and eras.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

import msgspec

from waygate_mcp.errors import (
    InvalidArgumentsError,
    PluginError,
    UnknownMethodError,
    UnknownNameError,
    WaygateError,
)
from waygate_mcp.model import call as model
from waygate_mcp.model.call import Call, Outcome, Reply
from waygate_mcp.model.catalog import Features, Kind, Listing, Viewer
from waygate_mcp.model.event import ListChanged, ResourceUpdated
from waygate_mcp.model.ports import Announce
from waygate_mcp.telemetry.logs import get_logger
from waygate_mcp.toolkit.context import Context
from waygate_mcp.toolkit.encoding import encode_json
from waygate_mcp.toolkit.entries import (
    Completer,
    Prompt,
    Resource,
    Template,
    Tool,
    run_in_thread,
)
from waygate_mcp.toolkit.failures import ToolError, unwrap
from waygate_mcp.toolkit.questions import InputRequired
from waygate_mcp.toolkit.results import failed_tool, prompt_reply, resource_reply, tool_reply
from waygate_mcp.toolkit.toolbox import Toolbox

__all__ = ["Completion", "ToolboxProvider"]

_MAX_VALUES = 100
_EMPTY_RESULT = b"{}"
_log = get_logger("waygate.toolkit")

PLUGIN_FAULTS = (Exception, SystemExit)
"""What is caught at the plugin boundary: a function that calls `sys.exit` must not end the server."""


class Completion(msgspec.Struct, frozen=True):
    """Values for an argument, where a plain list cannot say it all.

    `total` is how many there are, if known; `has_more` that there are more than are given.
    """

    values: Sequence[str]
    total: int | None = None
    has_more: bool | None = None


class ToolboxProvider:
    """Answers calls by the functions of a Toolbox.

    `config` and `lifespan` are what functions find in their Context. `threads` runs functions
    written without `async`; the loop's own pool where None. Changes of the box are announced inside
    `with provider.attached():`, which has to be entered on the loop.
    """

    def __init__(
        self,
        name: str,
        box: Toolbox,
        announce: Announce,
        *,
        config: Any = None,
        lifespan: Any = None,
        threads: Executor | None = None,
    ) -> None:
        self.name = name
        self.box = box
        self._announce = announce
        self._config = config
        self._lifespan = lifespan
        self._threads = threads
        self._answer: dict[str, Callable[[Call], Awaitable[Outcome]]] = {
            "tools/call": self._call_tool,
            "prompts/get": self._get_prompt,
            "resources/read": self._read_resource,
            "completion/complete": self._complete,
            "resources/subscribe": self._subscribe,
            "resources/unsubscribe": self._subscribe,
        }

    @property
    def features(self) -> Features:
        """What the box can do."""
        return self.box.features

    @property
    def instructions(self) -> str | None:
        """The box's advice to models."""
        return self.box.instructions

    async def listing(self, kind: Kind, viewer: Viewer) -> Listing:
        """Give all entries of a kind; every viewer sees the same."""
        return self.box.listing(kind)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Announce the box's changes while inside."""
        loop = asyncio.get_running_loop()
        home = threading.get_ident()

        def hear(change: Kind | str) -> None:
            event = (
                ListChanged(self.name, change)
                if isinstance(change, Kind)
                else ResourceUpdated(self.name, change)
            )
            if threading.get_ident() == home:
                self._announce(event)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(self._announce, event)

        end = self.box.listen(hear)
        try:
            yield
        finally:
            end()

    def call(self, call: Call) -> Awaitable[Outcome]:
        """Answer one call; see `model.ports.Provider`. A plain function: one thing less to await."""
        answer = self._answer.get(call.method)
        if answer is None:
            raise UnknownMethodError(call.method)
        return answer(call)

    async def _call_tool(self, call: Call) -> Outcome:
        tool = self.box.tools.get(call.target)
        if tool is None:
            raise UnknownNameError("tool", call.name)
        arguments = call.arguments
        if not tool.is_valid(arguments):
            return _invalid(tool, tool.faults(arguments))
        if tool.conversion or tool.accepted is not None:
            try:
                arguments = tool.convert(arguments)
            except InvalidArgumentsError as exc:
                return _invalid(tool, exc.details)
        try:
            # `_run` in place: this is the path of a call.
            if tool.context is None and tool.is_async:
                value = await tool.function(**arguments)
            else:
                value = await self._run(tool, arguments, call)
            if value.__class__ is InputRequired:
                return _ask(value, call)
            return tool_reply(value, tool.output)
        except PLUGIN_FAULTS as exc:
            fault = self._fault(exc, call, f"tool {tool.name}")
            return failed_tool(fault.safe_message)

    async def _get_prompt(self, call: Call) -> Outcome:
        prompt = self.box.prompts.get(call.target)
        if prompt is None:
            raise UnknownNameError("prompt", call.name)
        arguments = prompt.convert(call.arguments)
        try:
            value = await self._run(prompt, arguments, call)
            if isinstance(value, InputRequired):
                return _ask(value, call)
            return prompt_reply(value, prompt.description)
        except PLUGIN_FAULTS as exc:
            raise self._fault(exc, call, f"prompt {prompt.name}") from exc

    async def _read_resource(self, call: Call) -> Outcome:
        entry: Resource | Template
        arguments: Mapping[str, Any]
        entry, arguments = self._find_resource(call)
        try:
            value = await self._run(entry, arguments, call)
            if isinstance(value, InputRequired):
                return _ask(value, call)
            reply = resource_reply(value, call.target, entry.mime_type)
        except PLUGIN_FAULTS as exc:
            raise self._fault(exc, call, f"resource {entry.uri}") from exc
        return msgspec.structs.replace(reply, ttl_ms=entry.ttl_ms, cache_scope=entry.cache_scope)

    def _find_resource(self, call: Call) -> tuple[Resource | Template, Mapping[str, Any]]:
        resource = self.box.resources.get(call.target)
        if resource is not None:
            return resource, {}
        matched = self.box.match(call.target)
        if matched is None:
            raise UnknownNameError("resource", call.name)
        return matched

    async def _subscribe(self, call: Call) -> Outcome:
        """Say that the resource exists; who subscribed to what is the gateway's to know."""
        self._find_resource(call)
        return Reply(_EMPTY_RESULT)

    async def _complete(self, call: Call) -> Outcome:
        entry, kind, name = self._completed(call)
        argument = call.params.get("argument")
        argument = argument if isinstance(argument, Mapping) else {}
        wanted, value = argument.get("name"), argument.get("value")
        if not isinstance(wanted, str) or not isinstance(value, str):
            raise InvalidArgumentsError(
                ["`argument`: expected an object with texts name and value"]
            )
        completer = self.box.completer(kind, name, wanted)
        if completer is None:
            choices = [] if entry is None else entry.choices(wanted)
            found: Any = [one for one in choices if one.startswith(value)]
        else:
            found = await self._run_completer(completer, value, call, f"completion of {name}")
        return Reply(encode_json({"completion": _completion(found)}))

    def _completed(self, call: Call) -> tuple[Prompt | Template | None, Kind, str]:
        """Find what a completion is about; a resource without variables has nothing to complete."""
        ref = call.params.get("ref")
        ref_type = ref.get("type") if isinstance(ref, Mapping) else None
        if ref_type == "ref/prompt":
            prompt = self.box.prompts.get(call.target)
            if prompt is None:
                raise UnknownNameError("prompt", call.name)
            return prompt, Kind.PROMPT, prompt.name
        if ref_type != "ref/resource":
            raise InvalidArgumentsError(["`ref.type`: expected ref/prompt or ref/resource"])
        template = self.box.templates.get(call.target)
        if template is None and call.target not in self.box.resources:
            raise UnknownNameError("resource template", call.name)
        return template, Kind.TEMPLATE, call.target

    async def _run_completer(self, completer: Completer, value: str, call: Call, what: str) -> Any:
        context = call.params.get("context")
        given = context.get("arguments") if isinstance(context, Mapping) else None
        arguments = given if isinstance(given, Mapping) else {}
        try:
            return await self._run(completer, completer.convert(value, arguments), call)
        except PLUGIN_FAULTS as exc:
            raise self._fault(exc, call, what) from exc

    async def _run(
        self,
        entry: Tool | Prompt | Resource | Template | Completer,
        arguments: Mapping[str, Any],
        call: Call,
    ) -> Any:
        """Run a function with its Context, in a thread where it is not async."""
        context = None
        if entry.context is not None:
            context = Context(call, config=self._config, lifespan=self._lifespan)
            arguments = {**arguments, entry.context: context}
        if entry.is_async:
            return await entry.function(**arguments)
        return await run_in_thread(entry.function, arguments, context, self._threads)

    def _fault(self, error: BaseException, call: Call, what: str) -> PluginError:
        """Word a plugin's fault as an error of the house: a ToolError's text is for the client.

        Raises:
            WaygateError: it is one already.
        """
        cause = unwrap(error)
        if isinstance(cause, WaygateError):
            raise cause
        if isinstance(cause, ToolError):
            return PluginError(self.name, f"{what}: {cause}", safe_message=str(cause))
        error_id = self._note(error, call, what)
        return PluginError(
            self.name,
            f"{what} failed (error {error_id})",
            safe_message=f"The {what.partition(' ')[0]} failed by a fault of its own "
            f"(error {error_id}).",
        )

    def _note(self, exc: BaseException, call: Call, what: str) -> str:
        """Write a plugin's fault to the log and give the id it has there."""
        error_id = secrets.token_hex(6)
        _log.error(
            "a plugin failed",
            plugin=self.name,
            what=what,
            error_id=error_id,
            request_id=call.request_id,
            exc_info=exc,
        )
        return error_id


def _invalid(tool: Tool, faults: Sequence[str]) -> Reply:
    """Answer arguments that do not fit, in words a model can act on.

    Spec: 2025-11-25 server/tools, "Error Handling": input validation errors are the tool's answer.
    """
    lines = "\n".join(f"- {fault}" for fault in faults)
    return failed_tool(f"Invalid arguments for {tool.name}:\n{lines}")


def _ask(required: InputRequired, call: Call) -> model.InputRequired:
    is_modern = call.revision.is_modern
    requests = {
        key: question.to_question(key, is_modern=is_modern)
        for key, question in required.requests.items()
    }
    return model.InputRequired(requests, required.state)


def _completion(found: Any) -> dict[str, Any]:
    """Word a completion's values, at most a hundred.

    Spec: 2026-07-28 server/utilities/completion, "Completion Results".
    """
    if not isinstance(found, Completion):
        found = Completion(list(found or ()))
    values = [str(one) for one in found.values]
    total = len(values) if found.total is None else found.total
    has_more = len(values) > _MAX_VALUES if found.has_more is None else found.has_more
    return {"values": values[:_MAX_VALUES], "total": total, "hasMore": has_more}
