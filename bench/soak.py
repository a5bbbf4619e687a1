"""Does the gateway hold on to anything? Upstreams that die and come back, clients that come and go, for minutes.

    python bench/soak.py --minutes 10            # 50 clients; a table over time, a verdict by slope
    python bench/soak.py --minutes 10 --save     # the table also to results/soak.md

`waygate serve` runs as its users run it, with five upstreams that misbehave (HTTP of both eras, HTTP+SSE,
stdio of both eras) and one plugin that counts tasks. Clients of both eras call, are asked and answer, are
asked and leave, hang up in mid-call, end their sessions or just vanish; upstreams are killed, say garbage,
send 100 MB, lose sessions. Resident memory, descriptors, tasks, threads and children are read every few
seconds. A few times all clients leave for a while: what is left then belongs to nobody. Exit 1 where one
of them grows, or where a client got what was not its own.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from itertools import combinations, count
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.integration.faults.clients import ERAS, Client, accept, words  # noqa: E402
from tests.support.ports import free_port  # noqa: E402

FAULTY = ROOT / "tests/integration/faults/misbehaving.py"
KEY = "wg_soak_4f6d1c0a9e8b7d6c5f4e3d2c1b0a99887766554433221100"
SEED = 20_260_728
SETTLED = 0.3
"""The part of the time at the beginning that no verdict looks at: pools fill, caches warm up."""
ALLOWED = {"MB": 0.04, "threads": 1.0, "children": 2.0}
"""Growth over the rest that still is flat: below 1 a part, else a number."""
IDLE = {"MB": 0.04, "descriptors": 10, "tasks": 6, "children": 2}
"""How much more there may be in the last break than in the first; below 1 a part, else a number.

Descriptors and tasks are judged by the breaks alone: most of them belong to calls under way, whose number
follows what else the machine does (4 to 50 calls a second, in one soak on a shared one).
"""
BREAKS = 4
BREAK_S = 75.0
"""How long nobody comes: an idle connection to an upstream is closed after 30 s, what idles for 20 s is ended,
questions and calls are over; and as long again, since each of them begins when the one before has ended."""

CENSUS = '''
"""Counts what only the process itself knows."""
import asyncio
from collections import Counter
from waygate_mcp import Toolbox

box = Toolbox()


@box.tool
async def tasks() -> str:
    """Count tasks by name."""
    names = Counter(task.get_name().partition("-")[0] for task in asyncio.all_tasks())
    return " ".join(f"{name}={number}" for name, number in names.most_common(12))
'''


@dataclass
class Sample:
    """What the gateway held at a moment, and what its clients had seen until then."""

    at_s: float
    megabytes: float
    descriptors: int
    tasks: int
    threads: int
    children: int
    calls: int
    failed: int

    def of(self, name: str) -> float:
        """Give a figure by its name."""
        return self.megabytes if name == "MB" else float(getattr(self, name))


class Upstreams:
    """The servers over HTTP: killed now and then, and started again."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self.folder = folder
        self.dice = dice
        self.kills = 0
        self.ways = {
            "httpmodern": ("http", "modern", free_port()),
            "httplegacy": ("http", "legacy", free_port()),
            "oldlegacy": ("sse", "legacy", free_port()),
        }
        self.running: dict[str, asyncio.subprocess.Process] = {}

    def sections(self) -> dict[str, object]:
        """Give all of them as the document has them."""
        limits = {"session_idle_s": 20, "sessions": 300, "failures": 20}
        found: dict[str, object] = {}
        for name, (transport, _, port) in self.ways.items():
            path = "/sse" if transport == "sse" else "/mcp"
            way = "sse" if transport == "sse" else "streamable"
            url = f"http://127.0.0.1:{port}{path}"
            found[name] = {"url": url, "http": way, "limits": limits}
        for era in ERAS:
            command = self.words("stdio", era, 0)
            found[f"stdio{era}"] = {"command": command[0], "args": command[1:], "limits": limits}
        return found

    def words(self, transport: str, era: str, port: int) -> list[str]:
        """Give the command of one."""
        return [sys.executable, "-I", "-S", str(FAULTY), transport, era, str(port), "/dev/null"]

    async def start(self, name: str) -> None:
        """Start one."""
        self.running[name] = await asyncio.create_subprocess_exec(
            *self.words(*self.ways[name]), stderr=subprocess.DEVNULL
        )

    async def come_and_go(self) -> None:
        """Start what ended; kill one from time to time."""
        for name in self.ways:
            await self.start(name)
        while True:
            await asyncio.sleep(self.dice.uniform(0.5, 2))
            for name, process in list(self.running.items()):
                if process.returncode is not None:
                    await self.start(name)
            if self.dice.random() < 0.25:
                self.kills += 1
                self.kill(self.dice.choice(list(self.running)))

    def kill(self, name: str) -> None:
        """Kill one."""
        with contextlib.suppress(ProcessLookupError):
            self.running[name].kill()

    async def stop(self) -> None:
        """Kill all."""
        for name, process in self.running.items():
            self.kill(name)
            await process.wait()


class Crowd:
    """Clients that come and go."""

    def __init__(self, port: int, size: int, dice: random.Random) -> None:
        self.port = port
        self.size = size
        self.dice = dice
        self.calls = 0
        self.said: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._tags = count(1)
        self.may_come = asyncio.Event()
        self.may_come.set()

    @property
    def failed(self) -> int:
        """The number of calls that had no result."""
        return sum(number for code, number in self.said.items() if code != "ok")

    async def be_there(self, names: list[str]) -> None:
        """Come and go until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self.size):
                group.create_task(self._come_and_go(names, random.Random(self.dice.random())))

    async def _come_and_go(self, names: list[str], dice: random.Random) -> None:
        while True:
            await self.may_come.wait()
            await asyncio.sleep(dice.uniform(0, 1))
            client = Client(self.port, KEY, dice.choice(ERAS))
            try:
                await client.open()
                for _ in range(dice.randint(1, 8)):
                    await self._do(client, dice.choice(names), dice)
                    await asyncio.sleep(dice.uniform(0.05, 0.6))
                if dice.random() < 0.5:
                    await client.close()
            except (OSError, EOFError, TimeoutError) as exc:  # no answer, or half of one
                self.said[type(exc).__name__] += 1
                self.wrong.append(f"{type(exc).__name__}: {exc}, after {client.last[:200]!r}")

    async def _do(self, client: Client, name: str, dice: random.Random) -> None:
        """One of the things a client does."""
        self.calls += 1
        tag = f"t{next(self._tags)}"
        number = dice.random()
        if number < 0.55:
            text = tag + "x" * dice.choice((0, 100, 50_000))
            final = await client.call(f"{name}__echo", text=text, seconds=dice.choice((0, 0, 0.1)))
            self._check(final, lambda: words(final) == text)
        elif number < 0.75:
            final = await client.call(f"{name}__ask", answer=accept(tag), tag=tag)
            # Its own answer; or nobody could be asked, or the answer took too long on a busy machine.
            fine = ('"name": "' + tag + '"', "-32601", '"tag": "' + tag + '", "state": "' + tag)
            self._check(final, lambda: any(text in words(final) for text in fine))
        elif number < 0.85:  # asked, and never answers
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await client.once(f"{name}__ask", {"tag": tag})
            self.said["left"] += 1
        elif number < 0.95:  # hangs up in mid-call
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(dice.uniform(0.01, 0.3)):
                    await client.once(
                        f"{name}__{dice.choice(('hang', 'event_flood'))}", {"tag": tag}
                    )
            self.said["left"] += 1
        else:
            tools = [
                "garbage",
                "cut",
                "half",
                "twice",
                "wrong_id",
                "unasked",
                "last_words",
                "forget",
            ]
            tool = dice.choice([*tools * 3, "kill", "hang", "huge"])
            final = await client.call(f"{name}__{tool}", tag=tag)
            self._check(final, lambda: True)

    def _check(self, final: dict[str, object], is_right: object) -> None:
        error = final.get("error")
        self.said["ok" if error is None else str(error["code"])] += 1  # type: ignore[index]
        if error is None and not is_right():  # type: ignore[operator]
            self.wrong.append(json.dumps(final)[:300])


class Gateway:
    """`waygate serve`, and what the system knows of it."""

    def __init__(self, folder: Path, upstreams: dict[str, object]) -> None:
        self.port = free_port()
        (folder / "census.py").write_text(CENSUS)
        limits = {
            "call_timeout_s": 3, "question_timeout_s": 3, "session_idle_s": 20, "stream_keep_s": 5, "drain_s": 10,
            "parked_per_principal": 10_000, "parked_per_upstream": 10_000, "parked_total": 10_000,
        }  # fmt: skip
        document = {
            "version": 1, "limits": limits, "upstreams": upstreams,
            "plugins": {"census": {"use": "./census.py"}},
        }  # fmt: skip
        (folder / "waygate.yaml").write_text(json.dumps(document))
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "WAYGATE_API_KEY": KEY, "WAYGATE_RATE_LIMIT": "1000000000",
            "WAYGATE_DATA_DIR": str(folder / "data"), "WAYGATE_LOG_DIR": "none",
        }  # fmt: skip
        command = [
            Path(sys.executable).with_name("waygate"),
            "serve",
            "-c",
            folder / "waygate.yaml",
        ]
        self.output = folder / "output.log"
        with self.output.open("wb") as sink:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port)],
                cwd=folder, env=environment, stdout=sink, stderr=sink,
            )  # fmt: skip
        self._proc = Path(f"/proc/{self.process.pid}")

    async def ready(self) -> None:
        """Wait until it listens."""
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.transport.abort()
                    return
                await asyncio.sleep(0.1)

    async def sample(self, began_s: float, crowd: Crowd) -> tuple[Sample, str]:
        """Read what it holds, and its tasks by name."""
        names = words(await Client(self.port, KEY, "modern").call("census__tasks"))
        status = dict(
            line.split(":\t", 1)
            for line in (self._proc / "status").read_text().splitlines()
            if ":\t" in line
        )
        return Sample(
            time.monotonic() - began_s,
            int(status["VmRSS"].split()[0]) / 1024,
            len(list((self._proc / "fd").iterdir())),
            sum(int(pair.rpartition("=")[2]) for pair in names.split()),
            int(status["Threads"]),
            len(children_of(self.process.pid)),
            crowd.calls,
            crowd.failed,
        ), names

    def kinds(self) -> str:
        """Tell what its descriptors are, so that one that is left over has a name."""
        found: Counter[str] = Counter()
        sockets = set()
        for descriptor in (self._proc / "fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                kind, _, inode = descriptor.readlink().name.partition(":")
                found[kind] += 1
                sockets.add(inode.strip("[]"))
        for line in (self._proc / "net/tcp").read_text().splitlines()[1:]:
            _, local, _, _, _, _, _, _, _, inode, *_ = line.split()
            if inode in sockets:
                found[
                    "from clients" if local.endswith(f":{self.port:04X}") else "to upstreams"
                ] += 1
        return ", ".join(f"{kind} × {number}" for kind, number in found.most_common())

    def stop(self) -> int:
        """Stop it, and give its exit code: 10 s for calls under way, 20 s for closing."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(10)


def children_of(parent: int) -> list[int]:
    """The live processes below one, however deep."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                after = (entry / "stat").read_text().rpartition(")")[2].split()
                if after[0] != "Z":
                    parents[int(entry.name)] = int(after[1])
    found = [pid for pid, above in parents.items() if above == parent]
    return [*found, *(one for pid in found for one in children_of(pid))] if found else []


def slope(samples: list[Sample], name: str) -> float:
    """Growth per second: the median of the slopes between all pairs, which outliers do not move."""
    pairs = [(b.of(name) - a.of(name)) / (b.at_s - a.at_s) for a, b in combinations(samples, 2)]
    return median(pairs)


def judge(samples: list[Sample], breaks: list[Sample]) -> tuple[list[str], bool]:
    """Give the verdict, one line for each figure: while clients came and went, and in the breaks."""
    until_s = samples[-1].at_s
    looked = [one for one in samples if one.at_s > until_s * SETTLED]
    lines, is_flat = [], True
    for name, allowed in ALLOWED.items():
        middle = median(one.of(name) for one in looked)
        growth = slope(looked, name) * (looked[-1].at_s - looked[0].at_s)
        limit = allowed * middle if allowed < 1 else allowed
        flat = growth <= limit
        is_flat = is_flat and flat
        verdict = "flat" if flat else "GROWS"
        lines.append(f"| {name} | {middle:.1f} | {growth:+.2f} | {limit:.1f} | {verdict} |")
    for name, allowed in IDLE.items():
        first = breaks[0].of(name)
        more = breaks[-1].of(name) - first
        most = allowed * first if allowed < 1 else allowed
        is_flat = is_flat and more <= most
        verdict = "flat" if more <= most else "GROWS"
        lines.append(f"| {name}, idle | {first:.1f} | {more:+.2f} | {most:.1f} | {verdict} |")
    return lines, is_flat


COLUMNS = "| {:>5} | {:>6} | {:>11} | {:>5} | {:>7} | {:>8} | {:>6} | {:>6} |"


def row(sample: Sample) -> str:
    return COLUMNS.format(
        f"{sample.at_s:.0f} s", f"{sample.megabytes:.1f}", sample.descriptors, sample.tasks,
        sample.threads, sample.children, sample.calls, sample.failed,
    )  # fmt: skip


async def soak(minutes: float, size: int, every_s: float, folder: Path) -> tuple[list[str], bool]:
    """Run it, and give the report."""
    dice = random.Random(SEED)
    upstreams = Upstreams(folder, dice)
    gateway = Gateway(folder, upstreams.sections())
    crowd = Crowd(gateway.port, size, dice)
    samples: list[Sample] = []
    breaks: list[Sample] = []
    head = COLUMNS.format(
        "time", "MB", "descriptors", "tasks", "threads", "children", "calls", "errors"
    )
    report = [head, "|" + " ---: |" * 8]
    print(*report, sep="\n", flush=True)
    names, kinds = "", list[str]()
    try:
        await gateway.ready()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(upstreams.come_and_go())]
            await asyncio.sleep(5)
            began_s = time.monotonic()
            before, names = await gateway.sample(began_s, crowd)
            report.append(row(before))
            print(report[-1], flush=True)
            tasks.append(group.create_task(crowd.be_there(list(upstreams.sections()))))
            for number in range(1, BREAKS + 1):
                while time.monotonic() - began_s < minutes * 60 * number / BREAKS:
                    await asyncio.sleep(every_s)
                    sample, names = await gateway.sample(began_s, crowd)
                    samples.append(sample)
                    report.append(row(sample))
                    print(report[-1], flush=True)
                crowd.may_come.clear()
                await asyncio.sleep(BREAK_S)
                sample, names = await gateway.sample(began_s, crowd)
                breaks.append(sample)
                report.append(row(sample))
                print(report[-1], flush=True)
                kinds.append(gateway.kinds())
                crowd.may_come.set()
            for task in tasks:
                task.cancel()
    finally:
        code = await asyncio.to_thread(gateway.stop)
        await upstreams.stop()
    lines, is_flat = judge(samples, breaks)
    said = ", ".join(f"{code} × {number}" for code, number in crowd.said.most_common())
    report += [
        "", f"The first line is before any client came, {BREAKS} are {BREAK_S:.0f} s after all had left.", "",
        "| figure | median | growth | allowed | verdict |", "| --- | ---: | ---: | ---: | --- |", *lines, "",
        f"{crowd.calls} calls, {upstreams.kills} upstreams killed from outside; told: {said}.",
        f"Tasks at the end: {names}.",
        *(f"Descriptors in break {number}: {kind}." for number, kind in enumerate(kinds, 1)),
        f"Answers that were not the caller's own: {len(crowd.wrong)}. The gateway ended with {code}.",
    ]  # fmt: skip
    print(*report[-len(lines) - 8 - BREAKS :], *crowd.wrong[:5], sep="\n")
    if code or crowd.wrong:
        print(gateway.output.read_text(errors="replace")[-3000:])
    return report, is_flat and not crowd.wrong and code == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--every", type=float, default=10, help="seconds between two readings")
    parser.add_argument("--save", action="store_true", help="write results/soak.md")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        report, is_flat = asyncio.run(soak(given.minutes, given.clients, given.every, Path(folder)))
    if given.save:
        target = Path(__file__).with_name("results") / "soak.md"
        target.parent.mkdir(exist_ok=True)
        command = (
            f"python bench/soak.py --minutes {given.minutes:g} --clients {given.clients} --save"
        )
        title = (
            f"# Soak\n\n`{command}`, Python {platform.python_version()}, {platform.system()}.\n\n"
        )
        target.write_text(title + "\n".join(report) + "\n")
    print("flat" if is_flat else "NOT FLAT")
    return 0 if is_flat else 1


if __name__ == "__main__":
    sys.exit(main())
