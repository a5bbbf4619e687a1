"""Each fault on each transport, for clients of both eras, with a healthy upstream beside it.

The table says what a client is told. Each test also sees that it is told in time, that calls of the
healthy upstream go on, that the faulty one is called again afterwards, and that nothing is left over.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.faults.clients import ERAS, Message, words
from tests.integration.faults.rig import Back, healthy, two_upstreams, until_well

CALL_S = 1.5
"""Seconds a call may take in these tests."""
TOLD_S = 6.0
"""Seconds within which a client is told, on a machine with other work."""

PROTOCOL = (-32603, "upstream_protocol_error", "not valid")
CLOSED = (-32603, "upstream_protocol_error", "the outcome is unknown")
ENDED = (-32603, "upstream_timeout", "the outcome is unknown")
DEADLINE = (4408, "call_timeout", "took too long")
TOO_LARGE = (4413, None, "larger than 16777216 bytes")
Told = tuple[int, str | None, str] | str
"""A code, its `data.reason` and words of its message; or the text of a result."""


@dataclass(frozen=True)
class Fault:
    """One tool that misbehaves, and what its caller is told over each transport."""

    tool: str
    http: Told
    sse: Told
    stdio: Told

    def told(self, back: Back) -> Told:
        """What it is over this transport."""
        told: Told = getattr(self, back.transport)
        return told


FAULTS = (
    Fault("kill", CLOSED, CLOSED, ENDED),
    Fault("hang", DEADLINE, DEADLINE, DEADLINE),
    Fault("garbage", PROTOCOL, "after garbage", "after garbage"),
    Fault("noise", PROTOCOL, PROTOCOL, DEADLINE),
    Fault("huge", TOO_LARGE, TOO_LARGE, TOO_LARGE),
    Fault("huge_event", TOO_LARGE, TOO_LARGE, TOO_LARGE),
    Fault("endless", TOO_LARGE, TOO_LARGE, TOO_LARGE),
    Fault("event_flood", DEADLINE, DEADLINE, DEADLINE),
    Fault("cut", CLOSED, CLOSED, ENDED),
    Fault("half", CLOSED, CLOSED, ENDED),
    Fault("headers", CLOSED, CLOSED, ENDED),
    Fault("empty", PROTOCOL, CLOSED, ENDED),
    Fault("twice", "one", "one", "one"),
    Fault("wrong_id", PROTOCOL, DEADLINE, DEADLINE),
    Fault("unasked", "after all", "after all", "after all"),
    Fault("last_words", "farewell", "farewell", "farewell"),
)


def check(final: Message, told: Told, what: str) -> None:
    """Compare what a client was told with the table."""
    if isinstance(told, str):
        assert words(final) == told, (what, final)
        return
    code, reason, text = told
    assert "error" in final, (what, final)
    assert final["error"]["code"] == code, (what, final)
    data: dict[str, Any] = final["error"].get("data", {})
    assert data.get("reason") == reason, (what, final)
    assert text in final["error"]["message"], (what, final)
    assert data.get("upstream", "bad") == "bad", (what, final)


async def see(fault: Fault, back: Back, folder: Path) -> None:
    """Have clients of both eras meet a fault."""
    limits = {"call_timeout_s": CALL_S}
    async with two_upstreams(folder, back, limits=limits) as (rig, bad, _):
        clients = await rig.both()
        for client in clients:
            await until_well(client)
        async with healthy(rig):
            start = await rig.at_rest()
            for client in clients:
                # Its own stream may have ended with what the other one met.
                await until_well(client)
                async with asyncio.timeout(TOLD_S):
                    final = await client.call(f"bad__{fault.tool}", tag=client.era)
                check(final, fault.told(back), f"{client.era} client")
                await bad.until_dead()
                await until_well(client)
            await rig.settled(start)
        for era in ERAS:
            assert bad.noted("run", fault.tool, era) == 1, "it ran as often as it was called"
