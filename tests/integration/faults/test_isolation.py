"""Many callers at once with equal request ids: each gets its own answers, whoever shares the upstream."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.integration.faults.clients import ERAS, Client, Message, words
from tests.integration.faults.rig import BACKS, Back, Peer, gateway, two_upstreams
from tests.integration.faults.test_questions import ask
from tests.support import isolation

CALLERS = 50
FOR_S = 3.0
"""Seconds of calls for each kind of upstream; bench/soak.py does it for longer."""
SEED = 20_260_728


async def _call_on(client: Client, until_s: float, dice: random.Random) -> int:
    """Call as long as there is time; give the number of answers."""
    count = 0
    clock = asyncio.get_running_loop().time
    while clock() < until_s:
        count += 1
        if dice.random() < 0.2:
            assert await ask(client, seconds=0, tool="ask") == "answered"
            continue
        text = f"{client.who} {client.era} {count} " + "x" * dice.choice((0, 100, 20_000))
        seconds = dice.choice((0, 0, 0.01))
        final = await client.call("echo", text=text, seconds=seconds)
        assert words(final) == text, f"{client.who} got what is not its own"
    return count


@pytest.mark.parametrize("sessions", ["auto", "shared"])
@pytest.mark.parametrize("back", BACKS, ids=str)
async def test_no_answer_reaches_another_caller(back: Back, sessions: str, tmp_path: Path) -> None:
    callers = CALLERS
    if back.transport == "stdio" and back.era == "legacy" and sessions == "auto":
        callers = 12  # a process for each principal
    bad = Peer(tmp_path, "bad", back)
    await bad.start()
    section = bad.section(sessions=sessions, limits={"sessions": 200})
    try:
        async with gateway(tmp_path, {"bad": section}) as rig:
            clients = [
                await rig.client(f"user{number // 2}", ERAS[number % 2], first_id=1)
                for number in range(callers)
            ]
            is_single = back.transport == "stdio" and back.era == "legacy"
            if (
                sessions == "shared" or is_single
            ):  # so that it is seen to ask, and calls are kept apart
                await asyncio.gather(*(ask(client, tool="ask") for client in clients[:2]))
            dice = random.Random(SEED)
            until_s = asyncio.get_running_loop().time() + FOR_S
            counts = await asyncio.gather(
                *(_call_on(client, until_s, random.Random(dice.random())) for client in clients)
            )
            assert min(counts) > 0
            assert len(rig.house.live.parking) == 0
    finally:
        await bad.stop()


@pytest.mark.parametrize("back", [back for back in BACKS if back.transport == "http"], ids=str)
async def test_an_answer_sent_on_the_stream_of_another_reaches_nobody(
    back: Back, tmp_path: Path
) -> None:
    async with two_upstreams(tmp_path, back) as (rig, _bad, _):
        alice, bob = await rig.client("alice", "modern"), await rig.client("bob", "modern")
        finals = await asyncio.gather(alice.call("bad__swapped"), bob.call("bad__swapped"))
        for final in finals:
            assert final["error"]["code"] == -32603, final
            assert final["error"]["data"]["reason"] == "upstream_protocol_error"


async def test_a_few_callers_of_what_bench_isolation_does_by_the_hundred(tmp_path: Path) -> None:
    backs = {
        "modern": Back("http", "modern"),
        "state": Back("http", "legacy"),
        "line": Back("stdio", "modern"),
    }
    peers = {name: Peer(tmp_path, name, back) for name, back in backs.items()}
    try:
        for peer in peers.values():
            await peer.start()
        sections = {name: peer.section() for name, peer in peers.items()}
        async with gateway(tmp_path, sections) as rig:
            clients = [await rig.client(f"user{n}", ERAS[n % 2]) for n in range(20)]
            found = await isolation.run(
                clients, list(backs), frozenset({"state"}), 600, seed=SEED, within_s=60
            )
    finally:
        for peer in peers.values():
            await peer.stop()
    assert found.crossed == found.wrong == []
    assert found.is_isolated
    assert found.calls == found.answered.total() == 600
    assert found.questions > 20
    assert found.events > 100
    assert found.remembered > 50


MINE, OTHER, EARLIER = (f"tk0001-00000{number}-0000000{number}" for number in (1, 2, 3))


def result(text: str) -> Message:
    return {"id": 1, "result": {"content": [{"type": "text", "text": text}]}}


def note(text: str) -> Message:
    return {"method": "notifications/progress", "params": {"progressToken": 7, "message": text}}


@pytest.mark.parametrize(
    "messages",
    [
        [result(OTHER)],
        [result(f"{MINE} and {OTHER}")],
        [note(OTHER), result(MINE)],
        [{"id": 1, "error": {"code": -32603, "message": f"failed for {OTHER}"}}],
        [{"message": f"for {OTHER}"}, result(MINE)],
    ],
)
def test_a_crossed_answer_is_found_wherever_it_stands(messages: list[Message]) -> None:
    found = isolation.Found()
    isolation.judge(found, "up", MINE, messages, "")
    assert len(found.crossed) == 1
    assert OTHER in found.crossed[0]
    found.answered["up"] = 1_000
    assert not found.is_isolated


def test_what_is_the_callers_own_is_no_offence_and_what_is_nobodys_is() -> None:
    found = isolation.Found()
    isolation.judge(found, "up", MINE, [note(MINE), result(f"{MINE} after {EARLIER}")], EARLIER)
    assert (found.crossed, found.wrong, found.events) == ([], [], 1)
    assert found.is_isolated
    isolation.judge(found, "up", MINE, [note("whose?"), result(MINE)], "")
    isolation.judge(found, "up", MINE, [result("nobody's")], "")
    isolation.judge(found, "up", MINE, [], "")
    assert len(found.wrong) == 3
    assert not found.is_isolated


def test_errors_are_no_answers() -> None:
    found = isolation.Found()
    for _ in range(5):
        isolation.judge(found, "up", MINE, [{"error": {"code": -32603, "message": "no"}}], "")
    assert found.refused == {"up -32603": 5}
    assert not found.is_isolated
