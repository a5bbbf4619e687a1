"""Every test here ends with the processes and descriptors it began with, on the loop the program uses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from tests.support.upstreams import children

DESCRIPTORS = Path("/proc/self/fd")
CLOSED_WITHIN_S = 5.0


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


def open_descriptors() -> dict[str, str]:
    """What is open in this process, by number."""
    found = {}
    for entry in DESCRIPTORS.iterdir():
        try:
            found[entry.name] = str(entry.readlink())
        except OSError:
            continue
    return {number: name for number, name in found.items() if not name.endswith("/fd")}


@pytest.fixture(scope="session")
def _libuv() -> None:
    """The first process a loop starts opens a pipe that libuv keeps for good."""

    async def start() -> None:
        await (await asyncio.create_subprocess_exec("true")).wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(start())


@pytest.fixture(autouse=True)
def _no_leftovers(_libuv: None) -> Iterator[None]:
    processes, descriptors = children(), open_descriptors()
    yield

    def left() -> dict[str, str]:
        return {key: name for key, name in open_descriptors().items() if key not in descriptors}

    # A thread of the database may still be closing a connection that was in use.
    deadline = time.monotonic() + CLOSED_WITHIN_S
    while time.monotonic() < deadline and (children() - processes or left()):
        time.sleep(0.05)
    assert children() - processes == set(), "processes outlive the house"
    assert not left(), f"descriptors outlive the house: {left()}"
