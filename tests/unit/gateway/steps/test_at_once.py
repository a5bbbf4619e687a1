"""A place is taken before a call goes on, and given back however it ends."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.dialogues import person
from tests.support.providers import FakeCaller, make_call
from tests.support.scripted import text
from waygate_mcp.errors import RateLimitedError, UpstreamError
from waygate_mcp.gateway.chain import compose
from waygate_mcp.gateway.steps.at_once import AtOnce, AtOnceUpstream
from waygate_mcp.model.call import Answer, Call, LogEvent, Outcome, Progress, Question
from waygate_mcp.model.nobody import NOBODY
from waygate_mcp.policy.places import Caps, Crowd, Places

QUESTION = Question("roots/list")
ENDS = ("answer", "fail", "ask", "ask twice at once", "ask and fail", "hang")


class Rig:
    """Both steps round a provider whose calls end when and how they are told to."""

    def __init__(self, caps: Caps) -> None:
        self.places = Places()
        self.refused: list[str] = []
        self.most_at_work = 0
        self.at_work = 0
        self.dice = random.Random(7)
        caller = AtOnce(Crowd(caps.of_caller, self.places, self.refused.append))
        upstream = AtOnceUpstream(Crowd(caps.of_upstream, self.places, self.refused.append))
        self.handle = compose((caller, upstream), self.provide)

    async def provide(self, call: Call) -> Outcome:
        """The provider; how it ends stands in the call's name."""
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            await self._turns()
            if call.name == "fail":
                raise UpstreamError("up")
            if call.name == "hang":
                await asyncio.Event().wait()
            if call.name.startswith("ask"):
                number = 2 if call.name == "ask twice at once" else 1
                await asyncio.gather(*(call.caller.ask(QUESTION) for _ in range(number)))
            await self._turns()
            return text("done")
        finally:
            self.at_work -= 1

    async def _turns(self) -> None:
        for _ in range(self.dice.randrange(4)):
            await asyncio.sleep(0)

    def call(self, end: str, who: str = "alice") -> Call:
        async def ask(_question: Question) -> Answer:
            await self._turns()
            if end == "ask and fail":
                raise UpstreamError("nobody answers")
            return Answer(b"{}")

        caller: Any = FakeCaller()
        caller.ask = ask
        call = make_call("tools/call", {"name": end}, principal=person(who), caller=caller)
        call.provider = "web"
        return call


@settings(max_examples=60, deadline=None)
@given(
    calls=st.lists(
        st.tuples(st.sampled_from(ENDS), st.sampled_from(("alice", "bob")), st.integers(0, 12)),
        max_size=30,
    ),
    most=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
)
def test_no_place_is_ever_lost(
    calls: list[tuple[str, str, int]], most: tuple[int, int, int]
) -> None:
    """Whatever calls do, in whatever order they end or are cancelled: in the end nothing is taken."""
    default, tool, upstream = most
    rig = Rig(Caps(default=default, tools={"ask": tool}, upstreams={"web": upstream}))

    async def run() -> None:
        tasks = []
        loop = asyncio.get_running_loop()
        for end, who, turns in calls:
            task = loop.create_task(_outcome(rig, rig.call(end, who)))
            tasks.append(task)
            for _ in range(turns):
                await asyncio.sleep(0)
            if turns == 12:
                rig.dice.choice(tasks).cancel()
            assert all(number > 0 for number in rig.places.taken.values())
            by_caller = [n for key, n in rig.places.taken.items() if key[0] == "caller"]
            assert max(by_caller, default=0) <= default
        for _ in range(60):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, str | asyncio.CancelledError) for each in ended), ended

    asyncio.run(run())
    assert rig.places.taken == {}
    assert rig.at_work == 0


async def _outcome(rig: Rig, call: Call) -> str:
    try:
        await rig.handle(call)
    except RateLimitedError:
        return "refused"
    except UpstreamError:
        return "failed"
    return "done"


async def test_one_too_many_goes_no_further() -> None:
    rig = Rig(Caps(default=1))
    async with asyncio.TaskGroup() as group:
        first = group.create_task(_outcome(rig, rig.call("answer")))
        await asyncio.sleep(0)
        assert await _outcome(rig, rig.call("answer")) == "refused"
        assert await _outcome(rig, rig.call("answer", "bob")) == "done"
    assert first.result() == "done"
    assert rig.refused == ["concurrent_default"]
    assert rig.most_at_work == 2


async def test_a_call_that_asks_keeps_its_callers_place_and_leaves_its_upstreams() -> None:
    rig = Rig(Caps(default=9, upstreams={"web": 1}))
    asked, answered = asyncio.Event(), asyncio.Event()
    call = rig.call("ask")

    async def ask(_question: Question) -> Answer:
        asked.set()
        await answered.wait()
        return Answer(b"{}")

    mocked: Any = call.caller
    mocked.ask = ask
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        parked = group.create_task(_outcome(rig, call))
        await asked.wait()
        assert rig.places.taken == {("caller", "key:alice"): 1}
        hanging = group.create_task(_outcome(rig, rig.call("hang", "bob")))
        await asyncio.sleep(0)
        answered.set()
        assert await parked == "done", "it was let in before"
        assert rig.places.taken == {("caller", "key:bob"): 1, ("upstream", "web"): 1}
        hanging.cancel()
    assert rig.places.taken == {}


async def test_what_is_no_question_passes_as_it_is() -> None:
    seen: list[Any] = []

    async def provide(call: Call) -> Outcome:
        seen.append(call.caller.log_level)
        await call.caller.emit(Progress(1))
        await call.caller.emit(LogEvent("info", b"1"))
        await call.caller.close_stream()
        return text("done")

    caps = Caps(upstreams={"web": 1})
    step = AtOnceUpstream(Crowd(caps.of_upstream, Places(), seen.append))
    caller = FakeCaller()
    call = make_call("tools/call", {"name": "x"}, caller=caller)
    call.provider = "web"
    await step(call, provide)
    assert seen == ["debug"]
    assert caller.events == [Progress(1), LogEvent("info", b"1")]
    assert call.caller is caller


async def test_an_upstream_of_which_nothing_is_said_costs_nothing() -> None:
    rig = Rig(Caps(upstreams={"other": 1}))
    call = rig.call("answer")
    assert await _outcome(rig, call) == "done"
    assert rig.places.taken == {}


async def test_what_the_gateway_asks_for_by_itself_is_not_counted() -> None:
    rig = Rig(Caps(default=1))
    own = [make_call("resources/subscribe", {"uri": "x"}) for _ in range(3)]
    for call in own:
        call.caller = NOBODY
    assert await asyncio.gather(*(_outcome(rig, call) for call in own)) == ["done"] * 3


async def test_an_answer_that_comes_after_the_end_takes_nothing() -> None:
    caps = Caps(upstreams={"web": 1})
    places = Places()
    answered = asyncio.Event()
    tasks = []

    async def provide(call: Call) -> Outcome:
        tasks.append(asyncio.get_running_loop().create_task(_ask(call.caller)))
        await asyncio.sleep(0)
        return text("done without it")

    class Late(FakeCaller):
        async def ask(self, question: Question) -> Answer:
            await answered.wait()
            return Answer(b"{}")

    call = make_call("tools/call", {"name": "x"}, caller=Late())
    call.provider = "web"
    refused: list[str] = []
    await AtOnceUpstream(Crowd(caps.of_upstream, places, refused.append))(call, provide)
    assert places.taken == {}
    answered.set()
    await asyncio.gather(*tasks)
    assert places.taken == {}


async def _ask(caller: Any) -> None:
    await caller.ask(QUESTION)


@pytest.mark.parametrize("end", ["fail", "ask and fail"])
async def test_a_call_that_fails_gives_everything_back(end: str) -> None:
    rig = Rig(Caps(default=1, upstreams={"web": 1}))
    for _ in range(3):
        assert await _outcome(rig, rig.call(end)) == "failed"
    assert rig.places.taken == {}
