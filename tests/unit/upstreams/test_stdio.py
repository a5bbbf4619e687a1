from __future__ import annotations

import asyncio
import sys

import pytest

from tests.support.providers import TaskGroupSupervisor
from waygate_mcp.errors import UpstreamTimeoutError, UpstreamUnavailableError
from waygate_mcp.upstreams.multiplex import Multiplex
from waygate_mcp.upstreams.process import Command, Processes
from waygate_mcp.upstreams.stdio import open_process_line

ANSWER = 'input()\nprint(\'{"id": "a", "result": {}}\', flush=True)\ninput()'


def channel_to(
    source: str, supervisor: TaskGroupSupervisor, program: str = sys.executable
) -> Multiplex:
    command = Command(program, ("-c", source), sandbox="none")
    opening = open_process_line("up", command, Processes(), supervisor, limit_bytes=1_000)
    return Multiplex("up", opening, cancels=False)


async def test_a_process_answers_and_its_end_fails_what_is_in_flight() -> None:
    supervisor = TaskGroupSupervisor()
    channel = channel_to(ANSWER, supervisor)
    async with asyncio.timeout(20):
        await channel.open()
        async with channel.request(b'{"id": "a", "method": "m"}') as one:
            assert (await anext(one.messages().__aiter__())).is_response
        async with channel.request(b'{"id": "b", "method": "m"}') as two:
            with pytest.raises(UpstreamTimeoutError):
                _ = [message async for message in two.messages()]
        assert channel.is_closed
        await channel.close()
    await supervisor.close()


async def test_a_program_that_is_not_there_makes_the_upstream_unavailable() -> None:
    supervisor = TaskGroupSupervisor()
    channel = channel_to("", supervisor, "no-such-program")
    with pytest.raises(UpstreamUnavailableError):
        await channel.open()
    await supervisor.close()
