from __future__ import annotations

import asyncio

from tests.support.virtual_time import now, virtual_time
from waygate_mcp.upstreams.channel import read_incoming
from waygate_mcp.upstreams.gathering import DoneError, Siblings, first_failure


@virtual_time
async def test_what_comes_within_a_moment_goes_on_in_one_step() -> None:
    siblings = Siblings()
    began_s = now()
    went_on: list[tuple[int, float]] = []

    async def ask(number: int, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await siblings.gather()
        went_on.append((number, round(now() - began_s, 3)))

    async with asyncio.TaskGroup() as group:
        for number, after_s in enumerate((0.0, 0.019, 0.021)):
            group.create_task(ask(number, after_s))
    assert went_on == [(0, 0.02), (1, 0.02), (2, 0.041)]


def test_the_response_counts_before_whatever_failed_beside_it() -> None:
    (response,) = read_incoming(b'{"jsonrpc":"2.0","id":"a","result":{}}')
    done, other = DoneError(response), ValueError("x")
    nested = BaseExceptionGroup("outer", [other, BaseExceptionGroup("inner", [done])])
    assert first_failure(nested) is done
    assert first_failure(BaseExceptionGroup("outer", [other])) is other
    assert done.response is response
