"""Fuzzing by hand: `python -m tests.fuzz --seconds 3600 --target app`. See `scripts/fuzz.sh`."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz.application import PATIENCE_S, RUNNING
from tests.fuzz.engine import Finding, run
from tests.fuzz.targets import TARGETS

ROUND_S = 30.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fuzz.sh", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for how long, 60 by default")
    parser.add_argument("--target", choices=[*TARGETS, *RUNNING], help="one target instead of all")
    parser.add_argument("--seed", type=int, help="repeat a run; printed by each")
    return parser.parse_args()


def main() -> None:
    """Run until the time is over or something breaks."""
    arguments = _arguments()
    seed = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    names = [arguments.target] if arguments.target else [*TARGETS, *RUNNING]
    # Hours are spent in rounds, so that every target gets its turn and new seeds.
    left, number = arguments.seconds, 0
    try:
        while left > 0:
            share = min(left, ROUND_S * len(names)) / len(names)
            for name in names:
                _run_one(name, share, seed + number)
            left -= share * len(names)
            number += 1
    except Finding as finding:
        cause = finding.__cause__
        sys.exit(f"FOUND {finding}\n{type(cause).__name__}: {cause}")


def _run_one(name: str, seconds: float, seed: int) -> None:
    if name not in RUNNING:
        print(run(name, TARGETS[name], seconds, seed), flush=True)
        return
    with tempfile.TemporaryDirectory() as folder, RUNNING[name](Path(folder)) as application:
        report = run(name, application, seconds, seed, patience_s=4 * PATIENCE_S)
        application.check_health()
        report.notes = application.statuses
    print(report, flush=True)


if __name__ == "__main__":
    main()
