"""The HTTP headers that mirror a modern body: `Mcp-Method`, `Mcp-Name`, `Mcp-Param-*`.

Knows how values are encoded, how a tool's schema names the arguments to mirror, and whether headers
agree with a body. The body is the truth: nothing here decides by a header's value.
Spec: 2026-07-28 basic/transports/streamable-http, "Request Metadata".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
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
_PRIMITIVES = {"string": (str,), "integer": (int,), "boolean": (bool,)}
_MAX_PARAMS = 64
_MAX_SCHEMA_DEPTH = 32
_NOT_FOLLOWED = object()


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
        inner = text[len(_SENTINEL_HEAD) : -len(_SENTINEL_TAIL)]
        try:
            return base64.b64decode(inner, validate=True).decode()
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
    _walk_properties(input_schema, (), found)
    if _count_annotations(input_schema, 0) != len(found):
        raise HeaderParamsError("x-mcp-header stands where no argument can be read")
    names = [param.name.lower() for param in found]
    if len(set(names)) != len(names):
        raise HeaderParamsError("the same x-mcp-header name stands twice")
    if len(found) > _MAX_PARAMS:
        raise HeaderParamsError(f"more than {_MAX_PARAMS} x-mcp-header annotations")
    return tuple(found)


def _walk_properties(
    schema: Mapping[str, Any], path: tuple[str, ...], found: list[HeaderParam]
) -> None:
    """Follow `properties` and collect annotated primitives."""
    properties = schema.get("properties")
    if not isinstance(properties, dict) or len(path) >= _MAX_SCHEMA_DEPTH:
        return
    for key, child in properties.items():
        if not isinstance(child, dict):
            continue
        where = (*path, key)
        annotation = child.get("x-mcp-header", _NOT_FOLLOWED)
        if annotation is not _NOT_FOLLOWED:
            if not isinstance(annotation, str) or not _TOKEN.fullmatch(annotation):
                raise HeaderParamsError(f"x-mcp-header of {'.'.join(where)} is not a header token")
            if child.get("type") not in _PRIMITIVES:
                raise HeaderParamsError(
                    f"x-mcp-header of {'.'.join(where)} is not on a string, integer or boolean"
                )
            found.append(HeaderParam(annotation, where))
        _walk_properties(child, where, found)


def _count_annotations(node: Any, depth: int) -> int:
    """Count `x-mcp-header` members of schemas anywhere, so that unreachable ones are noticed."""
    if depth > 2 * _MAX_SCHEMA_DEPTH:
        raise HeaderParamsError("the schema nests too deep")
    if isinstance(node, list):
        return sum(_count_annotations(item, depth + 1) for item in node)
    if not isinstance(node, dict):
        return 0
    total = 0
    for key, child in node.items():
        if key == "x-mcp-header":
            total += 1
        elif key == "properties" and isinstance(child, dict):
            # Here the keys are argument names: one called x-mcp-header is no annotation.
            total += sum(_count_annotations(item, depth + 1) for item in child.values())
        elif key not in {"const", "default", "enum", "examples"}:
            total += _count_annotations(child, depth + 1)
    return total


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
    not. Integers are compared as numbers; an argument that is absent or null must have no header.
    """
    for param in params:
        value = _value_at(arguments, param.path)
        raw = headers.get(param.header)
        label = f"Mcp-Param-{param.name}"
        if value is None:
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


def _is_same(text: str, value: Any) -> bool:
    """Tell whether a decoded header stands for a body value."""
    if isinstance(value, bool):
        return text == ("true" if value else "false")
    if isinstance(value, int | float):
        try:
            return float(text) == value if "." in text or "e" in text.lower() else int(text) == value
        except ValueError:
            return False
    return isinstance(value, str) and text == value


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
        if isinstance(value, str | int | bool):
            built.append((f"Mcp-Param-{param.name}", encode_value(value)))
    return built
