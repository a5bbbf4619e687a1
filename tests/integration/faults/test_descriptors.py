"""A process that ends closes its own descriptors, once, and nobody else's: on both loops."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from tests.integration.faults.conftest import open_descriptors
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
        command = Command("/bin/cat", sandbox="none")
        await (await processes.start("cat", command, limit_bytes=1024)).close()
        await asyncio.sleep(0.05)
        before = len(open_descriptors())
        for number in range(PROCESSES):
            child = await processes.start("cat", command, limit_bytes=1024)
            await child.send(b"{}")
            async for lines in child.lines():
                assert lines == [b"{}"]
                break
            if number % 2:
                child.kill()
            await child.close()
            await asyncio.sleep(0.05)
        assert len(open_descriptors()) == before

    monkeypatch.setattr(os, "close", closing)
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(story())
    assert not twice, "closed twice: by then the number may be somebody else's"
