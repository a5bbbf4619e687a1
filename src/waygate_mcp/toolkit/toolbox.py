"""Toolbox: where functions become tools, prompts, resources and completions.

Knows what is registered, by name, and tells listeners when that changes, at run time too. Refuses to
know calls (`provider.py`) and configuration: one box at the top of a module may serve several plugins.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, Unpack, overload

from waygate_mcp.errors import UnknownNameError
from waygate_mcp.model.catalog import Entry, Features, Kind, Listing
from waygate_mcp.protocol.uris import UriTemplate, UriTemplateError
from waygate_mcp.toolkit.definitions import PromptOptions, ResourceOptions, ToolOptions
from waygate_mcp.toolkit.entries import Completer, Prompt, Resource, Template, Tool
from waygate_mcp.toolkit.failures import RegistrationError

__all__ = ["Toolbox"]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
Listen = Callable[[Kind | str], None]


class Toolbox:
    """Collects functions by decorators and offers them to clients.

        box = Toolbox()

        @box.tool
        async def add(a: int, b: int) -> int:
            '''Add two numbers.'''
            return a + b

    `instructions` is advice to models about the whole. `ttl_ms` says how long, in milliseconds,
    clients may keep its lists. Everything may be added and removed while it is served, from threads
    too; whoever lists or subscribes is told.
    """

    def __init__(self, *, instructions: str | None = None, ttl_ms: int = 0) -> None:
        self.instructions = instructions
        self.ttl_ms = ttl_ms
        self.tools: dict[str, Tool] = {}
        self.prompts: dict[str, Prompt] = {}
        self.resources: dict[str, Resource] = {}
        self.templates: dict[str, Template] = {}
        self._completers: dict[tuple[Kind, str, str], Completer] = {}
        self._ordered: tuple[Template, ...] = ()
        self._version = 0
        self._lists: dict[Kind, Listing] = {}
        self._seen: set[Kind] = set()
        self._listeners: tuple[Listen, ...] = ()
        self._lock = threading.Lock()

    # ------------------------------------------------------------------ tools

    @overload
    def tool(self, function: FunctionT, /) -> FunctionT: ...

    @overload
    def tool(self, **options: Unpack[ToolOptions]) -> Callable[[FunctionT], FunctionT]: ...

    def tool(  # type: ignore[misc]  # mypy does not see that `**options` takes what ToolOptions has
        self, function: Any = None, /, **options: Any
    ) -> Any:
        """Offer a function as a tool: `@box.tool`, or `@box.tool(title="…", …)` (see ToolOptions).

        The input schema is read from the parameters, descriptions from `Annotated[…,
        Field(description=…)]` or the docstring's `Args:`, the output schema from the result's
        annotation. Arguments are checked before the function runs. The function is given back.

        Raises:
            RegistrationError: it cannot be offered as it is written, or the name is taken.
        Spec: 2026-07-28 server/tools.
        """
        if function is None:
            return lambda real: self.add_tool(real, **options)
        return self.add_tool(function, **options)

    def add_tool(self, function: FunctionT, **options: Unpack[ToolOptions]) -> FunctionT:
        """Offer a function as a tool, as the decorator does."""
        tool = Tool(function, options)
        self._put(self.tools, tool.name, tool, Kind.TOOL)
        return function

    def remove_tool(self, name: str) -> None:
        """Offer a tool no more; calls under way go on.

        Raises:
            UnknownNameError: there is none of that name.
        """
        self._take(self.tools, name, Kind.TOOL)

    # ------------------------------------------------------------------ prompts

    @overload
    def prompt(self, function: FunctionT, /) -> FunctionT: ...

    @overload
    def prompt(self, **options: Unpack[PromptOptions]) -> Callable[[FunctionT], FunctionT]: ...

    def prompt(  # type: ignore[misc]  # as above
        self, function: Any = None, /, **options: Any
    ) -> Any:
        """Offer a function as a prompt; its parameters are the prompt's arguments.

        Arguments come as texts and are converted to the parameters' types. The function gives a
        text, a Message, a list of them, or a PromptResult.

        Raises:
            RegistrationError: it cannot be offered as it is written, or the name is taken.
        Spec: 2026-07-28 server/prompts.
        """
        if function is None:
            return lambda real: self.add_prompt(real, **options)
        return self.add_prompt(function, **options)

    def add_prompt(self, function: FunctionT, **options: Unpack[PromptOptions]) -> FunctionT:
        """Offer a function as a prompt, as the decorator does."""
        prompt = Prompt(function, options)
        self._put(self.prompts, prompt.name, prompt, Kind.PROMPT)
        return function

    def remove_prompt(self, name: str) -> None:
        """Offer a prompt no more.

        Raises:
            UnknownNameError: there is none of that name.
        """
        self._take(self.prompts, name, Kind.PROMPT)

    # ------------------------------------------------------------------ resources

    def resource(
        self, uri: str, **options: Unpack[ResourceOptions]
    ) -> Callable[[FunctionT], FunctionT]:
        """Offer a function as a resource, or as a template where `uri` holds `{variables}`.

        A template's variables are the function's parameters, converted to their types; a value that
        cannot be converted is a resource that does not exist, and so is one for which the function
        raises UnknownNameError. The function gives text, bytes, a value that can be JSON, or
        ResourceText and ResourceBlob.

        Raises:
            RegistrationError: it cannot be offered as it is written, or the URI is taken.
        Spec: 2026-07-28 server/resources.
        """

        def register(function: FunctionT) -> FunctionT:
            return self.add_resource(uri, function, **options)

        return register

    def add_resource(
        self, uri: str, function: FunctionT, **options: Unpack[ResourceOptions]
    ) -> FunctionT:
        """Offer a function as a resource or template, as the decorator does."""
        if "://" not in uri and ":" not in uri:
            raise RegistrationError(f"resource {uri}: a URI has a scheme, like note://{uri}")
        if "{" not in uri:
            self._put(self.resources, uri, Resource(uri, function, options), Kind.RESOURCE)
            return function
        try:
            template = UriTemplate(uri)
        except UriTemplateError as exc:
            raise RegistrationError(str(exc)) from exc
        self._put(self.templates, uri, Template(template, function, options), Kind.TEMPLATE)
        return function

    def remove_resource(self, uri: str) -> None:
        """Offer a resource or template no more.

        Raises:
            UnknownNameError: there is none.
        """
        if uri in self.templates:
            self._take(self.templates, uri, Kind.TEMPLATE)
        else:
            self._take(self.resources, uri, Kind.RESOURCE)

    def notify_updated(self, uri: str) -> None:
        """Tell subscribers that the resource `uri` has new content; from any thread."""
        for listener in self._listeners:
            listener(uri)

    # ------------------------------------------------------------------ completions

    def completion(
        self, of: str | Callable[..., Any], argument: str
    ) -> Callable[[FunctionT], FunctionT]:
        """Complete an argument of a prompt, or a variable of a template, by a function.

        `of` is the prompt's name, the template's text, or the function registered as either. The
        function gets the text so far and gives the values that fit, best first; a parameter
        `arguments` gets what is filled in already. More than 100 values are cut.

        Raises:
            RegistrationError: there is no such prompt, template or argument.
        Spec: 2026-07-28 server/utilities/completion.
        """
        kind, name, known = self._completed(of)
        if argument not in known:
            raise RegistrationError(f"{name} has no argument {argument!r} to complete")

        def register(function: FunctionT) -> FunctionT:
            self._completers[kind, name, argument] = Completer(function)
            return function

        return register

    def completer(self, kind: Kind, name: str, argument: str) -> Completer | None:
        """Give what completes an argument, if anything does."""
        return self._completers.get((kind, name, argument))

    def _completed(self, of: str | Callable[..., Any]) -> tuple[Kind, str, Sequence[str]]:
        for prompt in self.prompts.values():
            if of in (prompt.name, prompt.function):
                return Kind.PROMPT, prompt.name, list(prompt.parameters)
        for template in self.templates.values():
            if of in (template.uri, template.function):
                return Kind.TEMPLATE, template.uri, template.template.variables
        raise RegistrationError(f"no prompt or template {of!r}: register it before its completions")

    # ------------------------------------------------------------------ what is offered

    @property
    def features(self) -> Features:
        """What the box can do. What it once had it goes on declaring, though it be empty now."""
        has_resources = bool(self._seen & {Kind.RESOURCE, Kind.TEMPLATE})
        has_completable = bool(self._seen & {Kind.PROMPT, Kind.TEMPLATE})
        return Features(
            tools=Kind.TOOL in self._seen,
            prompts=Kind.PROMPT in self._seen,
            resources=has_resources,
            subscribe=has_resources,
            completions=has_completable,
            logging=True,
        )

    def listing(self, kind: Kind) -> Listing:
        """Give all entries of a kind in the order of their registration; kept until it changes."""
        kept = self._lists.get(kind)
        if kept is None:
            with self._lock:
                kept = Listing(tuple(self._entries(kind)), self._version, ttl_ms=self.ttl_ms)
                self._lists[kind] = kept
        return kept

    def match(self, uri: str) -> tuple[Template, dict[str, Any]] | None:
        """Find the most specific template a URI is of, and its function's arguments."""
        for template in self._ordered:
            arguments = template.read(uri)
            if arguments is not None:
                return template, arguments
        return None

    def include(self, other: Toolbox) -> None:
        """Offer all that another box offers now; what it gets later is not followed.

        Raises:
            RegistrationError: a name or URI is taken.
        """
        for tool in other.tools.values():
            self._put(self.tools, tool.name, tool, Kind.TOOL)
        for prompt in other.prompts.values():
            self._put(self.prompts, prompt.name, prompt, Kind.PROMPT)
        for resource in other.resources.values():
            self._put(self.resources, resource.uri, resource, Kind.RESOURCE)
        for template in other.templates.values():
            self._put(self.templates, template.uri, template, Kind.TEMPLATE)
        self._completers.update(other._completers)

    def listen(self, listener: Listen) -> Callable[[], None]:
        """Tell `listener` of changes: a Kind whose list changed, or the URI of a resource.

        It may be called in any thread and must neither block nor raise. Gives what ends it.
        """
        with self._lock:
            self._listeners = (*self._listeners, listener)

        def end() -> None:
            with self._lock:
                self._listeners = tuple(one for one in self._listeners if one is not listener)

        return end

    def _entries(self, kind: Kind) -> list[Entry]:
        by_kind: dict[Kind, dict[str, Any]] = {
            Kind.TOOL: self.tools,
            Kind.PROMPT: self.prompts,
            Kind.RESOURCE: self.resources,
            Kind.TEMPLATE: self.templates,
        }
        return [one.entry for one in by_kind[kind].values()]

    def _put(self, where: dict[str, Any], name: str, what: Any, kind: Kind) -> None:
        with self._lock:
            if name in where:
                raise RegistrationError(f"{kind.value} {name!r} is registered already")
            where[name] = what
            self._seen.add(kind)
            self._forget(kind)
        self._tell(kind)

    def _take(self, where: dict[str, Any], name: str, kind: Kind) -> None:
        with self._lock:
            if where.pop(name, None) is None:
                raise UnknownNameError(kind.value, name)
            for key in [key for key in self._completers if key[:2] == (kind, name)]:
                del self._completers[key]
            self._forget(kind)
        self._tell(kind)

    def _forget(self, kind: Kind) -> None:
        """Drop what was made of the entries; the lock is held."""
        self._version += 1
        self._lists.pop(kind, None)
        if kind is Kind.TEMPLATE:
            by_specificity = sorted(
                self.templates.values(), key=lambda one: one.template.specificity
            )
            self._ordered = tuple(by_specificity)

    def _tell(self, kind: Kind) -> None:
        for listener in self._listeners:
            listener(kind)
