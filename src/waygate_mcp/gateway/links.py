"""URIs where MCP has them in its structure, read and rewritten in raw JSON.

Knows the members that hold a resource's URI, in definitions and in results. Refuses to know whose a URI
is. What is not changed keeps its bytes; text that merely mentions a URI is nobody's business.
Spec: 2026-07-28 server/tools, "Resource Links" and "Embedded Resources", server/resources; protocol.md 5.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from waygate_mcp.protocol.jsonrpc import encode_json

__all__ = ["map_definition", "map_error_data", "map_meta", "map_result"]

Change = Callable[[str], str]
"""Gives what stands in place of a URI; the URI itself leaves it as it is."""

_Members = dict[str, msgspec.Raw]
_UI_FLAT = "ui/resourceUri"

_decode_members = msgspec.json.Decoder(_Members).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def map_definition(definition: bytes, member: str | None, change: Change) -> bytes:
    """Change the URIs of a definition: that of `member`, and the one of its user interface."""

    def edit(members: _Members) -> bool:
        is_changed = _edit(members, "_meta", lambda raw: map_meta(raw, change))
        if member is not None:
            is_changed |= _edit(members, member, lambda raw: _map_text(raw, change))
        return is_changed

    return _edit_members(definition, edit)


def map_meta(meta: bytes, change: Change) -> bytes:
    """Change the URI of a user interface in a `_meta` object: `ui.resourceUri`, and its older form."""

    def edit_ui(members: _Members) -> bool:
        return _edit(members, "resourceUri", lambda raw: _map_text(raw, change))

    def edit(members: _Members) -> bool:
        is_changed = _edit(members, "ui", lambda raw: _edit_members(raw, edit_ui))
        return is_changed | _edit(members, _UI_FLAT, lambda raw: _map_text(raw, change))

    return _edit_members(meta, edit)


def map_result(method: str, result: bytes, change: Change) -> bytes:
    """Change the URIs of a result of `method`: links, embedded resources, contents that were read."""
    edit = _RESULTS.get(method)
    return result if edit is None else edit(result, change)


def map_error_data(data: bytes, change: Change) -> bytes:
    """Change the URI an error is about."""
    return _edit_members(
        data, lambda members: _edit(members, "uri", lambda r: _map_text(r, change))
    )


def _map_tool_result(result: bytes, change: Change) -> bytes:
    return _edit_members(
        result,
        lambda members: _edit(
            members, "content", lambda raw: _map_items(raw, lambda one: _map_block(one, change))
        ),
    )


def _map_prompt_result(result: bytes, change: Change) -> bytes:
    def map_content(raw: bytes) -> bytes:
        if raw.lstrip()[:1] == b"[":
            return _map_items(raw, lambda one: _map_block(one, change))
        return _map_block(raw, change)

    def map_message(raw: bytes) -> bytes:
        return _edit_members(raw, lambda members: _edit(members, "content", map_content))

    return _edit_members(
        result,
        lambda members: _edit(members, "messages", lambda raw: _map_items(raw, map_message)),
    )


def _map_read_result(result: bytes, change: Change) -> bytes:
    return _edit_members(
        result,
        lambda members: _edit(
            members, "contents", lambda raw: _map_items(raw, lambda one: _map_uri(one, change))
        ),
    )


def _map_task(result: bytes, change: Change) -> bytes:
    """Change the URIs of what a task came to, which is a tool's result."""
    return _edit_members(
        result,
        lambda members: _edit(members, "result", lambda raw: _map_tool_result(raw, change)),
    )


_RESULTS: dict[str, Callable[[bytes, Change], bytes]] = {
    "tools/call": _map_tool_result,
    "tasks/get": _map_task,
    "tasks/result": _map_tool_result,
    "prompts/get": _map_prompt_result,
    "resources/read": _map_read_result,
}


def _map_block(block: bytes, change: Change) -> bytes:
    """Change a block of content, where it is a link or an embedded resource."""

    def edit(members: _Members) -> bool:
        kind = _text(members.get("type"))
        if kind == "resource_link":
            return _edit(members, "uri", lambda raw: _map_text(raw, change))
        if kind == "resource":
            return _edit(members, "resource", lambda raw: _map_uri(raw, change))
        return False

    return _edit_members(block, edit)


def _map_uri(item: bytes, change: Change) -> bytes:
    return _edit_members(
        item, lambda members: _edit(members, "uri", lambda r: _map_text(r, change))
    )


def _map_text(raw: bytes, change: Change) -> bytes:
    """Change a JSON text; what is no text stays."""
    text = _text(raw)
    if text is None or (changed := change(text)) == text:
        return raw
    return encode_json(changed)


def _map_items(raw: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Change the items of a JSON array; what is no array stays."""
    try:
        items = _decode_items(raw)
    except _UNREADABLE:
        return raw
    old = [bytes(item) for item in items]
    new = [change(item) for item in old]
    return raw if new == old else b"[%b]" % b",".join(new)


def _edit_members(raw: bytes, edit: Callable[[_Members], bool]) -> bytes:
    """Let `edit` change the members of a JSON object and tell whether it did."""
    try:
        members = _decode_members(raw)
    except _UNREADABLE:
        return raw
    return encode_json(members) if edit(members) else raw


def _edit(members: _Members, name: str, change: Callable[[bytes], bytes]) -> bool:
    """Change one member, if it is there; tell whether it is another now."""
    raw = members.get(name)
    if raw is None:
        return False
    old = bytes(raw)
    new = change(old)
    if new == old:
        return False
    members[name] = msgspec.Raw(new)
    return True


def _text(raw: msgspec.Raw | bytes | None) -> str | None:
    try:
        return None if raw is None else _decode_text(raw)
    except _UNREADABLE:
        return None
