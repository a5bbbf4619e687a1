"""The rings around every call."""

from __future__ import annotations

from tests.support.providers import make_call
from tests.support.scripted import text
from waygate_mcp.gateway.chain import compose
from waygate_mcp.model.call import Call, Outcome
from waygate_mcp.model.ports import Handler, Step


async def test_the_first_step_is_the_outermost() -> None:
    story: list[str] = []

    def step(name: str) -> Step:
        async def run(call: Call, call_next: Handler) -> Outcome:
            story.append(f"{name} in")
            outcome = await call_next(call)
            story.append(f"{name} out")
            return outcome

        return run

    async def last(call: Call) -> Outcome:
        story.append("answered")
        return text("done")

    await compose([step("a"), step("b")], last)(make_call("tools/call", {"name": "x"}))
    assert story == ["a in", "b in", "answered", "b out", "a out"]


async def test_without_steps_the_last_answers() -> None:
    async def last(call: Call) -> Outcome:
        return text("done")

    assert compose([], last) is last


async def test_a_step_may_answer_by_itself() -> None:
    async def stops(call: Call, call_next: Handler) -> Outcome:
        return text("no further")

    async def last(call: Call) -> Outcome:
        raise AssertionError

    outcome = await compose([stops], last)(make_call("tools/call", {"name": "x"}))
    assert outcome == text("no further")
