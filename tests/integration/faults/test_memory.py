"""What a failed call leaves to the garbage collector: nothing, since that hardly ever walks through everything.

Nor does one whose client left, or whose time was up, nor the connection it came on.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.faults.clients import Client
from tests.integration.faults.rig import BACKS, Back, Peer, gateway, until_well
from waygate_mcp.errors import WaygateError
from waygate_mcp.gateway.exchange import Exchange
from waygate_mcp.model.call import Call
from waygate_mcp.net.connection import PooledResponse
from waygate_mcp.web.connection import Connection
from waygate_mcp.web.cycle import Cycle
from waygate_mcp.web.fronts import LegacyFront, ModernFront
from waygate_mcp.web.visit import Visit

CALLS = 3
KINDS = (WaygateError, Call, PooledResponse)
TOOLS = ("error", "cut", "garbage", "huge")
OF_A_REQUEST = (Call, Connection, Cycle, Exchange, LegacyFront, ModernFront, PooledResponse, Visit)


@pytest.fixture
def _nothing_is_collected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive(kinds: tuple[type, ...] = KINDS) -> Counter[str]:
    """Count what holds frames or bodies."""
    return Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, kinds))


@pytest.mark.usefixtures("_nothing_is_collected")
@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("back", BACKS, ids=str)
async def test_a_call_that_failed_is_gone_without_a_collection(
    back: Back, tool: str, tmp_path: Path
) -> None:
    bad = Peer(tmp_path, "bad", back)
    await bad.start()
    try:
        section = bad.section(limits={"failures": 100, "message_bytes": 1024 * 1024})
        async with gateway(tmp_path, {"bad": section}) as rig:
            # A line that breaks again and again is opened ever more seldom: one client is enough there.
            clients = (await rig.both())[: 1 if back.is_line else 2]
            for client in clients:
                await until_well(client, "echo")
                await client.call(tool)
                await until_well(client, "echo")
                before = alive()
                for _ in range(CALLS):
                    await client.call(tool)
                    await until_well(client, "echo")
                more = alive() - before
                # The last error of an upstream is kept, for people to look at.
                assert not {kind: number for kind, number in more.items() if number > 1}, more
    finally:
        await bad.stop()


@pytest.mark.usefixtures("_nothing_is_collected")
@pytest.mark.parametrize("tool", ["echo", "hang", "event_flood"])
@pytest.mark.parametrize("back", BACKS, ids=str)
async def test_a_request_whose_client_left_is_gone_without_a_collection(
    back: Back, tool: str, tmp_path: Path
) -> None:
    """A client that leaves cancels in the modern era; in the others the deadline ends the call."""
    bad = Peer(tmp_path, "bad", back)
    await bad.start()
    limits = {"call_timeout_s": 1, "question_timeout_s": 1}
    try:
        section = bad.section(limits={"failures": 100})
        async with gateway(tmp_path, {"bad": section}, limits=limits) as rig:
            clients = await rig.both()
            for client in clients:
                await until_well(client, "echo")

            async def leave(client: Client) -> None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.3):
                        await client.once(tool, {"text": "x"})

            before = alive(OF_A_REQUEST)
            await asyncio.gather(*(leave(client) for client in clients for _ in range(CALLS)))
            more = before
            with suppress(TimeoutError):
                async with asyncio.timeout(4):
                    while more:
                        await asyncio.sleep(0.05)
                        more = alive(OF_A_REQUEST) - before
            # Connections to an upstream are kept for the next call, each with its last response.
            kept = more.pop("PooledResponse", 0)
            assert not more, more
            assert kept <= CALLS * len(clients)
    finally:
        await bad.stop()
