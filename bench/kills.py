"""`kill -9` at random moments: is anything lost that was acknowledged, and how soon is the gateway back?

    python bench/kills.py --cycles 200            # on SQLite and on a PostgreSQL of its own, one after the other
    python bench/kills.py --cycles 200 --only sqlite
    python bench/kills.py --cycles 200 --save     # the findings also to results/kills.md

Each cycle runs `waygate serve` under calls and an administrator who makes keys, revokes them and approves definitions,
and beside it a process that makes and revokes keys itself, all on one database; kills both at a random moment; and
compares the database and the audit journal with what had been acknowledged: every key, revocation and approval, both
rows of each transaction, no version twice, on SQLite a sound file; a record of every answered call and every act, in
chains that verify up to the heads in the database. Then the gateway starts again, and is asked with keys made and
revoked before. Every tenth cycle PostgreSQL itself dies first. Exit 1 where anything is missing.
"""

import argparse
import platform
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.kills import Findings, Kills  # noqa: E402
from tests.support.postgres import postgres  # noqa: E402

TITLES = (
    "| database | kills | of the database too | keys acknowledged | revocations | approvals "
    "| audit records verified | lost | calls answered "
    "| of those 2 s before the kill, not in the history (of many a part is kept) |"
    " ready, median s | p99 | slowest | took s |"
)
RESULT = ROOT / "bench" / "results" / "kills.md"


def run(kind: str, cycles: int, seed: int, within_s: float) -> Findings:
    """Run all cycles on one kind of database, or as many as there is time for."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wg-kills-")))
        if kind == "sqlite":
            return Kills(folder, f"sqlite:///{folder / 'waygate.db'}", None, seed).run(
                cycles, within_s=within_s
            )
        cluster = stack.enter_context(postgres())
        return Kills(folder, cluster.make(), cluster, seed).run(cycles, within_s=within_s)


def row(kind: str, found: Findings, seconds: float) -> str:
    """Give the findings as a row of the table."""
    ready = sorted(found.ready_s)
    p99 = quantiles(ready, n=100, method="inclusive")[-1]
    return (
        f"| {kind} | {found.cycles} | {found.database_kills} | {len(found.made)} | {len(found.revoked)} "
        f"| {found.approvals} | {found.records} "
        f"| {len(found.problems)} | {found.answered} | {found.late} | {median(ready):.2f} | {p99:.2f} "
        f"| {ready[-1]:.2f} | {seconds:.0f} |"
    )


def main() -> int:
    """Run, print, and save where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    parser.add_argument("--minutes", type=float, default=120.0, help="at most, for each database")
    parser.add_argument("--seed", type=int, default=20_261_128)
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args()
    lines = [TITLES, "| --- " * TITLES.count(" |") + "|"]
    problems: list[str] = []
    for kind in [given.only] if given.only else ["sqlite", "postgresql"]:
        started_s = time.monotonic()
        found = run(kind, given.cycles, given.seed, given.minutes * 60)
        lines.append(row(kind, found, time.monotonic() - started_s))
        print(lines[-1], flush=True)
        problems += found.problems
    text = "\n".join(lines)
    print(f"\n{text}\n" + "\n".join(problems))
    if given.save:
        head = f"# kill -9\n\n`python bench/kills.py --cycles {given.cycles}`, Python {platform.python_version()}.\n\n"
        RESULT.write_text(f"{head}{text}\n", encoding="utf-8")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
