"""Questions in mid-call where several users are asked at once, and tickets in the wrong hands.

No question and no answer ever reaches another caller, whatever carries the upstream and whoever shares
its sessions. A ticket is good for one call of one caller.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.faults.clients import ERAS, Client, Era, Message, accept, words
from tests.integration.faults.rig import BACKS, Back, Peer, Rig, gateway, two_upstreams, until_well

LEGACY = [back for back in BACKS if back.era == "legacy"]
INVALID = "Invalid or expired requestState"
_numbers = itertools.count(1)


async def ask(client: Client, *, seconds: float = 0.2, tool: str = "bad__ask") -> str:
    """Have a client be asked; what it is asked and what comes of it is its own. Says what came."""
    tag = f"{client.who}-{client.era}-{next(_numbers)}"
    client.questions.clear()
    final = await client.call(tool, answer=accept(tag), tag=tag, seconds=seconds, after=seconds)
    for question in client.questions:
        message = question["params"]["message"]
        assert message == f"for {tag}", f"{client.who} was asked {message!r}"
    if "error" in final:
        return "refused"
    said = json.loads(words(final))
    assert said["tag"] == said["state"] == tag, final
    if said["answer"].get("code") == -32601:
        assert not client.questions
        return "refused"
    assert said["answer"] == {"action": "accept", "content": {"name": tag}}
    return "answered"


async def users(rig: Rig, count: int) -> list[Client]:
    """Give clients of different users, of both eras, that all count their requests from one."""
    eras: list[Era] = [ERAS[number % 2] for number in range(count)]
    return [await rig.client(f"user{number}", era) for number, era in enumerate(eras)]


@pytest.mark.parametrize("sessions", ["auto", "shared"])
@pytest.mark.parametrize("back", BACKS, ids=str)
async def test_users_who_are_asked_at_once_each_get_their_own_question_or_none(
    back: Back, sessions: str, tmp_path: Path
) -> None:
    async with two_upstreams(tmp_path, back, sessions=sessions) as (rig, bad, _):
        clients = await users(rig, 8)
        await until_well(clients[0])
        first = await asyncio.gather(*(ask(client) for client in clients))
        # On one line for all nobody can say who is meant, until calls are kept apart for that.
        is_unsure = back.is_line and back.era == "legacy" and sessions == "shared"
        assert first == [*(["refused"] if is_unsure else ["answered"])] * len(clients)
        second = await asyncio.gather(*(ask(client) for client in clients))
        assert second == ["answered"] * len(clients)
        if back.transport == "stdio" and sessions == "auto" and back.era == "legacy":
            assert bad.noted("started") >= len(clients), "a process for each principal"


# --- tickets


@asynccontextmanager
async def asked(folder: Path, back: Back) -> AsyncIterator[tuple[Rig, Peer, Client, Message]]:
    """A call of Alice's that was answered `input_required`, on two endpoints with the same tools."""
    bad = Peer(folder, "bad", back)
    await bad.start()
    both: dict[str, Any] = {"default": {}, "other": {}}
    try:
        async with gateway(folder, {"bad": bad.section()}, endpoints=both) as rig:
            client = await rig.client("alice", "modern")
            await until_well(client, "echo")
            final = await client.once("ask", {"tag": "t"})
            assert final["result"]["resultType"] == "input_required"
            yield rig, bad, client, final["result"]
    finally:
        await bad.stop()


def answers_to(result: Message, name: str = "Alice") -> Message:
    """What goes back for a question."""
    (key,) = result["inputRequests"]
    given = {key: {"action": "accept", "content": {"name": name}}}
    return {"inputResponses": given, "requestState": result["requestState"]}


@pytest.mark.parametrize("back", BACKS, ids=str)
async def test_a_ticket_is_refused_altered_or_with_anything_else_it_was_not_made_for(
    back: Back, tmp_path: Path
) -> None:
    async with asked(tmp_path, back) as (rig, bad, alice, result):
        good = answers_to(result)
        state = str(good["requestState"])
        bob = await rig.client("bob", "modern")
        elsewhere = await rig.client("alice", "modern", path="/servers/other/mcp")
        middle = len(state) // 2
        other = "A" if state[middle] != "A" else "B"
        altered = {**good, "requestState": state[:middle] + other + state[middle + 1 :]}
        cut = {**good, "requestState": state[:-2]}
        tag: Message = {"tag": "t"}
        wrong: list[tuple[str, Client, str, Message, Message]] = [
            ("altered", alice, "ask", tag, altered),
            ("cut", alice, "ask", tag, cut),
            ("longer", alice, "ask", tag, {**good, "requestState": state + "AA"}),
            ("of another user", bob, "ask", tag, good),
            ("for another tool", alice, "echo", tag, good),
            ("for another argument", alice, "ask", {"tag": "u"}, good),
            ("for one argument more", alice, "ask", {"tag": "t", "more": 1}, good),
            ("at another endpoint", elsewhere, "ask", tag, good),
        ]
        for what, client, tool, arguments, more in wrong:
            final = await client.once(tool, arguments, **more)
            assert final.get("error", {}).get("message") == INVALID, (what, final)
            assert final["error"]["code"] == -32602, what
        assert bad.noted("run", "ask", "t") == 1, "none of them reached the upstream"
        assert bad.noted("answered") == 0
        final = await alice.once("ask", tag, **good)
        assert json.loads(words(final))["answer"]["content"] == {"name": "Alice"}


@pytest.mark.parametrize("back", LEGACY, ids=str)
async def test_a_ticket_that_is_replayed_gives_the_same_outcome_and_runs_nothing(
    back: Back, tmp_path: Path
) -> None:
    async with asked(tmp_path, back) as (_rig, bad, alice, result):
        first = await alice.once("ask", {"tag": "t"}, **answers_to(result))
        again = await alice.once("ask", {"tag": "t"}, **answers_to(result, "Mallory"))
        assert words(first) == words(again)
        assert json.loads(words(again))["answer"]["content"] == {"name": "Alice"}
        assert bad.noted("answered") == bad.noted("run", "ask", "t") == 1


@pytest.mark.parametrize("back", LEGACY, ids=str)
async def test_a_ticket_used_twice_at_the_same_moment_delivers_one_answer(
    back: Back, tmp_path: Path
) -> None:
    async with asked(tmp_path, back) as (_rig, bad, alice, result):
        finals = await asyncio.gather(
            *(alice.once("ask", {"tag": "t"}, **answers_to(result, name)) for name in ("A", "B"))
        )
        said = {
            json.loads(words(final))["answer"]["content"]["name"]
            for final in finals
            if "result" in final
        }
        assert len(said) == 1, "both are told the same"
        for final in finals:
            assert "result" in final or final["error"]["data"]["reason"] == "interrupted"
        assert bad.noted("answered") == bad.noted("run", "ask", "t") == 1


@pytest.mark.parametrize("back", LEGACY, ids=str)
async def test_a_client_that_leaves_during_its_retry_has_cancelled(
    back: Back, tmp_path: Path
) -> None:
    async with two_upstreams(tmp_path, back) as (rig, bad, _):
        alice = await rig.client("alice", "modern")
        await until_well(alice)
        start = await rig.at_rest()
        given = {"tag": "t", "after": 60}
        final = await alice.once("bad__ask", given)
        retry = alice.once("bad__ask", given, **answers_to(final["result"]))
        leaving = asyncio.get_running_loop().create_task(retry, name="test:leaving")
        await bad.until("answered", "t")
        leaving.cancel()
        await asyncio.wait({leaving})
        await bad.until("cancelled", "t")
        await rig.settled(start)
