"""What a failed call leaves to the garbage collector: nothing, since that hardly ever walks through everything."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.faults.rig import BACKS, Back, Peer, gateway, until_well
from waygate_mcp.errors import WaygateError
from waygate_mcp.model.call import Call
from waygate_mcp.net.connection import PooledResponse

CALLS = 3
KINDS = (WaygateError, Call, PooledResponse)
TOOLS = ("error", "cut", "garbage", "huge")


@pytest.fixture
def _nothing_is_collected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive() -> Counter[str]:
    """Count what holds frames or bodies."""
    return Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, KINDS))


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
