"""What the audit journal costs, and how fast it is verified.

    step       CPU µs of both records of a call: the chain of steps with the journal less the one without
    interval   records/s one thread can append
    strict     records/s of calls that each wait for the disk, 64 at a time
    verify     seconds for a million records (--records)

The journal lies in a folder of its own beneath --folder, on the disk that is to be measured, and is removed
afterwards. CPU time is the thread's own, so neighbours make it little dearer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from waygate_mcp.audit.files import write_beside
from waygate_mcp.audit.journal import Journal, JournalOptions
from waygate_mcp.audit.keys import AuditKeys
from waygate_mcp.audit.ring import RING_BYTES
from waygate_mcp.audit.trail import Trail
from waygate_mcp.audit.verify import verify
from waygate_mcp.gateway.chain import compose
from waygate_mcp.gateway.steps.audit import started
from waygate_mcp.gateway.steps.observe import Observe
from waygate_mcp.model.call import Call, Outcome, Reply
from waygate_mcp.runtime.clock import Clock
from waygate_mcp.telemetry.metrics import Metrics
from waygate_mcp.telemetry.redaction import Redactor
from waygate_mcp.testing.fakes import call_of

RESULTS = Path(__file__).parent / "results"
KEYS = AuditKeys(b"the key of the bench, which is no secret 0123")
CLOCK = Clock()
ROUNDS = 7
CALLS = 10_000
STRICT_S = 5.0
STRICT_CALLERS = 64
BODY = (
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"greeter__greet",'
    b'"arguments":{"name":"Ada","times":3},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}'
)


def open_trail(folder: Path) -> Trail:
    """Give a trail with a journal of its own, as the server has it."""
    journal = Journal(folder, KEYS, CLOCK.now, JournalOptions(), ring_bytes=RING_BYTES)
    return Trail(journal, Redactor(), CLOCK.now, CLOCK.monotonic)


def a_call() -> Call:
    """Make a call as the door does."""
    params = {"arguments": {"name": "Ada", "times": 3}}
    return call_of("tools/call", "greeter__greet", params, body=BODY, request_id="ab12cd34ef56-1f")


async def answer(_: Call) -> Outcome:
    """Be the last of the chain."""
    return Reply(b"{}")


async def cost_of_step(folder: Path) -> float:
    """Give the CPU µs a call costs more with the journal than without."""
    trail = open_trail(folder)
    observe, recording = Observe(Metrics()), Observe(Metrics(), recorder=trail)
    chains = (
        compose((observe,), answer),
        compose((recording, started(trail, is_strict=False)), answer),
    )
    call = a_call()
    costs: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for handle, cost in zip(chains, costs, strict=True):
            began = time.thread_time()
            for _ in range(CALLS):
                call.audit_sequence = 0
                await handle(call)
            cost.append((time.thread_time() - began) / CALLS * 1e6)
    trail.journal.close()
    trail.journal.release()
    return min(costs[1]) - min(costs[0])


def rate_of_appending(folder: Path) -> float:
    """Give records/s of one thread that appends and waits for nothing."""
    trail = open_trail(folder)
    call = a_call()
    began = time.perf_counter()
    for _ in range(CALLS):
        trail.begin(call)
        trail.end(call, "ok", 0.001)
    rate = 2 * CALLS / (time.perf_counter() - began)
    trail.journal.close()
    trail.journal.release()
    return rate


async def rate_of_strict(folder: Path) -> tuple[float, float]:
    """Give records/s, and the median ms a call waits, where each waits for the disk."""
    trail = open_trail(folder)
    handle = compose((Observe(Metrics(), recorder=trail), started(trail, is_strict=True)), answer)
    waits: list[float] = []
    until = time.perf_counter() + STRICT_S

    async def caller() -> None:
        while (began := time.perf_counter()) < until:
            await handle(a_call())
            waits.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(STRICT_CALLERS)))
    rate = trail.journal.tip.sequence / (time.perf_counter() - began)
    trail.journal.close()
    trail.journal.release()
    return rate, statistics.median(waits) * 1000


def time_to_verify(folder: Path, count: int) -> float:
    """Write so many records and give the seconds their verification takes."""
    trail = open_trail(folder)
    call = a_call()
    for _ in range(count // 2):
        trail.begin(call)
        trail.end(call, "ok", 0.001)
    head = trail.journal.close()
    trail.journal.release()
    assert head is not None
    write_beside(folder, head)
    began = time.perf_counter()
    report = verify(folder, KEYS, [head])
    took = time.perf_counter() - began
    assert report.is_whole, report.findings[:3]
    assert report.records == count
    return took


def main() -> int:
    """Measure, print, and keep where wanted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--records", type=int, default=1_000_000, help="records to verify")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on which disk")
    parser.add_argument("--save", action="store_true", help="write results/audit.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        root = Path(name)
        rate, wait_ms = asyncio.run(rate_of_strict(root / "strict"))
        found: dict[str, Any] = {
            "step_cpu_us": round(asyncio.run(cost_of_step(root / "step")), 2),
            "append_records_s": round(rate_of_appending(root / "append")),
            "strict_records_s": round(rate),
            "strict_wait_ms": round(wait_ms, 2),
            "verified_records": options.records,
            "verify_s": round(time_to_verify(root / "verify", options.records), 2),
        }
    sys.stdout.write(f"{json.dumps(found, indent=2)}\n")
    if options.save:
        (RESULTS / "audit.json").write_text(f"{json.dumps(found, indent=2)}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
