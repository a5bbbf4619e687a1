"""The published definitions of entries, encoded once.

Knows the members of Tool, Prompt, Resource and ResourceTemplate in JSON, and what may be chosen about
each while registering. Refuses to know functions and calls.
Spec: 2026-07-28 schema, Tool, Prompt, Resource, ResourceTemplate.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

import msgspec

from waygate_mcp.model.catalog import Entry, Kind
from waygate_mcp.protocol.headers import HeaderParamsError, find_header_params
from waygate_mcp.toolkit.content import Annotations, Icon, ToolHints
from waygate_mcp.toolkit.encoding import decode_json, encode_json
from waygate_mcp.toolkit.failures import RegistrationError

__all__ = [
    "CommonOptions",
    "PromptOptions",
    "ResourceOptions",
    "ToolOptions",
    "check_name",
    "parse_schema",
    "prompt_entry",
    "resource_entry",
    "tool_entry",
]

RawSchema = Mapping[str, Any] | str | bytes
_NAME = re.compile(r"[A-Za-z0-9_./-]{1,64}")


class CommonOptions(TypedDict, total=False):
    """What every entry may say of itself.

    `name` defaults to the function's, `description` to its docstring. `title` is for people. `meta`
    is published as `_meta`.
    """

    name: str
    title: str
    description: str
    icons: Sequence[Icon]
    meta: Mapping[str, Any]


class ToolOptions(CommonOptions, total=False):
    """What a tool may say besides.

    `input_schema` and `output_schema` replace those built from the signature: a mapping, or JSON
    text that is published byte for byte. `structured=False` sends results as content only, True
    insists that the result's annotation has a schema.
    """

    annotations: ToolHints | Mapping[str, Any]
    input_schema: RawSchema
    output_schema: RawSchema
    structured: bool


class PromptOptions(CommonOptions, total=False):
    """A prompt says nothing besides."""


class ResourceOptions(CommonOptions, total=False):
    """What a resource or template may say besides.

    `size` is in bytes. `ttl_ms` and `cache_scope` say how long, in milliseconds, and by whom what is
    read may be kept.
    """

    mime_type: str
    size: int
    annotations: Annotations
    ttl_ms: int
    cache_scope: Literal["public", "private"]


def check_name(name: str) -> str:
    """Give the name back if it may name a tool or prompt.

    Raises:
        RegistrationError: it may not.
    """
    if not _NAME.fullmatch(name):
        raise RegistrationError(
            f"{name!r}: a name has 1 to 64 characters, all letters, digits or one of _ - . /"
        )
    return name


def parse_schema(schema: RawSchema, *, what: str) -> dict[str, Any]:
    """Read a raw schema as an object.

    Raises:
        RegistrationError: it is no JSON object.
    """
    if isinstance(schema, Mapping):
        return dict(schema)
    try:
        parsed = decode_json(schema)
    except msgspec.DecodeError as exc:
        raise RegistrationError(f"{what}: not JSON: {exc}") from exc
    if not isinstance(parsed, dict):
        raise RegistrationError(f"{what}: a schema is a JSON object")
    return parsed


def _verbatim(schema: RawSchema) -> Any:
    """Give a schema so that its encoding is what the author wrote."""
    if isinstance(schema, Mapping):
        return schema
    return msgspec.Raw(schema.encode() if isinstance(schema, str) else schema)


def tool_entry(
    name: str, input_schema: RawSchema, output_schema: RawSchema | None, options: ToolOptions
) -> Entry:
    """Build a tool's entry.

    Raises:
        RegistrationError: the input schema is not about an object, or its `x-mcp-header`
            annotations break the rules.
    """
    parsed = parse_schema(input_schema, what=f"tool {name}: input_schema")
    if parsed.get("type") != "object":
        raise RegistrationError(f'tool {name}: an input schema has "type": "object"')
    try:
        header_params = find_header_params(parsed)
    except HeaderParamsError as exc:
        raise RegistrationError(f"tool {name}: {exc}") from exc
    definition = _definition(name=check_name(name), options=options)
    definition["inputSchema"] = _verbatim(input_schema)
    if output_schema is not None:
        definition["outputSchema"] = _verbatim(output_schema)
    _add(definition, "annotations", options.get("annotations"))
    return _finish(Kind.TOOL, name, definition, options, header_params)


def prompt_entry(
    name: str, arguments: Sequence[Mapping[str, Any]], options: CommonOptions
) -> Entry:
    """Build a prompt's entry; `arguments` are ready PromptArgument objects."""
    definition = _definition(name=check_name(name), options=options)
    if arguments:
        definition["arguments"] = arguments
    return _finish(Kind.PROMPT, name, definition, options)


def resource_entry(kind: Kind, uri: str, name: str, options: ResourceOptions) -> Entry:
    """Build the entry of a resource, or of a template whose text is `uri`."""
    member = "uriTemplate" if kind is Kind.TEMPLATE else "uri"
    definition = {member: uri, **_definition(name=name, options=options)}
    _add(definition, "mimeType", options.get("mime_type"))
    if kind is Kind.RESOURCE:
        _add(definition, "size", options.get("size"))
    _add(definition, "annotations", options.get("annotations"))
    return _finish(kind, uri, definition, options)


def _definition(*, name: str, options: CommonOptions) -> dict[str, Any]:
    definition: dict[str, Any] = {"name": name}
    _add(definition, "title", options.get("title"))
    _add(definition, "description", options.get("description"))
    return definition


def _finish(
    kind: Kind,
    name: str,
    definition: dict[str, Any],
    options: CommonOptions,
    header_params: tuple[Any, ...] = (),
) -> Entry:
    icons = options.get("icons")
    _add(definition, "icons", list(icons) if icons else None)
    _add(definition, "_meta", options.get("meta"))
    return Entry(kind, name, encode_json(definition), header_params)


def _add(definition: dict[str, Any], member: str, value: Any) -> None:
    if value is not None and value != "":
        definition[member] = value
