"""Calls of a key that ended: those under way, those that begin a moment later, and bodies still on their way."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.exchanges import ALICE, BOB, Scene
from tests.support.house import BEARER, HOST, Answer, open_app, scope_of, settings_in
from tests.support.scripted import text
from tests.support.virtual_time import settle, virtual_time
from waygate_mcp.gateway.exchange import Exchange
from waygate_mcp.model.call import Call, Outcome
from waygate_mcp.model.principal import Principal
from waygate_mcp.web.dismissing import end_if_dismissed, ends_calls


class Carried:
    """What a door knows of a call."""

    def __init__(self, exchange: Exchange | None) -> None:
        self.exchange = exchange


async def hangs(call: Call) -> Outcome:
    await asyncio.Event().wait()
    return text("never")


async def answers(call: Call) -> Outcome:
    return text("done")


@virtual_time
async def test_calls_of_the_dismissed_end_and_no_others() -> None:
    scene = Scene()
    theirs, other = scene.begin(hangs), scene.begin(hangs, principal=BOB)
    over = scene.begin(answers)
    await settle()
    assert over.exchange.is_settled
    carried = [Carried(one) for one in (theirs.exchange, other.exchange, over.exchange, None)]
    ends_calls(lambda: carried)(ALICE)
    told = await theirs.front.over()
    assert told["error"]["code"] == 4401
    assert "revoked or has expired" in told["error"]["message"]
    await settle()
    assert not other.task.done()
    other.task.cancel()
    await asyncio.wait([other.task])


@virtual_time
async def test_a_call_that_begins_just_after_ends_too() -> None:
    scene = Scene()
    running, over = scene.begin(hangs), scene.begin(answers)
    await settle()
    end_if_dismissed(running.exchange, scene.live)
    await settle()
    assert not running.task.done()
    scene.live.dismissed.add(ALICE.id)
    end_if_dismissed(over.exchange, scene.live)
    end_if_dismissed(running.exchange, scene.live)
    assert (await running.front.over())["error"]["code"] == 4401


@pytest.mark.parametrize("is_dismissed", [True, False])
async def test_a_body_that_comes_after_its_key_ended_is_refused(
    tmp_path: Path, is_dismissed: bool
) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode()
    async with open_app(settings_in(tmp_path)) as (app, house):
        answer = Answer()

        async def receive() -> Any:
            if is_dismissed:  # who was let in by the headers is gone when the body comes
                house.live.dismiss(Principal("key:bootstrap", ""))
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status, answer.headers = message["status"], list(message["headers"])
            else:
                answer.body += message.get("body", b"")

        content = (b"content-type", b"application/json")
        await app(scope_of("/mcp", "POST", (HOST, BEARER, content)), receive, send)
    if is_dismissed:
        assert answer.status == 401
        assert answer.header("www-authenticate")
        assert b"revoked or has expired" in answer.body
    else:
        assert answer.status == 400, "no session, and nothing else"
