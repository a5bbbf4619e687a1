"""The legacy era: `initialize`, and what old readers cannot be sent.

Knows the results of the handshake and the downgrades for readers of older revisions. Refuses to
know sessions.
Spec: 2025-11-25 basic/lifecycle; protocol.md 4, "Downgrades by revision of the reader".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.jsonrpc import encode_json
from waygate_mcp.protocol.versions import Revision, negotiate

__all__ = [
    "Hello",
    "downgrade_content",
    "downgrade_definition",
    "downgrade_form",
    "initialize_result",
    "read_initialize",
]

_NON_OBJECT_STRUCTURED = re.compile(rb'"structuredContent"\s*:\s*[^{\s]')
_decode = msgspec.json.decode


class Hello(msgspec.Struct, frozen=True):
    """What a client said in `initialize`, after negotiation."""

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
    name = info.get("name", "") if type(info) is dict else ""
    revision = negotiate(requested)
    capabilities = ClientCapabilities.parse(declared, revision)
    return Hello(revision, capabilities, name if type(name) is str else "")


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
    drops_structured = _NON_OBJECT_STRUCTURED.search(result) is not None
    has_link = not revision.has_resource_links and b'"resource_link"' in result
    has_audio = not revision.has_audio and b'"audio"' in result
    if not (drops_structured or has_link or has_audio):
        return result
    value = _decode(result)
    if drops_structured:
        _drop_structured(value)
    blocks = value.get("content")
    if isinstance(blocks, list):
        value["content"] = [_downgrade_block(block, revision) for block in blocks]
    for message in value.get("messages") or ():
        message["content"] = _downgrade_block(message.get("content"), revision)
    return encode_json(value)


def _drop_structured(value: dict[str, Any]) -> None:
    """Remove structured content that is no object, keeping its JSON as text."""
    structured = value.get("structuredContent")
    if isinstance(structured, dict):
        return
    value.pop("structuredContent", None)
    text = encode_json(structured).decode()
    content = value.setdefault("content", [])
    if not any(isinstance(block, dict) and block.get("type") == "text" for block in content):
        content.append({"type": "text", "text": text})


def _downgrade_block(block: Any, revision: Revision) -> Any:
    """Rewrite one content block an old reader does not know."""
    if not isinstance(block, dict):
        return block
    kind = block.get("type")
    if kind == "audio" and not revision.has_audio:
        resource = {
            "uri": "data:,audio",
            "mimeType": block.get("mimeType", "application/octet-stream"),
            "blob": block.get("data", ""),
        }
        return {"type": "resource", "resource": resource}
    if kind == "resource_link" and not revision.has_resource_links:
        title = block.get("title") or block.get("name") or "resource"
        return {"type": "text", "text": f"{title}: {block.get('uri', '')}"}
    return block


def downgrade_definition(definition: bytes, revision: Revision) -> bytes:
    """Rewrite a tool's definition for a reader of `revision`.

    An output schema whose root is no object is dropped before 2026-07-28, and with it the promise of
    structured content.
    """
    if revision.is_modern or b'"outputSchema"' not in definition:
        return definition
    value = _decode(definition)
    schema = value.get("outputSchema")
    if isinstance(schema, dict) and schema.get("type") == "object":
        return definition
    del value["outputSchema"]
    return encode_json(value)


def downgrade_form(params: bytes, revision: Revision) -> bytes | None:
    """Rewrite a form elicitation for a reader of `revision`; None where it cannot be shown.

    Before 2025-11-25 a titled choice is `enum` with `enumNames`, there is no choice of several, and
    the members `mode` and `default` of other types than boolean are unknown (they are left alone).
    Spec: 2025-06-18 client/elicitation, "Supported Schema Types".
    """
    if revision.has_modern_enums:
        return params
    value = _decode(params)
    schema = value.get("requestedSchema")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return params
    for field in properties.values():
        if not isinstance(field, dict):
            continue
        if field.get("type") == "array":
            return None
        choices = field.pop("oneOf", None)
        if isinstance(choices, list):
            field["enum"] = [choice.get("const") for choice in choices]
            field["enumNames"] = [choice.get("title", choice.get("const")) for choice in choices]
    return encode_json(value)
