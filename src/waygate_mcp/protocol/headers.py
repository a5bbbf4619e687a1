"""The HTTP headers that mirror a modern body: `Mcp-Method`, `Mcp-Name`, `Mcp-Param-*`.

Knows how values are encoded, how a tool's schema names the arguments to mirror, and whether headers
agree with a body. The body is the truth: nothing here decides by a header's value.
Spec: 2026-07-28 basic/transports/streamable-http, "Request Metadata".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

__all__ = [
    "HeaderParam",
    "HeaderParamsError",
    "decode_value",
    "encode_value",
    "find_header_params",
    "mirrored_headers",
    "param_mismatch",
]

_SENTINEL_HEAD, _SENTINEL_TAIL = "=?base64?", "?="
_PLAIN = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NUMBER = re.compile(r"-?[0-9]{1,400}(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,3})?")
_PRIMITIVES = ("string", "integer", "boolean")
_ANNOTATION = "x-mcp-header"
_NAMED_SCHEMAS = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
)
_NO_SCHEMAS = frozenset({"const", "default", "enum", "examples"})
_MAX_PARAMS = 64
_MAX_NAME_CHARS = 128
_MAX_SCHEMA_DEPTH = 64


class HeaderParam(msgspec.Struct, frozen=True):
    """One argument mirrored in a header: `Mcp-Param-{name}` holds the value at `path`.

    `path` are the property names from the root of the arguments to the value.
    """

    name: str
    path: tuple[str, ...]

    @property
    def header(self) -> bytes:
        """The header's name, lower-case, as ASGI gives it."""
        return b"mcp-param-" + self.name.lower().encode()


class HeaderParamsError(ValueError):
    """A tool's `x-mcp-header` annotations break the rules; the tool must not be offered over HTTP."""


def encode_value(value: str | int | bool) -> str:
    """Write a value so that it is safe in a header.

    Plain visible ASCII stays, everything else becomes `=?base64?…?=` over its UTF-8; booleans are
    `true` and `false`.
    """
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    is_wrapped = value.startswith(_SENTINEL_HEAD) and value.endswith(_SENTINEL_TAIL)
    if not value or (_PLAIN.fullmatch(value) and not is_wrapped):
        return value
    return f"{_SENTINEL_HEAD}{base64.b64encode(value.encode()).decode()}{_SENTINEL_TAIL}"


def decode_value(raw: bytes) -> str | None:
    """Read a header value back, undoing the base64 form; None where it is not well-formed."""
    try:
        text = raw.decode("ascii").strip(" \t")
    except UnicodeDecodeError:
        return None
    if text.startswith(_SENTINEL_HEAD) and text.endswith(_SENTINEL_TAIL):
        inner = text[len(_SENTINEL_HEAD) : -len(_SENTINEL_TAIL)].encode()
        try:
            value = base64.b64decode(inner, validate=True)
            # Canonical form only: one value has one header, whoever compares them on the way.
            return value.decode() if base64.b64encode(value) == inner else None
        except (binascii.Error, UnicodeDecodeError):
            return None
    return text if not text or _PLAIN.fullmatch(text) else None


def find_header_params(input_schema: Mapping[str, Any]) -> tuple[HeaderParam, ...]:
    """Collect the `x-mcp-header` annotations of a tool's input schema.

    Only chains of `properties` are followed, as the extraction rule reads them.

    Raises:
        HeaderParamsError: an annotation is empty, no header token, not on a string, integer or
            boolean, stands twice (case-insensitive), or where extraction cannot reach it.
    """
    found: list[HeaderParam] = []
    for path, schema in _schemas(input_schema):
        if _ANNOTATION not in schema:
            continue
        if not path:
            raise HeaderParamsError(f"{_ANNOTATION} stands where no argument can be read")
        found.append(_read_annotation(path, schema))
    names = {param.name.lower() for param in found}
    if len(names) != len(found):
        raise HeaderParamsError(f"the same {_ANNOTATION} name stands twice")
    if len(found) > _MAX_PARAMS:
        raise HeaderParamsError(f"more than {_MAX_PARAMS} {_ANNOTATION} annotations")
    return tuple(found)


def _read_annotation(path: tuple[str, ...], schema: Mapping[str, Any]) -> HeaderParam:
    """Read one annotation, whose place is known to be reachable."""
    name, where = schema[_ANNOTATION], ".".join(path)[:200]
    if not isinstance(name, str) or len(name) > _MAX_NAME_CHARS or not _TOKEN.fullmatch(name):
        raise HeaderParamsError(f"{_ANNOTATION} of {where} is not a header token")
    # A list of types is no primitive type, even if all its members are.
    if schema.get("type") not in _PRIMITIVES:
        raise HeaderParamsError(f"{_ANNOTATION} of {where} is not on a string, integer or boolean")
    return HeaderParam(name, path)


def _schemas(root: Any) -> Iterator[tuple[tuple[str, ...] | None, Mapping[str, Any]]]:
    """Walk every schema below `root`, in order.

    Its path comes along: None off the chains of `properties`, `()` for the root itself.
    """
    path: tuple[str, ...] | None
    waiting: list[tuple[tuple[str, ...] | None, Any, int]] = [((), root, 0)]
    while waiting:
        path, node, depth = waiting.pop()
        if not isinstance(node, Mapping | list):
            continue
        if depth > _MAX_SCHEMA_DEPTH:
            raise HeaderParamsError("the schema nests too deep")
        if isinstance(node, Mapping):
            yield path, node
        inner = [(where, child, depth + 1) for where, child in _children(node, path)]
        waiting += reversed(inner)


def _children(
    node: Mapping[str, Any] | list[Any], path: tuple[str, ...] | None
) -> Iterator[tuple[tuple[str, ...] | None, Any]]:
    """Give what may be a schema directly below a schema or a list of them."""
    if isinstance(node, list):
        yield from ((None, item) for item in node)
        return
    for key, child in node.items():
        if key in _NAMED_SCHEMAS and isinstance(child, Mapping):
            # Here the keys are names of the author's: one called x-mcp-header is no annotation.
            for name, schema in child.items():
                where = None if path is None or key != "properties" else (*path, name)
                yield where, schema
        elif key not in _NO_SCHEMAS:
            yield None, child


def _value_at(arguments: Any, path: Iterable[str]) -> Any:
    """Read the value at `path`, None where there is none."""
    for key in path:
        if not isinstance(arguments, dict):
            return None
        arguments = arguments.get(key)
    return arguments


def param_mismatch(
    params: Iterable[HeaderParam], arguments: Mapping[str, Any], headers: Mapping[bytes, bytes]
) -> str | None:
    """Compare the `Mcp-Param-*` headers of a call with its arguments.

    Gives None where they agree, else a sentence for the client naming the first header that does
    not. Numbers are compared as numbers; an argument that is absent, null or no primitive must
    have no header.
    """
    for param in params:
        value = _value_at(arguments, param.path)
        raw = headers.get(param.header)
        label = f"Mcp-Param-{param.name}"
        if value is None or isinstance(value, dict | list):
            if raw is not None:
                return f"Header mismatch: {label} has no value in the body"
            continue
        if raw is None:
            return f"Header mismatch: {label} is missing"
        text = decode_value(raw)
        if text is None:
            return f"Header mismatch: {label} holds invalid characters"
        if not _is_same(text, value):
            return f"Header mismatch: {label} does not match the body"
    return None


def _is_same(text: str, value: str | int | float | bool) -> bool:
    """Tell whether a decoded header stands for a body value.

    Numbers are compared exactly, so that no two of them are one to us and two to others.
    """
    if isinstance(value, bool):
        return text == ("true" if value else "false")
    if isinstance(value, int | float):
        return _NUMBER.fullmatch(text) is not None and Decimal(text) == value
    return text == value


def mirrored_headers(
    method: str,
    name: str | None,
    params: Iterable[HeaderParam] = (),
    arguments: Mapping[str, Any] | None = None,
) -> list[tuple[str, str]]:
    """Build the headers a modern request must carry besides its version, from what is sent.

    `name` is `params.name` or `params.uri`, None for methods that name nothing.
    """
    built = [("Mcp-Method", encode_value(method))]
    if name is not None:
        built.append(("Mcp-Name", encode_value(name)))
    for param in params:
        value = _value_at(arguments, param.path)
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # 42.0 is an integer to JSON Schema
        if isinstance(value, str | int):
            built.append((f"Mcp-Param-{param.name}", encode_value(value)))
    return built
