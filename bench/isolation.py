"""Does an answer ever reach another caller? 200 of them at once with equal request ids, 100,000 calls.

    python bench/isolation.py                        # exit 1 where anything reached the wrong caller
    python bench/isolation.py --calls 100000 --save  # the findings also to results/isolation.md

`waygate serve` runs as its users run it, with a shared modern upstream, a legacy upstream that keeps state in its
sessions, and one process of each era on standard input. Every caller has a key of its own; half of them speak the
modern era, half the legacy one, and all count their requests from 1 and give the same progress token. Each call
carries a token no other has; whatever comes back of it (answer, progress, log, question) is searched for tokens.
"""

import argparse
import asyncio
import json
import platform
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.integration.faults.clients import ERAS, Client  # noqa: E402
from tests.integration.faults.rig import Back, Peer  # noqa: E402
from tests.integration.gateway_process import Gateway, serving  # noqa: E402
from tests.support.isolation import Found, run  # noqa: E402

SEED = 20_261_128
RESULT = ROOT / "bench" / "results" / "isolation.md"
STATEFUL = "state"
BACKS = {
    "modern": (Back("http", "modern"), {}),
    STATEFUL: (Back("http", "legacy"), {"limits": {"sessions": 1000}}),
    "line": (Back("stdio", "modern"), {}),
    "oldline": (Back("stdio", "legacy"), {"sessions": "shared"}),
}
LIMITS = {"parked_per_principal": 1000, "parked_per_upstream": 10_000, "parked_total": 10_000}


def make_key(gateway: Gateway, name: str) -> str:
    """Make a key that may call, as an administrator does."""
    body = json.dumps({"name": name, "roles": ["operator"]}).encode()
    headers = {**gateway.headers, "content-type": "application/json"}
    request = urllib.request.Request(
        f"{gateway.base_url}/admin/v1/keys", data=body, headers=headers, method="POST"
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        return str(json.load(response)["key"])


async def measure(folder: Path, callers: int, calls: int, within_s: float) -> tuple[Found, float]:
    """Serve, call, and give what came back and how long it took."""
    peers = {name: Peer(folder, name, back) for name, (back, _) in BACKS.items()}
    sections = {name: peers[name].section(**more) for name, (_, more) in BACKS.items()}
    document = {"version": 1, "limits": LIMITS, "upstreams": sections}
    try:
        for peer in peers.values():
            await peer.start()
        with serving(folder / "gateway", document) as gateway:
            keys = [
                await asyncio.to_thread(make_key, gateway, f"caller-{number}")
                for number in range(callers)
            ]
            port = int(gateway.base_url.rpartition(":")[2])
            clients = [Client(port, key, ERAS[number % 2]) for number, key in enumerate(keys)]
            for client in clients:
                await client.open()
            began_s = time.monotonic()
            found = await run(
                clients, list(BACKS), frozenset({STATEFUL}), calls, seed=SEED, within_s=within_s
            )
            took_s = time.monotonic() - began_s
    finally:
        for peer in peers.values():
            await peer.stop()
    return found, took_s


def report(found: Found, callers: int, took_s: float) -> list[str]:
    """Word the findings."""
    refused = ", ".join(f"{code} × {number}" for code, number in found.refused.most_common())
    by_upstream = ", ".join(f"{name} {number}" for name, number in sorted(found.answered.items()))
    return [
        "| figure | |",
        "| --- | ---: |",
        f"| callers, each with its own key | {callers} |",
        f"| calls | {found.calls} |",
        f"| answered | {found.answered.total()} ({by_upstream}) |",
        f"| answers with what this session said before | {found.remembered} |",
        f"| progress and log messages | {found.events} |",
        f"| questions asked and answered | {found.questions} |",
        f"| errors | {found.refused.total()}{f' ({refused})' if refused else ''} |",
        f"| seconds | {took_s:.0f} |",
        f"| **reached another caller** | **{len(found.crossed)}** |",
        f"| without the caller's own token | {len(found.wrong)} |",
    ]


def main() -> int:
    """Run, print, and save where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--callers", type=int, default=200)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=30.0, help="at most")
    parser.add_argument("--save", action="store_true", help="write results/isolation.md")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wg-isolation-") as folder:
        found, took_s = asyncio.run(
            measure(Path(folder), given.callers, given.calls, given.minutes * 60)
        )
    lines = report(found, given.callers, took_s)
    print(*lines, *found.crossed[:10], *found.wrong[:10], sep="\n")
    if given.save:
        command = (
            f"python bench/isolation.py --callers {given.callers} --calls {given.calls} --save"
        )
        head = f"# Isolation\n\n`{command}`, Python {platform.python_version()}, {platform.system()}.\n\n"
        RESULT.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    is_whole = found.calls == given.calls
    print(
        "isolated" if found.is_isolated else "NOT ISOLATED",
        "" if is_whole else "NOT ALL CALLS MADE",
    )
    return 0 if found.is_isolated and is_whole else 1


if __name__ == "__main__":
    raise SystemExit(main())
