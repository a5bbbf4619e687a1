"""Rates through the doors: 429 in both eras and at the REST door, and a count that outlives a reload."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import (
    BEARER,
    HOST,
    Answer,
    ask,
    open_app,
    scope_of,
    settings_in,
    write_document,
)

JSON = (b"content-type", b"application/json")
ACCEPT = (b"accept", b"application/json, text/event-stream")
REVISION = "2026-07-28"


def document(**rates: Any) -> dict[str, Any]:
    return {"limits": {"rates": rates}}


async def discover(app: Any) -> Answer:
    """One request of the modern era."""
    headers, body = modern("server/discover", {})
    return await ask(app, "/mcp", "POST", headers, body)


def modern(method: str, params: dict[str, Any]) -> tuple[tuple[tuple[bytes, bytes], ...], bytes]:
    """Headers and body of a request of the modern era."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": REVISION,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    }
    message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": {**params, "_meta": meta}}
    name = params.get("name")
    headers = (
        HOST,
        BEARER,
        JSON,
        ACCEPT,
        (b"mcp-protocol-version", REVISION.encode()),
        (b"mcp-method", method.encode()),
        *([(b"mcp-name", name.encode())] if name else []),
    )
    return headers, json.dumps(message).encode()


class Legacy:
    """A session of the legacy era."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._session: tuple[tuple[bytes, bytes], ...] = ()

    async def send(self, method: str, params: dict[str, Any] | None = None) -> Answer:
        message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params or {}}
        headers = (HOST, BEARER, JSON, ACCEPT, *self._session)
        return await ask(self._app, "/mcp", "POST", headers, json.dumps(message).encode())

    async def open(self) -> None:
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        }
        answer = await self.send("initialize", params)
        token = answer.header("mcp-session-id")
        assert token is not None, answer.body
        self._session = ((b"mcp-session-id", token.encode()),)


def check_refusal(answer: Answer, count: str) -> None:
    """It is a 429 that says what was allowed and when to come back."""
    assert answer.status == 429, answer.body
    assert answer.header("x-ratelimit-limit") == count
    assert answer.header("x-ratelimit-remaining") == "0"
    after, reset = answer.header("retry-after"), answer.header("x-ratelimit-reset")
    assert after is not None
    assert reset is not None
    assert 1 <= int(after) <= int(reset)


async def test_a_modern_request_too_many_is_429_and_an_error_of_our_own(tmp_path: Path) -> None:
    async with open_app(settings_in(tmp_path, document(default=["3/day"]))) as (app, house):
        assert [(await discover(app)).status for _ in range(3)] == [200] * 3
        refused = await discover(app)
        check_refusal(refused, "3")
        body = refused.json()
        assert body["id"] == 7
        assert body["error"]["code"] == 4429
        assert body["error"]["data"]["reason"] == "rate_limited"
        assert body["error"]["data"]["retryAfterSeconds"] > 0
        text = house.metrics.render()[0].decode()
        assert 'waygate_rate_limited_total{scope="default"} 1.0' in text


async def test_a_legacy_request_too_many_is_429_and_the_session_lives_on(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, document(default=["20/second burst 2"]))
    async with open_app(settings) as (app, _house):
        client = Legacy(app)
        await client.open()
        answers = [await client.send("ping") for _ in range(8)]
        refused = [each for each in answers if each.status != 200]
        assert refused
        for each in refused:
            check_refusal(each, "20")
            assert each.json()["error"]["code"] == 4429


async def test_the_rest_door_counts_with_the_same_counter(tmp_path: Path) -> None:
    async with open_app(settings_in(tmp_path, document(default=["2/day"]))) as (app, _house):
        assert (await discover(app)).status == 200
        assert (await ask(app, "/mcp/tools", headers=(HOST, BEARER))).status == 200
        refused = await ask(app, "/mcp/tools", headers=(HOST, BEARER))
        check_refusal(refused, "2")
        assert refused.json()["error"]["code"] == "RATE_LIMITED"
        assert (await discover(app)).status == 429
        assert (await ask(app, "/health", headers=(HOST,))).status == 200


async def test_what_was_spent_stays_spent_when_the_document_is_read_again(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, document(default=["2/day"]))
    async with open_app(settings) as (app, house):
        assert [(await discover(app)).status for _ in range(3)] == [200, 200, 429]
        assert settings.config is not None
        write_document(settings.config, document(default=["2/day"], upstreams={"x": ["1/day"]}))
        assert (await house.reload("test")).is_done
        assert (await discover(app)).status == 429
        write_document(settings.config, document(default=["5/day"]))
        assert (await house.reload("test")).is_done
        assert (await discover(app)).status == 200


async def test_without_a_word_in_the_document_the_setting_holds(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, {}, rate_limit=60)
    async with open_app(settings) as (app, _house):
        statuses = [(await discover(app)).status for _ in range(4)]
        assert statuses[:2] == [200, 200]
        assert 429 in statuses


WAITING = '''
"""A tool that takes as long as it is told to."""
import asyncio
from waygate_mcp import Toolbox

box = Toolbox()


@box.tool
async def wait(seconds: float) -> str:
    """Wait."""
    await asyncio.sleep(seconds)
    return "done"
'''


def waiting(folder: Path, **concurrent: Any) -> dict[str, Any]:
    """A document with that tool."""
    (folder / "waiting.py").write_text(WAITING)
    return {
        "plugins": {"waiting": {"use": "./waiting.py"}},
        "limits": {"concurrent": concurrent},
    }


async def wait(app: Any, seconds: float) -> Answer:
    headers, body = modern("tools/call", {"name": "wait", "arguments": {"seconds": seconds}})
    return await ask(app, "/mcp", "POST", headers, body)


@pytest.mark.parametrize(
    ("concurrent", "scope"),
    [
        ({"default": 2}, "default"),
        ({"keys": {"key:bootstrap": 2}}, "key"),
        ({"tools": {"wait": 2}}, "tool"),
        ({"upstreams": {"waiting": 2}}, "upstream"),
    ],
)
async def test_a_call_too_many_at_once_is_429_until_another_has_ended(
    tmp_path: Path, concurrent: dict[str, Any], scope: str
) -> None:
    async with open_app(settings_in(tmp_path, waiting(tmp_path, **concurrent))) as (app, house):
        answers = await asyncio.gather(*(wait(app, 0.2) for _ in range(5)))
        refused = [each for each in answers if each.status != 200]
        assert [each.status for each in refused] == [429] * 3
        for each in refused:
            assert each.header("retry-after") == "1"
            assert each.header("x-ratelimit-limit") is None
            assert each.json()["error"]["code"] == 4429
        assert (await wait(app, 0)).status == 200
        assert house.foundation.places.taken == {}
        text = house.metrics.render()[0].decode()
        assert f'waygate_rate_limited_total{{scope="concurrent_{scope}"}} 3.0' in text


async def test_a_client_that_hangs_up_leaves_its_place_and_a_reload_keeps_those_taken(
    tmp_path: Path,
) -> None:
    document = waiting(tmp_path, default=1, upstreams={"waiting": 1})
    settings = settings_in(tmp_path, document)
    async with open_app(settings) as (app, house):
        places = house.foundation.places
        headers, body = modern("tools/call", {"name": "wait", "arguments": {"seconds": 60}})
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        gone = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(_message: Any) -> None:
            """Nobody reads."""

        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            group.create_task(app(scope_of("/mcp", "POST", headers), receive, send))
            while len(places.taken) < 2:  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.01)
            assert settings.config is not None
            document["limits"]["concurrent"]["roles"] = {"other": 5}
            write_document(settings.config, document)
            assert (await house.reload("test")).is_done
            assert (await wait(app, 0)).status == 429
            gone.set()
        assert places.taken == {}
        assert (await wait(app, 0)).status == 200
