"""A process that ends closes its own descriptors, once, and nobody else's: on both loops."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from tests.integration.faults.conftest import open_descriptors
from tests.support.upstreams import RUN, children
from waygate_mcp.upstreams.process import Command, Processes

PROCESSES = 6


@pytest.mark.parametrize(
    "loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_no_descriptor_is_closed_twice_or_stays_open(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice: list[int] = []
    close = os.close

    def closing(descriptor: int) -> None:
        try:
            close(descriptor)
        except OSError:
            twice.append(descriptor)

    async def story() -> None:
        processes = Processes(tmp_path)
        env = {"TEST_RUN_OF_UPSTREAMS": RUN}
        command = Command("/bin/cat", env=env, sandbox="none")
        await (await processes.start("cat", command, limit_bytes=1024)).close()
        await asyncio.sleep(0.05)
        before = len(open_descriptors())
        for number in range(PROCESSES):
            child = await processes.start("cat", command, limit_bytes=1024)
            assert child.send(b"{}") is None
            async for lines in child.lines():
                assert lines == [b"{}"]
                break
            if number % 2:
                child.kill()
            await child.close()
            await asyncio.sleep(0.05)
        for steps in range(12):  # a start that is cancelled at every moment it has
            starting = asyncio.get_running_loop().create_task(
                processes.start("cat", command, limit_bytes=1024)
            )
            for _ in range(steps):
                await asyncio.sleep(0)
            starting.cancel()
            await asyncio.wait({starting})
            if not starting.cancelled():
                await starting.result().close()
            await asyncio.sleep(0.05)
        assert len(open_descriptors()) == before

    monkeypatch.setattr(os, "close", closing)
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(story())
    assert children() == set()
    assert not twice, "closed twice: by then the number may be somebody else's"
