"""Where a call's time goes: py-spy on the serving process, under the bench's own load.

Writes a flame graph (SVG, for a browser) and a table of the functions with most time of their own
(text) for each scenario into `results/`. py-spy needs to look into the process: run as root, or allow
ptrace; where it may not attach, the server is started under it (`--under`), which needs no
permission.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import settings
from calls import WrongAnswerError
from flame_svg import Stack, draw
from load import fire
from run import LOAD_CORE, PLANS, RESULTS, SERVER_CORE, Plan, gateway_of, prepare
from servers import HERE, Running, Spec

RATE_HZ = 400
TOP = 40
WARM_S = 2
WAITING = {
    "_worker (concurrent/futures/thread.py)",
    "wait (threading.py)",
    "Condition.wait (threading.py)",
    "Event.wait (threading.py)",
}
"""Where a thread stands that has nothing to do; py-spy cannot always tell."""
FRAME = re.compile(r"^(?P<function>.*) \((?P<file>[^()]*?)(?::(?P<line>\d+))?\)$")


def find_py_spy() -> str:
    """The path of py-spy: in bench/.venv, in the project's, or on PATH."""
    for folder in (HERE / ".venv/bin", settings.PROJECT / ".venv/bin", Path(sys.executable).parent):
        if (folder / "py-spy").exists():
            return str(folder / "py-spy")
    found = shutil.which("py-spy")
    if not found:
        raise WrongAnswerError("py-spy is missing: python bench/run.py --install")
    return found


def record(py_spy: str, pid: int, target: Path, seconds: int) -> list[str]:
    """The command that records one process."""
    command = [py_spy, "record", "--pid", str(pid), "--format", "raw", "--output", str(target)]
    return [*command, "--duration", str(seconds), "--rate", str(RATE_HZ)]


def under(spec: Spec, py_spy: str, target: Path) -> Spec:
    """The same server, started by py-spy."""
    command = (py_spy, "record", "--format", "raw", "--output", str(target), "--rate", str(RATE_HZ))
    return replace(spec, command=(*command, "--", *spec.command))


def profile(spec: Spec, plan: Plan, seconds: int, *, target: Path, inside: bool) -> None:
    """Load the server and record its stacks meanwhile.

    Raises:
        WrongAnswerError: a wrong answer, or no recording.
    """
    py_spy = find_py_spy()
    if inside:
        spec = under(spec, py_spy, target)
    with Running(spec, SERVER_CORE) as server:
        one = prepare(server, plan, 64)

        def load(number: int, length_s: int) -> None:
            fire(
                server.target,
                one.requests,
                one.answer,
                number=number,
                seconds=length_s,
                core=LOAD_CORE,
            )

        load(1, WARM_S)
        if inside:
            load(2, seconds)
        else:
            watcher = subprocess.Popen(
                record(py_spy, busiest(server), target, seconds),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            load(2, seconds + 2)
            output, _ = watcher.communicate(timeout=60)
            if watcher.returncode:
                raise WrongAnswerError(f"py-spy could not attach (try --under): {output[-500:]}")
    if not target.exists():
        raise WrongAnswerError("py-spy wrote nothing")


def spec_of(name: str, who: settings.Interpreters, plan: Plan) -> Spec:
    """How the server of this name is started for a scenario."""
    if name == "waygate":
        return gateway_of(plan, who)
    known = [settings.floor(who), *settings.peers(who)]
    return next(spec for spec in known if spec.name == name)


def busiest(server: Running) -> int:
    """The process of the tree that serves: the one that has used most CPU."""

    def used(pid: int) -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    return max(server.pids(), key=used)


def short(frame: str) -> str:
    """A frame without the folders of this machine, as `function (package/module.py)`."""
    match = FRAME.match(frame)
    if not match:
        return frame
    file = match["file"]
    for mark in ("site-packages/", "/src/", "/lib/python3"):
        if mark in file:
            file = file.rpartition(mark)[2]
    file = file if not file.startswith("/") else Path(file).name
    return f"{match['function']} ({file})"


def read_stacks(raw: Path) -> dict[Stack, int]:
    """The recorded stacks, without those of threads that only wait for work."""
    stacks: Counter[Stack] = Counter()
    for line in raw.read_text().splitlines():
        text, _, count = line.rpartition(" ")
        frames = tuple(short(frame) for frame in text.split(";"))
        if frames[-1] not in WAITING:
            stacks[frames] += int(count)
    return dict(stacks)


def hottest(stacks: dict[Stack, int]) -> str:
    """The table: time of their own and with all they call, in per cent of samples."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for frames, count in stacks.items():
        own[frames[-1]] += count
        for frame in set(frames):
            total[frame] += count
    samples = sum(stacks.values())
    lines = [f"{samples} samples at {RATE_HZ} Hz", "", " own %  total %  function"]
    lines += [
        f"{hits / samples:6.1%}  {total[name] / samples:7.1%}  {name}"
        for name, hits in own.most_common(TOP)
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    settings.add_interpreter_options(parser)
    parser.add_argument(
        "scenarios", nargs="*", default=["modern", "legacy"], help=f"of: {', '.join(PLANS)}"
    )
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument(
        "--server", default="waygate", choices=["waygate", "floor", "sdk", "fastmcp"]
    )
    parser.add_argument("--under", action="store_true", help="start the server under py-spy")
    options = parser.parse_args()
    who = settings.interpreters(options)
    os.sched_setaffinity(0, {LOAD_CORE})
    mark = "" if options.server == "waygate" else f"{options.server}-"
    RESULTS.mkdir(exist_ok=True)
    try:
        for name in options.scenarios:
            plan = PLANS[name]
            spec = spec_of(options.server, who, plan)
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                raw = Path(folder) / "stacks.txt"
                profile(spec, plan, options.seconds, target=raw, inside=options.under)
                stacks = read_stacks(raw)
            title = f"{options.server}, {plan.title}"
            (RESULTS / f"flame-{mark}{name}.svg").write_text(draw(stacks, title))
            text = f"{title}: {hottest(stacks)}"
            (RESULTS / f"flame-{mark}{name}.txt").write_text(text)
            print(text)
    except WrongAnswerError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
