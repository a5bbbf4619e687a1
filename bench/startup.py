"""How long a server takes from nothing to its first right answer, and what it then weighs.

Time runs from the start of the process to the first successful `tools/call` of a new client
(2026-07-28), tried every few milliseconds; memory is the resident size of the process tree after
five idle seconds. Servers take turns, and nothing is pinned: this is what a person sees who types
the command.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import settings
from calls import WrongAnswerError
from servers import HERE, Running, Spec

IDLE_S = 5.0


@dataclass(frozen=True)
class Start:
    """One start: wall and CPU seconds to the first answer, MiB when idle."""

    first_answer_s: float
    cpu_s: float
    rss_idle_mb: float


def once(spec: Spec) -> Start:
    """Start one server and stop it again."""
    with Running(spec, core=None) as server:
        seconds = server.wait_until_right()
        cpu_s = server.cpu_s()
        time.sleep(IDLE_S)
        return Start(seconds, cpu_s, server.rss_mb())


def markdown(about: dict[str, object], seen: dict[str, list[Start]]) -> str:
    """The table."""
    lines = [f"Made by `{about['command']}`; load average at start {about['load_average']}.", ""]
    lines += ["| server | first answer s | slowest s | CPU s | RSS idle MB | runs |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    for name, runs in seen.items():
        slowest = max(run.first_answer_s for run in runs)
        lines.append(
            f"| {name} | {median(run.first_answer_s for run in runs):.2f} | {slowest:.2f} "
            f"| {median(run.cpu_s for run in runs):.2f} "
            f"| {median(run.rss_idle_mb for run in runs):.0f} | {len(runs)} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    settings.add_interpreter_options(parser)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", action="append", default=[], help="only this server (repeatable)")
    parser.add_argument("--save", action="store_true", help="write results/startup.md and .json")
    options = parser.parse_args()
    who = settings.interpreters(options)
    specs = [settings.waygate(who), settings.floor(who), *settings.peers(who)]
    about: dict[str, object] = {
        "command": "python bench/startup.py " + " ".join(sys.argv[1:]),
        "machine": settings.describe(who),
        "load_average": ", ".join(f"{n:.2f}" for n in os.getloadavg()),
    }
    seen: dict[str, list[Start]] = {}
    try:
        for _ in range(options.runs):
            for spec in specs:
                if not options.only or spec.name in options.only:
                    seen.setdefault(spec.name, []).append(once(spec))
    except WrongAnswerError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(markdown(about, seen))
    if options.save:
        save(HERE / "results", about, seen)
    return 0


def save(folder: Path, about: dict[str, object], seen: dict[str, list[Start]]) -> None:
    """Write both files."""
    folder.mkdir(exist_ok=True)
    runs = {name: [asdict(start) for start in starts] for name, starts in seen.items()}
    (folder / "startup.json").write_text(json.dumps({**about, "servers": runs}, indent=1) + "\n")
    (folder / "startup.md").write_text("# Start and idle memory\n\n" + markdown(about, seen))


if __name__ == "__main__":
    sys.exit(main())
