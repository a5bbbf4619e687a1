"""Any order of asking, answering, retrying, leaving, cancelling and waiting ends well.

Clients of both eras and their calls act at random. Afterwards: each request had one final message and
nothing after it, every question was settled, every place is free again, and nobody was given an answer
that was meant for somebody else.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.dialogues import person
from tests.support.exchanges import Front, Running, Scene, respond
from tests.support.scripted import form, sampling, text
from tests.support.virtual_time import run_virtual, settle
from waygate_mcp.errors import InterruptedCallError, WaygateError
from waygate_mcp.gateway.parking import ParkingLimits
from waygate_mcp.gateway.sessions import Session
from waygate_mcp.model.call import Answer, Call, InputRequired, Outcome, Progress, Question

LIMITS = ParkingLimits(per_principal=3, total=4, question_s=60, parked_s=200, gather_s=0.02)

Step = tuple[str, float]
Act = tuple[str, int, float]

steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "sample", "both", "emit", "sleep", "return", "fail", "impatient"]),
        st.floats(0, 80),
    ),
    max_size=6,
)
words = [
    *("retry", "retry", "retry", "older", "future", "half", "respond", "respond", "cross"),
    *("cancel", "kill", "time", "time", "drain"),
]
acts = st.lists(st.tuples(st.sampled_from(words), st.integers(0, 5), st.floats(0, 90)), max_size=25)


@dataclass
class Client:
    """One call, its program, and all its client has seen."""

    number: int
    program: Sequence[Step]
    is_modern: bool
    asked: int = 0
    settled: int = 0
    wrong: list[str] = field(default_factory=list)
    fronts: list[Front] = field(default_factory=list)
    answered: set[str] = field(default_factory=set)
    session: Session | None = None
    killed: bool = False
    running: Running = field(init=False)

    # --- the provider's side

    async def handle(self, call: Call) -> Outcome:
        if call.input_responses:
            for raw in call.input_responses.values():
                self._check(Answer(raw))
            return text("rounds are over")
        for word, amount in self.program:
            outcome = await self._step(word, amount, call)
            if outcome is not None:
                return outcome
        return text("done")

    async def _step(self, word: str, amount: float, call: Call) -> Outcome | None:
        if word == "ask":
            await self._ask(call, form())
        elif word == "sample":
            await self._ask(call, sampling())
        elif word == "both":
            await asyncio.gather(self._ask(call, form()), self._ask(call, form()))
        elif word == "impatient":
            try:
                async with asyncio.timeout(amount):
                    await self._ask(call, form())
            except TimeoutError:
                pass
        elif word == "emit":
            await call.caller.emit(Progress(amount))
        elif word == "sleep":
            await asyncio.sleep(amount)
        elif word == "return":
            return InputRequired({"k": form()}, "state")
        else:
            raise ZeroDivisionError
        return None

    async def _ask(self, call: Call, question: Question) -> None:
        self.asked += 1
        try:
            self._check(await call.caller.ask(question))
        finally:
            self.settled += 1

    def _check(self, answer: Answer) -> None:
        if answer.result is None:
            return
        content = json.loads(answer.result).get("content")
        if content is not None and content != {"for": self.number}:
            self.wrong.append(str(content))

    # --- the client's side

    @property
    def mine(self) -> dict[str, Any]:
        return {"action": "accept", "content": {"for": self.number}}

    def open_keys(self) -> list[str]:
        """What the last `input_required` asked."""
        for front in reversed(self.fronts):
            if front.finals and front.finals[0][0] is not None:
                result = front.finals[0][0].get("result", {})
                if result.get("resultType") == "input_required":
                    return list(result.get("inputRequests", {}))
        return []

    async def retry(self, offset: int, *, half: bool = False) -> None:
        keys = self.open_keys()[:1] if half else self.open_keys()
        exchange = self.running.exchange
        if not self.is_modern or exchange.round == 0:
            return
        front = await self.running.retry(
            dict.fromkeys(keys, self.mine), of_round=exchange.round + offset, token="t"
        )
        if front is not None:
            self.fronts.append(front)

    def respond(self) -> None:
        assert self.session is not None
        for question in self.running.front.events:
            if "id" in question and question["id"] not in self.answered:
                self.answered.add(question["id"])
                respond(self.session, question, self.mine)
                return

    def respond_for(self, other: Client) -> None:
        """Try to answer somebody else's question in one's own session."""
        assert self.session is not None
        for question in other.running.front.events:
            if "id" in question and self.session is not other.session:
                assert not respond(self.session, question, self.mine)


def _begin(scene: Scene, number: int, program: Sequence[Step], *, is_modern: bool) -> Client:
    client = Client(number, program, is_modern)
    owner = person(f"p{number % 2}")
    if is_modern:
        client.running = scene.begin(client.handle, token="t", principal=owner)
    else:
        client.session = scene.session(principal=owner)
        client.running = scene.begin_legacy(
            client.handle, client.session, token="t", question_s=LIMITS.question_s
        )
    client.running.exchange.call_timeout_s = 100
    client.running.exchange.arm_deadline()
    client.fronts.append(client.running.front)
    return client


async def _act(scene: Scene, clients: Sequence[Client], act: Act) -> None:
    word, which, amount = act
    client = clients[which % len(clients)]
    if word in {"retry", "older", "future", "half"}:
        await client.retry({"older": -1, "future": 1}.get(word, 0), half=word == "half")
    elif word == "respond" and not client.is_modern:
        client.respond()
    elif word == "cross" and not client.is_modern:
        for other in clients:
            if not other.is_modern:
                client.respond_for(other)
    elif word == "cancel":
        error: WaygateError | None = InterruptedCallError() if amount > 45 else None
        client.running.exchange.cancel("at random", error)
    elif word == "kill":
        client.killed = not client.running.task.done() or client.killed
        client.running.task.cancel()
    elif word == "time":
        await asyncio.sleep(amount)
    elif word == "drain":
        scene.live.drain()
    await settle(int(amount) % 4)


async def _story(programs: Sequence[tuple[bool, Sequence[Step]]], acted: Sequence[Act]) -> None:
    scene = Scene(LIMITS)
    clients = [
        _begin(scene, number, program, is_modern=is_modern)
        for number, (is_modern, program) in enumerate(programs)
    ]
    await settle(1)  # all have begun
    for act in acted:
        await _act(scene, clients, act)
    await asyncio.sleep(10_000)
    for client in clients:
        assert client.running.task.done(), "a call never ended"
        assert client.running.exchange.is_settled
        assert client.asked == client.settled, "a question was never settled"
        assert not client.wrong, "an answer crossed over"
        # Front fails by itself where anything follows its final message.
        unfinished = [front for front in client.fronts if not front.finals]
        assert not unfinished or (client.killed and unfinished == [client.running.front])
        assert client.session is None or not client.session.questions
    assert len(scene.live.parking) == 0, "a place was never freed"
    assert not scene.live.parking._owners
    assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left behind"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(programs=st.lists(st.tuples(st.booleans(), steps), min_size=1, max_size=4), acted=acts)
def test_whatever_happens_each_request_has_one_end_and_nothing_is_left(
    programs: list[tuple[bool, list[Step]]], acted: list[Act]
) -> None:
    run_virtual(_story(programs, acted))
