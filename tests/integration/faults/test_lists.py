"""Upstreams whose lists never come."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.integration.faults.rig import BACKS, Back, Peer, gateway, healthy

TOLD_S = 6.0


@pytest.mark.parametrize("back", BACKS, ids=str)
async def test_an_upstream_whose_lists_never_come_holds_nobody_up(
    back: Back, tmp_path: Path
) -> None:
    bad = Peer(tmp_path, "bad", back, lists="hang")
    good = Peer(tmp_path, "good", Back("stdio", "modern"))
    try:
        await bad.start()
        sections = {"bad": bad.section(), "good": good.section()}
        async with gateway(tmp_path, sections) as rig, healthy(rig):
            clients = await rig.both()
            for client in clients:
                async with asyncio.timeout(TOLD_S):
                    final = await client.call("bad__echo")
                assert final["error"]["code"] == -32603, final
                data = {"reason": "upstream_unavailable", "upstream": "bad"}
                assert final["error"]["data"] == data, final
            await asyncio.sleep(3)  # lists are believed for a second or so
    finally:
        await bad.stop()
