"""Registered functions: what a call needs of each, made ready once.

Knows how arguments reach a function (checked, converted, with its Context) and that functions without
`async` run in threads. Refuses to know boxes and replies to failures: see `toolbox.py`, `provider.py`.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from waygate_mcp.errors import InvalidArgumentsError
from waygate_mcp.model.catalog import Kind
from waygate_mcp.protocol.uris import UriTemplate
from waygate_mcp.toolkit.context import Context
from waygate_mcp.toolkit.definitions import (
    PromptOptions,
    ResourceOptions,
    ToolOptions,
    parse_schema,
    prompt_entry,
    resource_entry,
    tool_entry,
)
from waygate_mcp.toolkit.failures import RegistrationError
from waygate_mcp.toolkit.results import Output
from waygate_mcp.toolkit.signatures import (
    Conversion,
    Converter,
    Parameter,
    Signature,
    read_signature,
)
from waygate_mcp.toolkit.validation import compile_schema, explain

__all__ = ["Completer", "Prompt", "Resource", "Template", "Tool", "faults_of", "run_in_thread"]

AnyFunction = Callable[..., Any]


class Tool:
    """A tool: its entry, the check of its arguments, its function."""

    __slots__ = (
        "accepted",
        "context",
        "conversion",
        "entry",
        "function",
        "is_async",
        "is_valid",
        "name",
        "output",
        "schema",
        "validator",
    )

    def __init__(self, function: AnyFunction, options: ToolOptions) -> None:
        signature = read_signature(function)
        self.name = options.get("name") or _name_of(function)
        options = {"description": signature.doc.text, **options}
        raw_input = options.get("input_schema")
        published = raw_input if raw_input is not None else signature.input_schema()
        self.schema = parse_schema(published, what=f"tool {self.name}: input_schema")
        self.output = _output_of(self.name, signature, options)
        published_output = options.get("output_schema")
        if published_output is None and self.output is not None:
            published_output = self.output.schema
        self.entry = tool_entry(self.name, published, published_output, options)
        self.validator = compile_schema(self.schema, what=f"tool {self.name}: input_schema")
        self.is_valid = self.validator.is_valid
        self.function = function
        self.is_async = signature.is_async
        self.context = signature.context
        self.conversion = signature.conversion
        # A raw schema may allow arguments the function has no parameter for.
        is_open = raw_input is None or signature.takes_any
        self.accepted = None if is_open else frozenset(signature.keys)

    def faults(self, arguments: Any) -> tuple[str, ...]:
        """Say what is wrong with arguments that are not valid."""
        return explain(self.validator, self.schema, arguments)

    def convert(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Turn valid arguments into those of the function.

        Raises:
            InvalidArgumentsError: a value fits the schema and still not the parameter's type.
        """
        if self.accepted is not None:
            arguments = {key: arguments[key] for key in arguments if key in self.accepted}
        try:
            return self.conversion.apply(arguments)
        except ValidationError as exc:
            raise InvalidArgumentsError(faults_of(exc)) from exc


def _output_of(name: str, signature: Signature, options: ToolOptions) -> Output | None:
    raw = options.get("output_schema")
    if raw is not None:
        what = f"tool {name}: output_schema"
        return Output.of_schema(parse_schema(raw, what=what), what=what)
    return Output.of_annotation(signature.returns, is_wanted=options.get("structured"))


class _TextFunction:
    """A function whose arguments come as texts: prompts and templates."""

    def __init__(self, function: AnyFunction) -> None:
        self.signature = read_signature(function)
        self.function = function
        self.is_async = self.signature.is_async
        self.context = self.signature.context
        self.parameters = {one.key: one for one in self.signature.parameters}
        converters = tuple(
            (one.key, convert)
            for one in self.signature.parameters
            if (convert := _text_converter(one)) is not None
        )
        plain = self.signature.conversion
        self.conversion = Conversion(converters, plain.fills, plain.names, plain.hidden)

    def choices(self, argument: str) -> Sequence[str]:
        """Give the values an argument can have at all, where its annotation says so."""
        parameter = self.parameters.get(argument)
        return () if parameter is None else _choices(parameter.annotation)


class Prompt(_TextFunction):
    """A prompt: its entry and its function, whose parameters are its arguments."""

    def __init__(self, function: AnyFunction, options: PromptOptions) -> None:
        super().__init__(function)
        self.name = options.get("name") or _name_of(function)
        options = {"description": self.signature.doc.text, **options}
        self.description = options["description"]
        if self.signature.takes_any:
            raise RegistrationError(f"prompt {self.name}: the arguments of a prompt have names")
        arguments = [_prompt_argument(one) for one in self.signature.parameters]
        self.entry = prompt_entry(self.name, arguments, options)

    def convert(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Check a prompt's arguments and turn them into those of its function.

        Raises:
            InvalidArgumentsError: one is missing, unknown, no text, or not what its type wants.
        """
        faults = [
            f"`{one.key}`: required argument is missing"
            for one in self.signature.parameters
            if one.is_required and one.key not in arguments
        ]
        for name, value in arguments.items():
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                faults.append(f"`{name[:100]}`: unknown argument; known are: {known}")
            elif not isinstance(value, str):
                faults.append(f"`{name}`: the arguments of a prompt are texts")
        if faults:
            raise InvalidArgumentsError(faults)
        try:
            return self.conversion.apply(arguments)
        except ValidationError as exc:
            raise InvalidArgumentsError(faults_of(exc)) from exc


class Resource:
    """A resource with a fixed URI."""

    def __init__(self, uri: str, function: AnyFunction, options: ResourceOptions) -> None:
        signature = read_signature(function)
        if signature.parameters:
            raise RegistrationError(
                f"resource {uri}: its function has parameters, but the URI has no {{variables}}"
            )
        self.uri = uri
        self.function = function
        self.is_async = signature.is_async
        self.context = signature.context
        self.mime_type = options.get("mime_type")
        self.ttl_ms = options.get("ttl_ms", 0)
        self.cache_scope = options.get("cache_scope", "private")
        options = {"description": signature.doc.text, **options}
        name = options.get("name") or _name_of(function)
        self.entry = resource_entry(Kind.RESOURCE, uri, name, options)


class Template(_TextFunction):
    """A family of resources: a URI template and a function of its variables."""

    def __init__(
        self, template: UriTemplate, function: AnyFunction, options: ResourceOptions
    ) -> None:
        super().__init__(function)
        self.template = template
        self.uri = template.text
        self.mime_type = options.get("mime_type")
        self.ttl_ms = options.get("ttl_ms", 0)
        self.cache_scope = options.get("cache_scope", "private")
        self._check_variables()
        options = {"description": self.signature.doc.text, **options}
        name = options.get("name") or _name_of(function)
        self.entry = resource_entry(Kind.TEMPLATE, self.uri, name, options)

    def _check_variables(self) -> None:
        variables = set(self.template.variables)
        parameters = set(self.parameters)
        if not self.signature.takes_any and variables - parameters:
            missing = ", ".join(sorted(variables - parameters))
            raise RegistrationError(f"{self.uri}: the function has no parameter for {missing}")
        if unknown := parameters - variables:
            names = ", ".join(sorted(unknown))
            raise RegistrationError(f"{self.uri}: the template has no variable for {names}")
        required = {one.key for one in self.signature.parameters if one.is_required}
        if open_ends := required & self.template.optional:
            names = ", ".join(sorted(open_ends))
            raise RegistrationError(f"{self.uri}: {names} may be left out and needs a default")

    def read(self, uri: str) -> dict[str, Any] | None:
        """Give the function's arguments for a URI, None where it is not of this template."""
        values = self.template.match(uri)
        if values is None or not self.conversion:
            return values
        try:
            return self.conversion.apply(values)
        except ValidationError:
            return None


class Completer:
    """A function that completes one argument.

    It has a parameter for the text so far and may have one called `arguments`, for those that are
    filled in already, and a Context.
    """

    def __init__(self, function: AnyFunction) -> None:
        signature = read_signature(function)
        names = list(signature.names)
        self.function = function
        self.is_async = signature.is_async
        self.context = signature.context
        self.takes_arguments = "arguments" in names
        rest = [name for name in names if name != "arguments"]
        if len(rest) != 1:
            raise RegistrationError(
                f"completion {_name_of(function)}: its parameters are the text so far and, if "
                "wanted, `arguments` and a Context"
            )
        self.value = rest[0]

    def convert(self, value: str, arguments: Mapping[str, str]) -> dict[str, Any]:
        """Give the function's arguments."""
        given: dict[str, Any] = {self.value: value}
        if self.takes_arguments:
            given["arguments"] = arguments
        return given


async def run_in_thread(
    function: AnyFunction,
    arguments: Mapping[str, Any],
    context: Context | None,
    threads: Executor | None,
) -> Any:
    """Run a function off the loop, with the context variables of here.

    Cancelled, it stops waiting; the function itself cannot be stopped and is told by its Context.
    """
    loop = asyncio.get_running_loop()
    if context is not None:
        context.enter_thread(loop)
    variables = contextvars.copy_context()
    try:
        value = await loop.run_in_executor(threads, variables.run, _run, function, arguments)
        # A plain function may still give a coroutine: a decorator around an async one does.
        return await value if inspect.iscoroutine(value) else value
    except asyncio.CancelledError:
        if context is not None:
            context.cancel()
        raise


def _run(function: AnyFunction, arguments: Mapping[str, Any]) -> Any:
    try:
        return function(**arguments)
    except StopIteration as exc:
        # A future cannot hold a StopIteration: whoever waits for it would wait for ever.
        raise RuntimeError("the function raised StopIteration") from exc


def faults_of(error: ValidationError) -> list[str]:
    """Word Pydantic's findings, one sentence each."""
    return [
        f"`{'.'.join(map(str, fault['loc'])) or 'value'}`: {fault['msg']}"
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def _name_of(function: AnyFunction) -> str:
    name = getattr(inspect.unwrap(function), "__name__", type(function).__name__)
    return str(name)


def _prompt_argument(one: Parameter) -> dict[str, Any]:
    argument: dict[str, Any] = {"name": one.key}
    if one.description:
        argument["description"] = one.description
    argument["required"] = one.is_required
    return argument


def _text_converter(one: Parameter) -> Converter | None:
    """Choose how a text becomes what a parameter wants: lists and objects are read as JSON."""
    if one.annotation in (str, Any, object) or one.annotation == str | None:
        return None
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(one.annotation)
        kind = adapter.json_schema().get("type")
    except (PydanticUserError, PydanticSchemaGenerationError) as exc:
        raise RegistrationError(f"parameter `{one.name}` cannot be made of a text") from exc
    return adapter.validate_json if kind in {"object", "array"} else adapter.validate_strings


def _choices(annotation: Any) -> Sequence[str]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _choices(get_args(annotation)[0])
    if origin is Literal:
        return [str(one) for one in get_args(annotation)]
    if origin in (Union, types.UnionType):
        return [choice for one in get_args(annotation) for choice in _choices(one)]
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return [str(one.value) for one in annotation]
    return ()
