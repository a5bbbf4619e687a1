"""Results for people: text as text, pictures as a note with their size, files saved where asked.

Knows the content blocks of every revision. Refuses to trust what they say: names of saved files are
our own, nothing is overwritten, and a terminal gets no control characters.
"""

from __future__ import annotations

import base64
import binascii
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from waygate_mcp.cli.output import note, say

__all__ = ["Output"]

_SUFFIXES = {
    "image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/webp": ".webp",
    "image/svg+xml": ".svg", "audio/wav": ".wav", "audio/mpeg": ".mp3", "audio/ogg": ".ogg",
    "application/pdf": ".pdf", "application/json": ".json", "text/plain": ".txt",
    "text/markdown": ".md", "text/html": ".html", "text/csv": ".csv",
}  # fmt: skip
_ROLES = {"user": "User", "assistant": "Assistant"}


class Output:
    """Prints results; files go to `folder`, if there is one, as `NAME-1.png` and so on.

    `stem` is the beginning of their names and made safe here.
    """

    def __init__(self, folder: Path | None, stem: str) -> None:
        self._folder = folder
        safe = "".join(one if one.isalnum() or one in "-_" else "_" for one in stem)
        self._stem = safe[:80].strip("_") or "result"
        self._number = 0

    def show_tool_result(self, result: Mapping[str, Any]) -> None:
        """Print the blocks of a `tools/call`; structured content only where no text says the same."""
        blocks = [block for block in result.get("content") or () if isinstance(block, dict)]
        for block in blocks:
            self._show_block(block)
        structured = result.get("structuredContent")
        if structured is not None and not any(block.get("type") == "text" for block in blocks):
            _print(json.dumps(structured, indent=2, ensure_ascii=False))

    def show_prompt(self, result: Mapping[str, Any]) -> None:
        """Print the messages of a `prompts/get`."""
        for message in result.get("messages") or ():
            if isinstance(message, dict):
                role = str(message.get("role", ""))
                _print(f"{_ROLES.get(role, role)}:")
                content = message.get("content")
                if isinstance(content, dict):
                    self._show_block(content)

    def show_contents(self, result: Mapping[str, Any]) -> None:
        """Print the contents of a `resources/read`."""
        for content in result.get("contents") or ():
            if isinstance(content, dict):
                self._show_resource(content)

    def _show_block(self, block: Mapping[str, Any]) -> None:
        """Print one content block."""
        kind = block.get("type")
        if kind == "text":
            _print(str(block.get("text", "")))
        elif kind in ("image", "audio"):
            self._show_bytes(str(kind), block.get("data"), block.get("mimeType"))
        elif kind == "resource" and isinstance(block.get("resource"), dict):
            self._show_resource(block["resource"])
        elif kind == "resource_link":
            title = block.get("title") or block.get("name") or "resource"
            _print(f"{title}: {block.get('uri', '')}")
        else:
            _print(json.dumps(block, ensure_ascii=False))

    def _show_resource(self, content: Mapping[str, Any]) -> None:
        """Print a resource's text, or what its bytes are."""
        if "text" in content:
            text = str(content["text"])
            if self._folder is not None:
                self._save(text.encode(), str(content.get("mimeType") or "text/plain"))
            _print(text)
        else:
            self._show_bytes("resource", content.get("blob"), content.get("mimeType"))

    def _show_bytes(self, what: str, data: Any, mime: Any) -> None:
        """Say what bytes there are, and save them where asked."""
        mime_type = mime if isinstance(mime, str) else "application/octet-stream"
        try:
            raw = base64.b64decode(data, validate=True)
        except (binascii.Error, TypeError, ValueError):
            note(f"[{what} {mime_type}: its data is not base64]")
            return
        if self._folder is None:
            note(f"[{what} {mime_type}, {len(raw):,} bytes; --save DIR keeps it]")
        else:
            self._save(raw, mime_type)

    def _save(self, data: bytes, mime_type: str) -> None:
        """Write a new file."""
        assert self._folder is not None
        self._folder.mkdir(parents=True, exist_ok=True)
        suffix = _SUFFIXES.get(mime_type.partition(";")[0].strip().lower(), ".bin")
        for path in self._paths(suffix):
            try:
                with path.open("xb") as file:
                    file.write(data)
            except FileExistsError:
                continue
            note(f"saved {path} ({mime_type}, {len(data):,} bytes)")
            return

    def _paths(self, suffix: str) -> Iterator[Path]:
        """Give names not used yet in this run."""
        assert self._folder is not None
        while True:
            self._number += 1
            yield self._folder / f"{self._stem}-{self._number}{suffix}"


def _print(text: str) -> None:
    """Print text: made safe on a terminal, as it is into a pipe or file."""
    if sys.stdout.isatty():
        say(text)
    else:
        sys.stdout.write(f"{text}\n")
