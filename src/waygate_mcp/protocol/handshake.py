"""The legacy era: `initialize`, and what old readers cannot be sent.

Knows the results of the handshake and the downgrades for readers of older revisions. Refuses to
know sessions. Downgrades take what upstreams wrote, so they never raise on it: what has not the
expected shape is left as it is, and what is not rewritten keeps its very bytes.
Spec: 2025-11-25 basic/lifecycle; protocol.md 4, "Downgrades by revision of the reader".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.jsonrpc import encode_json
from waygate_mcp.protocol.versions import Revision, negotiate

__all__ = [
    "INPUT_KEY_META",
    "Hello",
    "downgrade_content",
    "downgrade_definition",
    "downgrade_form",
    "downgrade_sampled",
    "downgrade_sampling",
    "initialize_result",
    "name_elicitation",
    "name_input_key",
    "read_initialize",
    "unname_elicitation",
]

_MAX_NAME_CHARS = 128
_NON_OBJECT_STRUCTURED = re.compile(rb'"structuredContent"\s*:\s*[^{\s]')
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_read_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_read_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_read_text = msgspec.json.Decoder(str).decode


_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

INPUT_KEY_META = "waygate-mcp/inputKey"
"""The member of a legacy question's `_meta` that names its key, between gateways of ours."""


class Hello(msgspec.Struct, frozen=True):
    """What a client said in `initialize`, after negotiation.

    `client_name` is for display only and holds at most 128 characters.
    """

    revision: Revision
    capabilities: ClientCapabilities
    client_name: str


def read_initialize(params: Mapping[str, Any]) -> Hello | str:
    """Read the parameters of `initialize`, or give a sentence for the client."""
    requested = params.get("protocolVersion")
    if type(requested) is not str:
        return "protocolVersion must be a string"
    declared = params.get("capabilities", {})
    if type(declared) is not dict:
        return "capabilities must be an object"
    info = params.get("clientInfo")
    name = info.get("name") if type(info) is dict else None
    revision = negotiate(requested)
    capabilities = ClientCapabilities.parse(declared, revision)
    return Hello(revision, capabilities, name[:_MAX_NAME_CHARS] if type(name) is str else "")


def initialize_result(
    revision: Revision,
    capabilities: Mapping[str, Any],
    server_info: Mapping[str, Any],
    instructions: str | None,
) -> bytes:
    """Build the result of `initialize`."""
    offered = dict(capabilities)
    if not revision.has_audio:
        # 2024-11-05 had completion, but no capability for it.
        offered.pop("completions", None)
    result: dict[str, Any] = {
        "protocolVersion": revision.text,
        "capabilities": offered,
        "serverInfo": server_info,
    }
    if instructions:
        result["instructions"] = instructions
    return encode_json(result)


def downgrade_content(result: bytes, revision: Revision) -> bytes:
    """Rewrite a tool or prompt result so that a reader of `revision` understands it.

    Audio becomes an embedded blob before 2025-03-26, a resource link text before 2025-06-18, and
    structured content that is no object is dropped before 2026-07-28 (its JSON stays as text). The
    bytes are only parsed where they may hold one of these.
    """
    if revision.is_modern:
        return result
    drops_structured = (
        b'"structuredContent"' in result and _NON_OBJECT_STRUCTURED.search(result) is not None
    )
    has_link = not revision.has_resource_links and b'"resource_link"' in result
    has_audio = not revision.has_audio and b'"audio"' in result
    value = _object(result) if drops_structured or has_link or has_audio else None
    if value is None:
        return result
    if drops_structured:
        _drop_structured(value)

    def rewrite_block(block: msgspec.Raw) -> msgspec.Raw:
        return _downgrade_block(block, revision)

    def rewrite_message(raw: msgspec.Raw) -> msgspec.Raw:
        message = _object(raw)
        if message is None or "content" not in message:
            return raw
        message["content"] = rewrite_block(message["content"])
        return _raw(message)

    for member, rewrite in (("content", rewrite_block), ("messages", rewrite_message)):
        if member in value:
            value[member] = _rewrite_items(value[member], rewrite)
    return encode_json(value)


def _object(raw: bytes | msgspec.Raw) -> dict[str, msgspec.Raw] | None:
    """Read the members of an object as raw slices, None where it is none."""
    try:
        return _read_object(raw)
    except _UNREADABLE:
        return None


def _items(raw: msgspec.Raw) -> list[msgspec.Raw] | None:
    """Read the items of a list as raw slices, None where it is none."""
    try:
        return _read_list(raw)
    except _UNREADABLE:
        return None


def _text(members: Mapping[str, msgspec.Raw], name: str) -> str | None:
    """Read a member that should be text, None where it is not."""
    try:
        return _read_text(members[name]) if name in members else None
    except _UNREADABLE:
        return None


def _raw(value: Any) -> msgspec.Raw:
    """Write a value as a raw slice."""
    return msgspec.Raw(encode_json(value))


def _rewrite_items(raw: msgspec.Raw, rewrite: Callable[[msgspec.Raw], msgspec.Raw]) -> msgspec.Raw:
    """Rewrite each item of a list; what is no list stays."""
    items = _items(raw)
    return raw if items is None else _raw([rewrite(item) for item in items])


def _drop_structured(value: dict[str, msgspec.Raw]) -> None:
    """Remove structured content that is no object, keeping its JSON as text."""
    structured = bytes(value.get("structuredContent", b"{}"))
    if structured.startswith(b"{"):
        return
    del value["structuredContent"]
    blocks = _items(value["content"]) if "content" in value else None
    blocks = blocks or []
    if not any(_text(_object(block) or {}, "type") == "text" for block in blocks):
        text = structured.decode(errors="replace")
        blocks.append(_raw({"type": "text", "text": text}))
    value["content"] = _raw(blocks)


def _downgrade_block(raw: msgspec.Raw, revision: Revision) -> msgspec.Raw:
    """Rewrite one content block an old reader does not know."""
    block = _object(raw)
    if block is None:
        return raw
    kind = _text(block, "type")
    if kind == "audio" and not revision.has_audio:
        resource = {
            "uri": "data:,audio",
            "mimeType": _text(block, "mimeType") or "application/octet-stream",
            "blob": _text(block, "data") or "",
        }
        return _raw({"type": "resource", "resource": resource})
    if kind == "resource_link" and not revision.has_resource_links:
        title = _text(block, "title") or _text(block, "name") or "resource"
        return _raw({"type": "text", "text": f"{title}: {_text(block, 'uri') or ''}"})
    return raw


def downgrade_definition(definition: bytes, revision: Revision) -> bytes:
    """Rewrite a tool's definition for a reader of `revision`.

    An output schema whose root is no object is dropped before 2026-07-28, and with it the promise of
    structured content.
    """
    if revision.is_modern or b'"outputSchema"' not in definition:
        return definition
    value = _object(definition)
    if value is None or "outputSchema" not in value:
        return definition
    schema = _object(value["outputSchema"])
    if schema is not None and _text(schema, "type") == "object":
        return definition
    del value["outputSchema"]
    return encode_json(value)


def downgrade_form(params: bytes, revision: Revision) -> bytes | None:
    """Rewrite a form elicitation for a reader of `revision`; None where it cannot be shown.

    Before 2025-11-25 a titled choice is `enum` with `enumNames`, there is no choice of several and
    no question by URL. The members `mode` and `default` are unknown there and left alone.
    Spec: 2025-06-18 client/elicitation, "Supported Schema Types".
    """
    if revision.has_modern_enums:
        return params
    value = _object(params) or {}
    if _text(value, "mode") == "url":
        return None
    schema = _object(value["requestedSchema"]) if "requestedSchema" in value else None
    fields = _object(schema["properties"]) if schema and "properties" in schema else None
    if schema is None or not fields:
        return params
    for name, raw in fields.items():
        field = _object(raw)
        if field is None:
            continue
        if _text(field, "type") == "array":
            return None
        if _name_choices(field):
            fields[name] = _raw(field)
    schema["properties"] = _raw(fields)
    value["requestedSchema"] = _raw(schema)
    return encode_json(value)


def _name_choices(field: dict[str, msgspec.Raw]) -> bool:
    """Write a field's titled choices the way of 2025-06-18; tell whether there were any."""
    choices = (
        [_object(choice) or {} for choice in _items(field["oneOf"]) or ()]
        if ("oneOf" in field)
        else []
    )
    if not choices or not all("const" in choice for choice in choices):
        return False
    del field["oneOf"]
    field["enum"] = _raw([choice["const"] for choice in choices])
    field["enumNames"] = _raw([choice.get("title", choice["const"]) for choice in choices])
    return True


def downgrade_sampling(params: bytes, revision: Revision) -> bytes:
    """Rewrite a sampling for a reader of `revision`.

    Before 2025-11-25 a message holds one block: a message of several becomes as many of the same
    role. Before 2025-03-26 there is no audio, and text says what is missing.
    Spec: 2025-11-25 client/sampling, "Message Content".
    """
    value = _object(params) if not revision.has_sampling_tools else None
    messages = _items(value["messages"]) if value and "messages" in value else None
    if value is None or messages is None:
        return params
    written: list[msgspec.Raw] = []
    for raw in messages:
        message = _object(raw)
        if message is None or "content" not in message:
            written.append(raw)
            continue
        found = _items(message["content"])
        blocks = [message["content"]] if found is None else found
        readable = [_without_audio(block, revision) for block in blocks]
        if readable == [message["content"]]:
            written.append(raw)
        else:
            written += [_raw({**message, "content": block}) for block in readable]
    if written == messages:
        return params
    value["messages"] = _raw(written)
    return encode_json(value)


def downgrade_sampled(result: bytes, revision: Revision) -> bytes:
    """Rewrite the answer to a sampling for a server of `revision`.

    Before 2025-11-25 an answer is one block: the text of several, or the first where none is text.
    Before 2025-03-26 there is no audio, and text says what is missing.
    """
    value = _object(result) if not revision.has_sampling_tools else None
    if value is None or "content" not in value:
        return result
    blocks = _items(value["content"])
    block = value["content"] if blocks is None else _folded(blocks)
    content = _without_audio(block, revision)
    if content == value["content"]:
        return result
    value["content"] = content
    return encode_json(value)


def _folded(blocks: list[msgspec.Raw]) -> msgspec.Raw:
    """Make one block of several; a single one is left as it is."""
    if len(blocks) == 1:
        return blocks[0]
    read = [_object(block) or {} for block in blocks]
    texts = [_text(block, "text") or "" for block in read if _text(block, "type") == "text"]
    if blocks and not texts:
        return blocks[0]
    return _raw({"type": "text", "text": "\n\n".join(texts)})


def _without_audio(raw: msgspec.Raw, revision: Revision) -> msgspec.Raw:
    """Say in text that a block is audio, where the revision has none."""
    if revision.has_audio:
        return raw
    block = _object(raw) or {}
    if _text(block, "type") != "audio":
        return raw
    kind = _text(block, "mimeType") or "audio"
    return _raw({"type": "text", "text": f"[{kind}: left out, {revision.text} has no audio]"})


def name_elicitation(params: bytes, identifier: str) -> bytes:
    """Give a question by URL the id that 2025-11-25 wants; every other member stays as written."""
    return encode_json({**_decode_members(params), "elicitationId": identifier})


def unname_elicitation(params: bytes) -> bytes:
    """Take the id out of a question by URL, which 2026-07-28 has no member for."""
    members = _decode_members(params)
    del members["elicitationId"]
    return encode_json(members)


def name_input_key(params: bytes, key: str) -> bytes:
    """Name a question's key in its `_meta`, which legacy questions have no other place for.

    A gateway of ours takes it out again, so that a modern client behind it sees the key the asker
    chose. Every other member stays as it was written.
    """
    members = _decode_members(params)
    meta = _decode_members(members["_meta"]) if "_meta" in members else {}
    meta[INPUT_KEY_META] = msgspec.Raw(encode_json(key))
    members["_meta"] = msgspec.Raw(encode_json(meta))
    return encode_json(members)
