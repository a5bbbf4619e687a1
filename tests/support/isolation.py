"""Many callers at once with equal request ids: is every word that comes back the caller's own?

Knows what each call carried and what may come back of it. Each call has a token that no other has; all
that arrives on its connection is searched for tokens, and one of somebody else is the end. Refuses to know
how the gateway was opened.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tests.integration.faults.clients import Client, Message, accept

TOKEN = re.compile(r"tk[0-9a-f]{4}-[0-9a-f]{6}-[0-9a-f]{8}")
PROGRESS_TOKEN = 7
"""The same for every call of every caller, as their request ids are."""

TOOLS: Mapping[str, float] = {"echo": 0.7, "told": 0.2, "ask": 0.1}
"""How often each is called."""


@dataclass
class Found:
    """What came back of all calls."""

    calls: int = 0
    answered: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    events: int = 0
    questions: int = 0
    remembered: int = 0
    crossed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def is_isolated(self) -> bool:
        """Whether nobody got what is not its own, and nearly all had an answer."""
        answered = self.answered.total()
        return not self.crossed and not self.wrong and answered > 0.99 * self.calls > 0


def strangers(messages: Sequence[Message], own: frozenset[str]) -> list[str]:
    """Give the tokens in these messages that are none of the caller's own."""
    return [token for token in TOKEN.findall(json.dumps(messages)) if token not in own]


def judge(
    found: Found, upstream: str, token: str, messages: Sequence[Message], before: str
) -> None:
    """Take note of what came back of one call; `before` is the token of the one before in this session."""
    found.calls += 1
    foreign = strangers(messages, frozenset((token, before)))
    if foreign:
        found.crossed.append(f"{upstream}: {token} was given {foreign[0]}")
        return
    final = messages[-1] if messages else {}
    if "error" in final:
        found.refused[f"{upstream} {final['error']['code']}"] += 1
        return
    if token not in json.dumps(final.get("result", "")):
        found.wrong.append(f"{upstream}: {token} got {json.dumps(final)[:200]}")
        return
    found.answered[upstream] += 1
    for message in messages[:-1]:
        params = json.dumps(message.get("params", {}))
        is_question = message.get("method") == "elicitation/create" or "method" not in message
        if token not in params and not is_question:
            found.wrong.append(f"{upstream}: {token} was told {params[:200]}")
        found.events += not is_question


class Caller:
    """One client that calls and looks at what comes back."""

    def __init__(self, client: Client, number: int, dice: random.Random, found: Found) -> None:
        self._client = client
        self._number = number
        self._dice = dice
        self._found = found
        self._calls = 0
        self._before = ""

    async def call_on(self, upstreams: Sequence[str], stateful: frozenset[str], calls: int) -> None:
        """Make so many calls, each of an upstream by turns."""
        for number in range(calls):
            upstream = upstreams[(self._number + number) % len(upstreams)]
            tool = self._dice.choices(list(TOOLS), list(TOOLS.values()))[0]
            if upstream in stateful and tool == "echo":
                tool = "before"
            await self._call(upstream, tool)

    async def _call(self, upstream: str, tool: str) -> None:
        self._calls += 1
        token = f"tk{self._number:04x}-{self._calls:06x}-{self._dice.getrandbits(32):08x}"
        before = ""
        if tool == "ask":
            messages = await self._ask(upstream, token)
        else:
            seconds = self._dice.choice((0, 0, 0.002))
            text = token + " x" * self._dice.choice((0, 0, 0, 200))
            messages = await self._exchange(
                f"{upstream}__{tool}", {"text": text, "seconds": seconds}
            )
        if tool == "before":
            before = self._before
            final = json.dumps(messages[-1:])
            if before and before in final:
                self._found.remembered += 1
            self._before = token if "error" not in messages[-1] else ""
        judge(self._found, upstream, token, messages, before)

    async def _exchange(self, tool: str, arguments: Message) -> list[Message]:
        meta: Message = {"progressToken": PROGRESS_TOKEN}
        if self._client.era == "modern":
            meta["io.modelcontextprotocol/logLevel"] = "info"
        params = {"name": tool, "arguments": arguments, "_meta": meta}
        async with self._client.request("tools/call", params) as response:
            return [message async for message in response.messages()]

    async def _ask(self, upstream: str, token: str) -> list[Message]:
        questions = self._client.questions
        questions.clear()
        final = await self._client.call(f"{upstream}__ask", answer=accept(token), tag=token)
        self._found.questions += len(questions)
        return [*questions, final]


async def run(
    clients: Sequence[Client],
    upstreams: Sequence[str],
    stateful: frozenset[str],
    calls: int,
    *,
    seed: int,
    within_s: float,
) -> Found:
    """Let all clients call at once, `calls` together or as many as there is time for; give what came back."""
    found = Found()
    dice = random.Random(seed)
    each, more = divmod(calls, len(clients))
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s), asyncio.TaskGroup() as group:
            for number, client in enumerate(clients):
                caller = Caller(client, number, random.Random(dice.random()), found)
                group.create_task(caller.call_on(upstreams, stateful, each + (number < more)))
    return found
