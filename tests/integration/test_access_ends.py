"""What a key holds open ends when the key is taken back, within five seconds (threat model rule 7)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_access_walk import (
    ACCEPT,
    CONTENT,
    LEGACY,
    Keys,
    _request,
    bearer,
    keys_of_all_kinds,
)
from tests.support.house import BEARER, HOST, Answer, ask
from waygate_mcp.model.principal import Principal

END_S = 5.0


async def old_stream(keys: Keys, key: str) -> Answer:
    return await ask(keys.app, "/sse", "GET", (HOST, bearer(key), ACCEPT))


async def session_stream(keys: Keys, key: str) -> Answer:
    hello = {
        "protocolVersion": LEGACY,
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    headers = (HOST, bearer(key), CONTENT, ACCEPT)
    body = json.dumps(_request("initialize", hello)).encode()
    opened = await ask(keys.app, "/mcp", "POST", headers, body)
    token = opened.header("mcp-session-id")
    assert token is not None
    stream = (HOST, bearer(key), (b"accept", b"text/event-stream"))
    named = (b"mcp-session-id", token.encode()), (b"mcp-protocol-version", LEGACY.encode())
    return await ask(keys.app, "/mcp", "GET", (*stream, *named))


async def listen_stream(keys: Keys, key: str) -> Answer:
    wanted: dict[str, Any] = {"notifications": {"toolsListChanged": True}}
    return await keys.modern(key, "subscriptions/listen", wanted)


@pytest.mark.parametrize("opens", [old_stream, session_stream, listen_stream])
async def test_a_stream_ends_soon_after_its_key_is_revoked(tmp_path: Path, opens: Any) -> None:
    async with keys_of_all_kinds(tmp_path) as keys:
        text, other = await keys.make("operator"), await keys.make("operator")
        loop = asyncio.get_running_loop()
        streams = [loop.create_task(opens(keys, one)) for one in (text, other)]
        owners = {f"key:{one[3:15]}" for one in (text, other)}

        def held() -> set[str]:
            return {listener.principal.id for listener in keys.house.live.hub._listeners}

        async with asyncio.timeout(END_S):
            while not owners <= held():  # noqa: ASYNC110 - nobody tells of a listener
                await asyncio.sleep(0.01)
        # By the store, as a command beside the server does: the server has to find it out.
        await keys.desk.revoke(Principal("local", "", frozenset({"*"})), text[3:15])
        async with asyncio.timeout(END_S):
            answer = await streams[0]
        assert answer.status == 200
        assert not streams[1].done(), "another key's stream goes on"
        refused = await ask(keys.app, "/mcp/tools", "GET", (HOST, bearer(text)))
        assert refused.status == 401
        assert (await ask(keys.app, "/mcp/tools", "GET", (HOST, BEARER))).status == 200
        streams[1].cancel()
        await asyncio.wait(streams)
