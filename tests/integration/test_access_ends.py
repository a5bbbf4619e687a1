"""What a key holds open, and what is done for it, ends when the key is taken back, within five seconds.

Spec: threat model rule 7.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from mcp import MCPError

from tests.integration.gateway_process import Gateway, clean_environment, serving, waygate
from tests.integration.test_access_walk import (
    ACCEPT,
    CONTENT,
    LEGACY,
    Keys,
    _request,
    bearer,
    keys_of_all_kinds,
)
from tests.integration.test_gateway_upstreams import connected, until
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


HANGING = """
import json, sys
from pathlib import Path

for line in sys.stdin:
    message = json.loads(line)
    if message["method"] == "notifications/cancelled":
        with Path(sys.argv[1]).open("a") as file:
            file.write("cancelled\\n")
    if "id" not in message:
        continue
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    if message["method"] == "initialize":
        answer["result"] = {
            "protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "hanging", "version": "1"},
        }
    elif message["method"] == "tools/list":
        answer["result"] = {"tools": [{"name": "hang", "inputSchema": {"type": "object"}}]}
    elif message["method"] == "tools/call":
        with Path(sys.argv[1]).open("a") as file:
            file.write("called\\n")
        continue
    else:
        answer["error"] = {"code": -32601, "message": "no such method"}
    print(json.dumps(answer), flush=True)
"""


def make_key(gateway: Gateway) -> dict[str, str]:
    wanted = json.dumps({"name": "k", "roles": ["operator"]}).encode()
    headers = {**gateway.headers, "content-type": "application/json"}
    request = urllib.request.Request(f"{gateway.base_url}/admin/v1/keys", wanted, headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        made: dict[str, str] = json.loads(answer.read())
    return made


async def test_calls_under_way_end_when_their_key_is_revoked(tmp_path: Path) -> None:
    """Official clients of both eras hang in a call; the key is taken back by a command beside the server."""
    log = tmp_path / "log"
    log.touch()
    up = {
        "command": sys.executable,
        "args": ["-u", "-c", HANGING, str(log)],
        "sandbox": "none",
    }
    document = {"version": 1, "server": {"http_sse": True}, "upstreams": {"up": up}}

    async def hang(gateway: Gateway, key: str, era: Any) -> str:
        theirs = Gateway(gateway.process, gateway.base_url, key, gateway.folder, gateway.output)
        async with connected(theirs, era, within_s=60) as client:
            with pytest.raises(MCPError) as refused:
                await client.call_tool("hang", {})
            return str(refused.value)

    def written(word: str) -> int:
        return log.read_text().count(word)

    with serving(tmp_path / "gateway", document) as gateway:
        mine = await asyncio.to_thread(make_key, gateway)
        other = await asyncio.to_thread(make_key, gateway)
        loop = asyncio.get_running_loop()
        calls = {
            era: loop.create_task(hang(gateway, mine["key"], era)) for era in ("auto", "legacy")
        }
        spared = loop.create_task(hang(gateway, other["key"], "auto"))
        await until(lambda: written("called") == 3, "the calls")
        words = [
            waygate(),
            "keys",
            "revoke",
            mine["id"],
            "-c",
            str(gateway.folder / "waygate.yaml"),
        ]
        environment = clean_environment(gateway.folder)
        revoked = await asyncio.to_thread(
            subprocess.run, words, env=environment, capture_output=True, text=True, timeout=60
        )
        assert revoked.returncode == 0, revoked.stderr
        started_s = time.monotonic()
        async with asyncio.timeout(END_S):
            told = await asyncio.gather(*calls.values())
        assert time.monotonic() - started_s < END_S
        for era, text in zip(calls, told, strict=True):
            assert "was revoked or has expired; the call was ended" in text, (era, text)
        await until(lambda: written("cancelled") == 2, "word to the upstream")
        assert not spared.done(), "another key's call goes on"
        spared.cancel()
        await asyncio.wait([spared])
