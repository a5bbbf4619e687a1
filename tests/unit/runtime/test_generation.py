from __future__ import annotations

import asyncio

import pytest

from waygate_mcp.runtime.generation import CallsInFlight


def test_calls_are_counted_while_they_last() -> None:
    calls = CallsInFlight()
    with calls:
        with calls:
            assert calls.count == 2
        calls.hold()
    assert calls.count == 1
    calls.leave()
    assert calls.count == 0


def test_a_call_that_fails_has_ended_too() -> None:
    calls = CallsInFlight()
    with pytest.raises(RuntimeError), calls:
        raise RuntimeError
    assert calls.count == 0


async def test_nobody_to_wait_for_is_no_wait() -> None:
    async with asyncio.timeout(1):
        await CallsInFlight().wait_idle()


async def test_idle_comes_with_the_last_one() -> None:
    calls = CallsInFlight()
    calls.hold()
    calls.hold()
    waiting = asyncio.get_running_loop().create_task(calls.wait_idle())
    await asyncio.sleep(0)
    calls.leave()
    await asyncio.sleep(0)
    assert not waiting.done()
    calls.leave()
    async with asyncio.timeout(1):
        await waiting


async def test_one_that_begins_at_the_last_moment_is_waited_for_too() -> None:
    calls = CallsInFlight()
    calls.hold()
    waiting = asyncio.get_running_loop().create_task(calls.wait_idle())
    await asyncio.sleep(0)
    calls.leave()
    calls.hold()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    calls.leave()
    async with asyncio.timeout(1):
        await waiting


async def test_all_who_wait_hear_of_it() -> None:
    calls = CallsInFlight()
    calls.hold()
    waiting = [asyncio.get_running_loop().create_task(calls.wait_idle()) for _ in range(2)]
    await asyncio.sleep(0)
    calls.leave()
    async with asyncio.timeout(1):
        await asyncio.gather(*waiting)
