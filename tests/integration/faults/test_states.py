"""Upstreams that lose sessions, come and go, start late, read slowly or list slowly; clients that leave."""

from __future__ import annotations

import asyncio
import os
import resource
from pathlib import Path

import pytest

from tests.integration.faults.clients import ERAS, Era, words
from tests.integration.faults.rig import (
    BACKS,
    Back,
    Peer,
    gateway,
    healthy,
    two_upstreams,
    until_well,
)

WITH_SESSIONS = [Back("http", "legacy"), Back("sse", "legacy")]
TOLD_S = 6.0
BIG = 4 * 1024 * 1024
DEAF_S = 6.0


# --- sessions


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("back", WITH_SESSIONS, ids=str)
async def test_a_session_the_upstream_lost_is_opened_again_and_the_call_sent_once_more(
    back: Back, era: Era, tmp_path: Path
) -> None:
    async with two_upstreams(tmp_path, back) as (rig, bad, _):
        client = await rig.client("alice", era)
        assert words(await client.call("bad__forget")) == "forgotten"
        opened = bad.noted("initialize")
        assert words(await client.call("bad__echo", text="hi", tag="t")) == "hi"
        assert bad.noted("run", "echo", "t") == 1
        assert bad.noted("refused", "tools/call") == 1
        assert bad.noted("initialize") == opened + 1


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("back", WITH_SESSIONS, ids=str)
async def test_an_upstream_that_knows_no_session_of_its_own_is_asked_twice_and_no_more(
    back: Back, era: Era, tmp_path: Path
) -> None:
    bad = Peer(tmp_path, "bad", back, sessions="none")
    await bad.start()
    try:
        async with gateway(tmp_path, {"bad": bad.section()}) as rig:
            client = await rig.client("alice", era)
            async with asyncio.timeout(TOLD_S):
                final = await client.call("echo", text="hi")
            assert final["error"]["code"] == -32603
            assert final["error"]["data"]["upstream"] == "bad"
            assert bad.noted("refused", "tools/call") == 2
            assert bad.noted("run") == 0
    finally:
        await bad.stop()


# --- coming and going


@pytest.mark.parametrize("back", BACKS, ids=str)
async def test_an_upstream_that_flaps_is_left_alone_and_comes_back_by_itself(
    back: Back, tmp_path: Path
) -> None:
    async with two_upstreams(tmp_path, back) as (rig, bad, _), healthy(rig):
        client = await rig.client("alice", "modern")
        await until_well(client)
        start = await rig.at_rest()
        loop = asyncio.get_running_loop()
        for _ in range(20):
            final = await client.call("bad__kill")
            assert final["error"]["code"] == -32603
            if "try again later" in final["error"]["message"]:
                break
        # By the breaker, or by the pause between openings of what broke off: both refuse unasked.
        assert rig.upstream("bad").status.state in ("down", "failing")
        began_s, runs = loop.time(), bad.noted("run")
        final = await client.call("bad__echo", text="x")
        assert loop.time() - began_s < 1, "it is told at once"
        assert final["error"]["code"] == -32603
        assert final["error"]["data"] == {"reason": "upstream_unavailable", "upstream": "bad"}
        assert "try again later" in final["error"]["message"]
        assert bad.noted("run") == runs, "it is left alone"
        await until_well(client)
        assert rig.upstream("bad").status.breaker == "closed"
        await rig.settled(start)


@pytest.mark.parametrize("back", BACKS, ids=str)
async def test_an_upstream_that_dies_after_each_answer_is_started_for_the_next_call(
    back: Back, tmp_path: Path
) -> None:
    async with two_upstreams(tmp_path, back) as (rig, _bad, _), healthy(rig):
        client = await rig.client("alice", "legacy")
        await until_well(client)
        start = await rig.at_rest()
        answered = 0
        async with asyncio.timeout(30):
            while answered < 4:
                final = await client.call("bad__last_words")
                if "result" in final:
                    answered += 1
                    continue
                assert final["error"]["code"] == -32603, final
                await asyncio.sleep(0.1)
        await until_well(client)
        await rig.settled(start)


@pytest.mark.parametrize("back", BACKS, ids=str)
async def test_an_upstream_that_starts_late_holds_nobody_up_and_serves_when_it_is_there(
    back: Back, tmp_path: Path
) -> None:
    bad = Peer(tmp_path, "bad", back, start="4")
    good = Peer(tmp_path, "good", Back("stdio", "modern"))
    try:
        await bad.start()
        sections = {"bad": bad.section(), "good": good.section()}
        async with gateway(tmp_path, sections) as rig, healthy(rig):
            client = await rig.client("alice", "modern")
            async with asyncio.timeout(20):
                while True:
                    final = await client.call("bad__echo", text="there")
                    if "result" in final:
                        break
                    # Unknown until its list was read for the first time, or down.
                    assert final["error"]["code"] in (-32602, -32603), final
                    await asyncio.sleep(0.1)
            assert words(final) == "there"
    finally:
        await bad.stop()


# --- slow readers


@pytest.mark.parametrize("back", BACKS, ids=str)
async def test_an_upstream_that_does_not_read_holds_up_its_own_calls_alone(
    back: Back, tmp_path: Path
) -> None:
    async with two_upstreams(tmp_path, back, limits={"call_timeout_s": 1.5}) as (rig, _bad, _):
        clients = await rig.both()
        async with healthy(rig):
            for client in clients:
                await until_well(client)
            start = await rig.at_rest()
            assert words(await clients[0].call("bad__deaf", seconds=DEAF_S)) == "what?"
            # The first fits into what is buffered on the way, the others do not.
            texts = ["small", *["x" * BIG] * 3]
            async with asyncio.timeout(DEAF_S - 1):
                finals = await asyncio.gather(
                    *(client.call("bad__echo", text=text) for text in texts for client in clients)
                )
            assert [final["error"]["code"] for final in finals] == [4408] * len(finals)
            for client in clients:
                await until_well(client)
            await rig.settled(start)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("back", BACKS, ids=str)
async def test_a_client_that_does_not_read_holds_up_its_own_call_alone(
    back: Back, era: Era, tmp_path: Path
) -> None:
    async with two_upstreams(tmp_path, back, limits={"call_timeout_s": 3}) as (rig, bad, _):
        client = await rig.client("alice", era)
        meta = {"io.modelcontextprotocol/logLevel": "debug"} if era == "modern" else {}
        given = {
            "name": "bad__event_flood",
            "arguments": {"tag": "f", "size": 20_000},
            "_meta": meta,
        }
        async with healthy(rig):
            await until_well(client)
            start = await rig.at_rest()
            before = _resident_bytes()
            async with client.request("tools/call", given) as response:
                await bad.until("run", "event_flood", "f")
                await asyncio.sleep(4)  # nothing is read; the call's time is over meanwhile
                assert response.status == 200
                grown = _resident_bytes() - before
                assert grown < 96 * 1024 * 1024, "what it does not read piles up"
            await until_well(client)
            await rig.settled(start)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


# --- clients that leave


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("back", BACKS, ids=str)
async def test_a_modern_client_that_leaves_has_cancelled_and_a_legacy_one_has_not(
    back: Back, era: Era, tmp_path: Path
) -> None:
    async with two_upstreams(tmp_path, back) as (rig, bad, _), healthy(rig):
        client = await rig.client("alice", era)
        await until_well(client)
        start = await rig.at_rest()
        arguments = {"seconds": 1.5, "text": "late", "tag": "left"}
        leaving = asyncio.get_running_loop().create_task(
            client.once("bad__echo", arguments), name="test:leaving"
        )
        await bad.until("run", "echo", "left")
        leaving.cancel()
        await asyncio.wait({leaving})
        if era == "modern":
            await bad.until("cancelled", "left")
            assert bad.noted("done", "left") == 0
        else:
            await bad.until("done", "left")
            assert bad.noted("cancelled", "left") == bad.noted("gone", "left") == 0
        await until_well(client)
        await rig.settled(start)


@pytest.mark.parametrize("back", [back for back in BACKS if back.era == "legacy"], ids=str)
async def test_a_client_that_is_gone_while_parked_is_waited_for_no_longer_than_was_said(
    back: Back, tmp_path: Path
) -> None:
    limits = {"question_timeout_s": 1}
    async with two_upstreams(tmp_path, back, limits=limits) as (rig, bad, _), healthy(rig):
        client = await rig.client("alice", "modern")
        await until_well(client)
        start = await rig.at_rest()
        final = await client.once("bad__ask", {"tag": "gone"})
        assert final["result"]["resultType"] == "input_required"
        assert rig.census().parked == 1
        await bad.until("answered", "gone", {"action": "cancel"})
        await bad.until("done", "gone")
        await rig.settled(start)
        # What it was asked is answered too late.
        state = final["result"]["requestState"]
        late = await client.once("bad__ask", {"tag": "gone"}, requestState=state, inputResponses={})
        assert late["error"]["code"] == -32602 or "result" in late
        assert bad.noted("run", "ask", "gone") == 1


@pytest.mark.parametrize("back", [back for back in BACKS if back.era == "legacy"], ids=str)
async def test_an_upstream_that_dies_while_a_call_is_parked_ends_that_call(
    back: Back, tmp_path: Path
) -> None:
    async with two_upstreams(tmp_path, back) as (rig, bad, _), healthy(rig):
        client = await rig.client("alice", "modern")
        await until_well(client)
        start = await rig.at_rest()
        asked = await client.once("bad__ask", {"tag": "p"})
        state = asked["result"]["requestState"]
        (key,) = asked["result"]["inputRequests"]
        pid = [line[1] for line in bad.journal if line[0] == "started"]
        for one in pid:
            _kill(one)
        async with asyncio.timeout(TOLD_S):
            while rig.census().parked:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.05)
            answers = {key: {"action": "accept", "content": {"name": "x"}}}
            final = await client.once(
                "bad__ask", {"tag": "p"}, requestState=state, inputResponses=answers
            )
        assert final["error"]["code"] == -32603, final
        assert final["error"]["data"]["upstream"] == "bad"
        assert bad.noted("run", "ask", "p") == 1, "it is not run again"
        await until_well(client)
        await rig.settled(start)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return
