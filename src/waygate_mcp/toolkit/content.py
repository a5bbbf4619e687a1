"""What tools, prompts and resources can answer with: content blocks as small frozen structs.

Knows the shapes of `ContentBlock` and their members in JSON. Refuses to know who sends them: the
encoding of whole results is in `results.py`. Binary data is given as bytes and encoded as Base64.
Spec: 2026-07-28 schema, ContentBlock, PromptMessage, ResourceContents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

__all__ = [
    "Annotations",
    "Audio",
    "Content",
    "ContentBlock",
    "EmbeddedResource",
    "Icon",
    "Image",
    "Message",
    "PromptResult",
    "ResourceBlob",
    "ResourceLink",
    "ResourceText",
    "Text",
    "ToolHints",
    "ToolResult",
]

Role = Literal["user", "assistant"]


class _Wire(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Members are written in camel case, and those at their default are left out."""


class Annotations(_Wire, frozen=True):
    """Advice about a block or entry: for whom it is, how much it matters (0…1), how old it is.

    `last_modified` is an ISO 8601 text.
    """

    audience: tuple[Role, ...] | None = None
    priority: float | None = None
    last_modified: str | None = None


class Icon(_Wire, frozen=True):
    """A picture for an entry. `src` is an https or data URL; `sizes` are texts like `48x48`."""

    src: str
    mime_type: str | None = None
    sizes: tuple[str, ...] | None = None
    theme: Literal["light", "dark"] | None = None


class ToolHints(_Wire, frozen=True, kw_only=True):
    """What a tool says of itself; hints for clients, never a guarantee.

    Spec: 2026-07-28 schema, ToolAnnotations.
    """

    title: str | None = None
    read_only: bool | None = msgspec.field(default=None, name="readOnlyHint")
    destructive: bool | None = msgspec.field(default=None, name="destructiveHint")
    idempotent: bool | None = msgspec.field(default=None, name="idempotentHint")
    open_world: bool | None = msgspec.field(default=None, name="openWorldHint")


class Text(_Wire, frozen=True, tag_field="type", tag="text"):
    """A text block."""

    text: str
    annotations: Annotations | None = None
    meta: Mapping[str, Any] | None = msgspec.field(default=None, name="_meta")


class Image(_Wire, frozen=True, tag_field="type", tag="image"):
    """A picture; `data` are its bytes as they stand in a file."""

    data: bytes
    mime_type: str = msgspec.field(name="mimeType")
    annotations: Annotations | None = None
    meta: Mapping[str, Any] | None = msgspec.field(default=None, name="_meta")


class Audio(_Wire, frozen=True, tag_field="type", tag="audio"):
    """A sound; `data` are its bytes as they stand in a file. Clients since 2025-03-26 know it."""

    data: bytes
    mime_type: str = msgspec.field(name="mimeType")
    annotations: Annotations | None = None
    meta: Mapping[str, Any] | None = msgspec.field(default=None, name="_meta")


class ResourceText(_Wire, frozen=True):
    """The content of a resource as text. An empty `uri` stands for the one that is read."""

    text: str
    uri: str = ""
    mime_type: str | None = None
    meta: Mapping[str, Any] | None = msgspec.field(default=None, name="_meta")


class ResourceBlob(_Wire, frozen=True):
    """The content of a resource as bytes. An empty `uri` stands for the one that is read."""

    blob: bytes
    uri: str = ""
    mime_type: str | None = None
    meta: Mapping[str, Any] | None = msgspec.field(default=None, name="_meta")


class EmbeddedResource(_Wire, frozen=True, tag_field="type", tag="resource"):
    """A resource sent along; its `uri` must not be empty."""

    resource: ResourceText | ResourceBlob
    annotations: Annotations | None = None
    meta: Mapping[str, Any] | None = msgspec.field(default=None, name="_meta")

    def __post_init__(self) -> None:
        """Refuse a resource without an address."""
        if not self.resource.uri:
            raise ValueError("an embedded resource needs a uri")


class ResourceLink(_Wire, frozen=True, tag_field="type", tag="resource_link"):
    """A resource named and not sent. `size` is in bytes. Clients since 2025-06-18 know it."""

    uri: str
    name: str
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None
    size: int | None = None
    annotations: Annotations | None = None
    icons: tuple[Icon, ...] | None = None
    meta: Mapping[str, Any] | None = msgspec.field(default=None, name="_meta")


ContentBlock = Text | Image | Audio | EmbeddedResource | ResourceLink
"""One block of a tool's answer or of a message."""

CONTENT_TYPES = (Text, Image, Audio, EmbeddedResource, ResourceLink)

Content = str | bytes | ContentBlock | Sequence[str | bytes | ContentBlock] | None
"""What is turned into blocks: a `str` becomes Text; `bytes` are recognised by their first bytes."""


class ToolResult(msgspec.Struct, frozen=True):
    """A tool's answer in full, where its return value alone cannot say it.

    `content` is what people and models read; None lets it be the JSON of `structured`.
    `structured` is a JSON object or a Pydantic model. `meta` becomes `_meta` of the result.
    """

    content: Any = None
    structured: Any = None
    is_error: bool = False
    meta: Mapping[str, Any] | None = None


class Message(msgspec.Struct, frozen=True):
    """One message of a prompt or of a sampling; a `str` as content becomes Text."""

    content: str | ContentBlock
    role: Role = "user"


class PromptResult(msgspec.Struct, frozen=True):
    """A prompt's answer in full: messages, its description this time, and `_meta`."""

    messages: Sequence[Message | str]
    description: str | None = None
    meta: Mapping[str, Any] | None = None
