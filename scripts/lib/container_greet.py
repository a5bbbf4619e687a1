"""Calls `greet` with the official SDK's client, in both eras: python container_greet.py URL KEY_FILE.

Knows the official SDK. Refuses to know what answers, and where it runs.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import mcp_types as types
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

WITHIN_S = 20.0
MODES = ("legacy", "2026-07-28")


async def greet(url: str, key: str, mode: str) -> str:
    """Call the tool and give the text it answers."""
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        asyncio.timeout(WITHIN_S),
        create_mcp_http_client(headers=headers) as carrier,
        Client(streamable_http_client(url, http_client=carrier), mode=mode) as client,
    ):
        result = await client.call_tool("greet", {"name": "container"})
        (content,) = result.content
        if result.is_error or not isinstance(content, types.TextContent):
            raise SystemExit(f"greet answered {result!r}")
        return f"{client.protocol_version}: {content.text}"


if __name__ == "__main__":
    key_text = Path(sys.argv[2]).read_text(encoding="ascii").strip()
    for one in MODES:
        print(asyncio.run(greet(sys.argv[1], key_text, one)))
