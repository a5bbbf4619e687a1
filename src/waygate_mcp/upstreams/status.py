"""How an upstream is, and what is kept of it: words shared by the provider and by whoever shows it.

Knows names, units and meanings. Refuses to know how any of it comes about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from waygate_mcp.errors import UpstreamTimeoutError, WaygateError
from waygate_mcp.model.facts import Facts
from waygate_mcp.upstreams.breaker import BreakerState, LeftAloneError

__all__ = [
    "NO_LEDGER",
    "Health",
    "Ledger",
    "RequestResult",
    "Status",
    "SteadyLimits",
    "result_of",
    "uncounted",
]

Health = Literal["new", "opening", "ready", "failing", "down", "closed"]
"""new: never opened · opening, for the first time · ready · failing: errors of late, or not opened · down: left
alone for a while."""


class SteadyLimits(msgspec.Struct, frozen=True):
    """Bounds of what one upstream may hold up.

    `calls` may be in flight, `waiting` more wait. A list is awaited for `list_wait_s`, or
    for `copy_wait_s` where a copy merely became old; what takes
    longer appears by itself when it is there. A copy of a list is shown for `stale_s` at most. One that
    was not heard of for `probe_s` is asked whether it is there, for `probe_timeout_s` at most.
    """

    calls: int = 256
    waiting: int = 1_024
    failures: int = 5
    list_wait_s: float = 5.0
    copy_wait_s: float = 1.0
    stale_s: float = 24 * 3600.0
    probe_s: float = 30.0
    probe_timeout_s: float = 10.0


RequestResult = Literal["ok", "error", "failed", "timeout", "cancelled", "refused"]
"""How a call or a reading of a list ended, seen from here.

ok          answered
error       answered, with an error
failed      not reached, broken off, or no MCP
timeout     no answer in time
cancelled   given up by who asked
refused     not sent: it is left alone for a while, or too much is under way
"""


def result_of(exc: WaygateError) -> RequestResult:
    """Say how a request ended that raised this."""
    if isinstance(exc, LeftAloneError):
        return "refused"
    return "timeout" if isinstance(exc, UpstreamTimeoutError) else "failed"


def uncounted(_result: RequestResult) -> None:
    """Count nothing."""


class Ledger(msgspec.Struct, frozen=True):
    """What the house keeps of an upstream: what was known before, who keeps what is found, who counts."""

    known: Facts | None = None
    keep: Callable[[Facts], None] | None = None
    count: Callable[[RequestResult], None] | None = None


class Status(msgspec.Struct, frozen=True):
    """How an upstream is, for people and probes. `last_error` is clipped outside text.

    `latency_s` is a moving average over calls that were answered. `refused_questions` counts questions that
    nobody could be asked.
    """

    name: str
    transport: str
    state: Health
    eras: tuple[str, ...] = ()
    revision: str = ""
    breaker: BreakerState = "closed"
    retry_s: float = 0.0
    last_error: str = ""
    latency_s: float | None = None
    in_flight: int = 0
    waiting: int = 0
    opened: int = 0
    is_interactive: bool = False
    refused_questions: int = 0
    sandbox: str = ""


NO_LEDGER = Ledger()
"""Of an upstream nobody keeps anything of."""
