"""What a function returned, as the result the protocol wants: built once, encoded once.

Knows how values become content blocks and structured content, and the results of tools, prompts and
resources in JSON. Refuses to know eras: no `resultType`, no `_meta` (they go beside it in a Reply).
Spec: 2026-07-28 server/tools, "Tool Result"; server/prompts; server/resources.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

import jsonschema_rs
import msgspec
from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic_core import PydanticSerializationError

from waygate_mcp.model.call import Reply
from waygate_mcp.toolkit.content import (
    CONTENT_TYPES,
    Audio,
    ContentBlock,
    EmbeddedResource,
    Image,
    Message,
    PromptResult,
    ResourceBlob,
    ResourceText,
    Text,
    ToolResult,
)
from waygate_mcp.toolkit.encoding import decode_json, encode_json, encode_text
from waygate_mcp.toolkit.failures import RegistrationError
from waygate_mcp.toolkit.questions import message_json
from waygate_mcp.toolkit.signatures import UntitledSchema, is_model, output_type
from waygate_mcp.toolkit.validation import compile_schema, explain

__all__ = [
    "Output",
    "WrongResultError",
    "encode_meta",
    "failed_tool",
    "prompt_reply",
    "resource_reply",
    "tool_reply",
]

_NO_OUTPUT_TYPES = (*CONTENT_TYPES, ToolResult, Message, bytes, types.NoneType)
_SIGNATURES: tuple[tuple[bytes, int, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", 0, "image/png"),
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"GIF8", 0, "image/gif"),
    (b"WEBP", 8, "image/webp"),
    (b"WAVE", 8, "audio/wav"),
    (b"ID3", 0, "audio/mpeg"),
    (b"OggS", 0, "audio/ogg"),
    (b"fLaC", 0, "audio/flac"),
)


class WrongResultError(TypeError):
    """A function returned what it did not declare, or what cannot be sent: the plugin's fault."""


class Output(msgspec.Struct, frozen=True):
    """How a tool's value becomes structured content.

    `schema` is the published output schema. `is_wrapped` says that the value is no object and goes
    out as `{"result": value}`. `dump` gives the value's JSON. What it gives is checked against
    `validator`, unless the value is of the type `trusted`, which cannot but fit.
    """

    schema: Mapping[str, Any]
    is_wrapped: bool
    dump: Callable[[Any], bytes]
    validator: jsonschema_rs.Validator
    trusted: type | None = None

    @classmethod
    def of_annotation(cls, returns: Any, *, is_wanted: bool | None) -> Output | None:
        """Read a result's annotation; None where there is nothing structured about it.

        `is_wanted` None decides by the annotation, False declines.

        Raises:
            RegistrationError: `is_wanted` is True and the annotation has no JSON schema.
        """
        annotation = output_type(returns)
        if is_wanted is False or annotation in (inspect.Signature.empty, Any, object, None):
            return None
        if _holds_content(annotation):
            return None
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(annotation)
            schema = adapter.json_schema(mode="serialization", schema_generator=UntitledSchema)
        except (PydanticUserError, PydanticSchemaGenerationError) as exc:
            if is_wanted or exc.code == "typed-dict-version":
                reason = str(exc).partition("\n")[0]
                raise RegistrationError(f"the result has no JSON schema: {reason}") from exc
            return None
        is_trusted = annotation is str or is_model(annotation)
        schema, is_wrapped = _as_object(schema)
        validator = compile_schema(schema, what="the result")
        trusted = annotation if is_trusted else None
        return cls(schema, is_wrapped, _dumper(adapter), validator, trusted)

    @classmethod
    def of_schema(cls, schema: Mapping[str, Any], *, what: str) -> Output:
        """Take a raw output schema; every structured result is checked against it."""
        return cls(schema, False, encode_json, compile_schema(schema, what=what))

    def encode(self, value: Any) -> bytes:
        """Give the JSON of a value (without the wrapping).

        Raises:
            WrongResultError: the value is not what was declared.
        """
        try:
            raw = self.dump(value)
        except (PydanticSerializationError, TypeError, ValueError) as exc:
            raise WrongResultError(f"the result cannot be written as JSON: {exc}") from exc
        if value.__class__ is not self.trusted:
            plain = decode_json(raw)
            self.check({"result": plain} if self.is_wrapped else plain)
        return raw

    def check(self, structured: Any) -> None:
        """Insist that parsed structured content fits the schema.

        Raises:
            WrongResultError: it does not.
        """
        if not self.validator.is_valid(structured):
            faults = "; ".join(explain(self.validator, self.schema, structured))
            raise WrongResultError(f"the result does not fit the output schema: {faults}")


def _dumper(adapter: TypeAdapter[Any]) -> Callable[[Any], bytes]:
    serializer = adapter.serializer

    def dump(value: Any) -> bytes:
        # What does not fit the annotation is found by the schema, in words; no warnings needed.
        return serializer.to_json(value, by_alias=True, warnings=False)

    return dump


def _as_object(schema: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Make a schema one of an object, wrapping what is none, and tell whether that was done.

    Spec: 2025-11-25 schema, Tool: the root of an `outputSchema` has `"type": "object"` itself.
    """
    definitions = schema.get("$defs", {})
    reference = schema.get("$ref")
    if isinstance(reference, str):
        # A model that contains itself: its definition is put in place of the reference.
        schema = {**definitions.get(reference.rpartition("/")[2], {}), "$defs": definitions}
    if schema.get("type") == "object":
        schema.pop("title", None)
        return schema, False
    schema = {key: value for key, value in schema.items() if key != "$defs"}
    wrapped = {"type": "object", "properties": {"result": schema}, "required": ["result"]}
    return {**wrapped, "$defs": definitions} if definitions else wrapped, True


def _holds_content(annotation: Any) -> bool:
    """Tell whether an annotation speaks of content blocks or bytes anywhere on its surface."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _holds_content(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        parts = [one for one in get_args(annotation) if one is not types.NoneType]
        return any(_holds_content(one) for one in parts)
    if origin in (list, tuple) or getattr(origin, "__name__", "") in {"Sequence", "Iterable"}:
        return any(_holds_content(one) for one in get_args(annotation))
    return isinstance(annotation, type) and issubclass(annotation, _NO_OUTPUT_TYPES)


class _ToolWire(msgspec.Struct, omit_defaults=True, rename="camel"):
    """A CallToolResult; `content` is always written, since it has no default."""

    content: Any
    structured_content: Any = None
    is_error: bool = False


def tool_reply(value: Any, output: Output | None) -> Reply:
    """Turn what a tool returned into its reply.

    Raises:
        WrongResultError: it is not what the tool declared.
    """
    if output is None:
        if value.__class__ is str:
            return Reply(b'{"content":[{"type":"text","text":%b}]}' % encode_json(value))
        if isinstance(value, ToolResult):
            return _full_reply(value, None)
        if isinstance(value, BaseModel):
            raw = value.model_dump_json(by_alias=True).encode()
            return _structured_reply(raw, None, raw)
        return Reply(encode_json(_ToolWire(to_blocks(value))))
    if isinstance(value, ToolResult):
        return _full_reply(value, output)
    raw = output.encode(value)
    text = raw if value.__class__ is str else None
    return _structured_reply(b'{"result":%b}' % raw if output.is_wrapped else raw, text, raw)


def _structured_reply(structured: bytes, text: bytes | None, raw: bytes) -> Reply:
    """Write structured content and, for readers who do not know it, the same as text."""
    if text is None:
        text = encode_json(raw.decode())
    return Reply(
        b'{"content":[{"type":"text","text":%b}],"structuredContent":%b}' % (text, structured)
    )


def _full_reply(value: ToolResult, output: Output | None) -> Reply:
    structured: msgspec.Raw | None = None
    if value.structured is not None:
        raw = encode_json(value.structured)
        if not raw.startswith(b"{"):
            raise WrongResultError("structured content has to be an object")
        if output is not None and not value.is_error:
            output.check(decode_json(raw))
        structured = msgspec.Raw(raw)
    elif output is not None and not value.is_error:
        raise WrongResultError("the tool has an output schema and gave no structured content")
    if value.content is None and structured is not None:
        blocks: list[Any] = [Text(bytes(structured).decode())]
    else:
        blocks = to_blocks(value.content)
    wire = _ToolWire(blocks, structured, value.is_error)
    return Reply(encode_json(wire), meta=encode_meta(value.meta), is_error=value.is_error)


def failed_tool(text: str) -> Reply:
    """Give the reply of a tool that could not do its work, with a text for the model.

    It never fails itself: what cannot be UTF-8 (parts of file names, say) is written with escapes.
    """
    text = text.encode("utf-8", "backslashreplace").decode()
    wire = _ToolWire([Text(text)], is_error=True)
    return Reply(encode_json(wire), is_error=True)


def encode_meta(meta: Mapping[str, Any] | None) -> bytes | None:
    """Give the raw `_meta` of a result, None where there is nothing in it."""
    return encode_json(meta) if meta else None


def to_blocks(value: Any) -> list[ContentBlock]:
    """Turn a value into content blocks.

    Texts, bytes and blocks become one block each, a list that holds a block or bytes one for each
    item, nothing becomes none, and any other value one text with its JSON.
    """
    if value is None:
        return []
    block = _to_block(value)
    if block is not None:
        return [block]
    if isinstance(value, list | tuple) and value:
        blocks = [_to_block(item) for item in value]
        if all(block is not None for block in blocks):
            return [block for block in blocks if block is not None]
        if any(isinstance(item, (*CONTENT_TYPES, bytes)) for item in value):
            raise WrongResultError("a list of content may hold blocks, texts and bytes only")
    return [Text(_json_text(value))]


def _to_block(value: Any) -> ContentBlock | None:
    if isinstance(value, str):
        return Text(value)
    if isinstance(value, CONTENT_TYPES):
        return value
    if isinstance(value, bytes | bytearray):
        return _recognised(bytes(value))
    return None


def _recognised(data: bytes) -> ContentBlock:
    """Choose a block for bytes by what they begin with; unknown ones go as a resource."""
    for pattern, offset, mime_type in _SIGNATURES:
        if data.startswith(pattern, offset):
            is_image = mime_type.startswith("image/")
            return Image(data, mime_type) if is_image else Audio(data, mime_type)
    blob = ResourceBlob(data, uri="attachment:///data", mime_type="application/octet-stream")
    return EmbeddedResource(blob)


def _json_text(value: Any) -> str:
    try:
        return encode_text(value)
    except (TypeError, ValueError) as exc:
        raise WrongResultError(f"the result cannot be written as JSON: {exc}") from exc


def prompt_reply(value: Any, description: str | None) -> Reply:
    """Turn what a prompt returned into its reply: a text is one message of the user.

    Raises:
        WrongResultError: it is no message.
    """
    meta = None
    if isinstance(value, PromptResult):
        description = value.description or description
        meta = encode_meta(value.meta)
        value = value.messages
    messages = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(one, (str, Message, *CONTENT_TYPES)) for one in messages):
        raise WrongResultError("a prompt returns texts, Messages or content blocks")
    result: dict[str, Any] = {"messages": [message_json(one) for one in messages]}
    if description:
        result["description"] = description
    return Reply(encode_json(result), meta=meta)


def resource_reply(value: Any, uri: str, mime_type: str | None) -> Reply:
    """Turn what a resource returned into its reply; several contents come as a list of them.

    Texts and bytes are sent as they are, other values as JSON. The caching hints are the caller's.

    Raises:
        WrongResultError: it cannot be sent.
    """
    is_several = isinstance(value, list | tuple) and all(
        isinstance(one, ResourceText | ResourceBlob) for one in value
    )
    parts = value if is_several and value else [value]
    return Reply(encode_json({"contents": [_part(one, uri, mime_type) for one in parts]}))


def _part(value: Any, uri: str, mime_type: str | None) -> ResourceText | ResourceBlob:
    if isinstance(value, ResourceText | ResourceBlob):
        return msgspec.structs.replace(
            value, uri=value.uri or uri, mime_type=value.mime_type or mime_type
        )
    if isinstance(value, str):
        return ResourceText(value, uri, mime_type or "text/plain")
    if isinstance(value, bytes | bytearray):
        return ResourceBlob(bytes(value), uri, mime_type or "application/octet-stream")
    if value is None or isinstance(value, CONTENT_TYPES):
        raise WrongResultError("a resource returns text, bytes or a value that can be JSON")
    if dataclasses.is_dataclass(value) or isinstance(value, BaseModel | dict | list | int | float):
        return ResourceText(_json_text(value), uri, mime_type or "application/json")
    raise WrongResultError(f"a resource cannot be made of {type(value).__name__}")
