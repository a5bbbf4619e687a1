from __future__ import annotations

import msgspec
import pytest

from waygate_mcp.toolkit.content import (
    Annotations,
    Audio,
    EmbeddedResource,
    Icon,
    Image,
    ResourceBlob,
    ResourceLink,
    ResourceText,
    Text,
    ToolHints,
)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (Text("hi"), b'{"type":"text","text":"hi"}'),
        (
            Text("hi", annotations=Annotations(("user",), 0.5, "2026-01-01"), meta={"a": 1}),
            (
                b'{"type":"text","text":"hi","annotations":{"audience":["user"],"priority":0.5,'
                b'"lastModified":"2026-01-01"},"_meta":{"a":1}}'
            ),
        ),
        (Image(b"abc", "image/png"), b'{"type":"image","data":"YWJj","mimeType":"image/png"}'),
        (Audio(b"abc", "audio/wav"), b'{"type":"audio","data":"YWJj","mimeType":"audio/wav"}'),
        (
            EmbeddedResource(ResourceText("t", "a://b", "text/plain")),
            b'{"type":"resource","resource":{"text":"t","uri":"a://b","mimeType":"text/plain"}}',
        ),
        (
            EmbeddedResource(ResourceBlob(b"abc", "a://b")),
            b'{"type":"resource","resource":{"blob":"YWJj","uri":"a://b"}}',
        ),
        (
            ResourceLink("a://b", "b", size=3, icons=(Icon("https://x/i.png", sizes=("1x1",)),)),
            (
                b'{"type":"resource_link","uri":"a://b","name":"b","size":3,'
                b'"icons":[{"src":"https://x/i.png","sizes":["1x1"]}]}'
            ),
        ),
        (
            ToolHints(read_only=True, open_world=False),
            b'{"readOnlyHint":true,"openWorldHint":false}',
        ),
    ],
)
def test_a_block_is_written_as_the_schema_has_it(block: object, expected: bytes) -> None:
    assert msgspec.json.encode(block) == expected


def test_an_embedded_resource_without_an_address_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a uri"):
        EmbeddedResource(ResourceText("text"))
