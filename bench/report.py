"""From rounds to figures: medians, ratios, the table on the terminal, JSON and Markdown."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from load import Round

COLUMNS = (
    "server",
    "calls/s",
    "p50 ms",
    "p99 ms",
    "CPU µs/call",
    "RSS idle MB",
    "RSS after MB",
    "core",
    "of floor",
    "by CPU",
    "× sdk",
    "× fastmcp",
)


@dataclass(frozen=True)
class Measured:
    """One round of one server, with what the machine did meanwhile."""

    round: Round
    cpu_s: float
    core_busy_s: float
    load_average: float

    @property
    def cpu_us(self) -> float:
        """CPU time of the server per call, in microseconds."""
        return self.cpu_s / self.round.requests * 1e6

    @property
    def core_share(self) -> float:
        """How much of its core the server had: below 0.95, neighbours or the load generator held it up."""
        return self.cpu_s / self.round.duration_s


@dataclass
class Entry:
    """One server in one scenario."""

    server: str
    rounds: list[Measured]
    rss_idle_mb: float
    rss_after_mb: float = 0.0

    def figures(self) -> dict[str, float]:
        """Medians over the rounds."""
        return {
            "calls_per_s": median(m.round.per_second for m in self.rounds),
            "p50_ms": median(m.round.p50_us for m in self.rounds) / 1000,
            "p99_ms": median(m.round.p99_us for m in self.rounds) / 1000,
            "cpu_us_per_call": median(m.cpu_us for m in self.rounds),
            "core_share": median(m.core_share for m in self.rounds),
            "wrk_core_share": median(m.round.wrk_cpu_s / m.round.duration_s for m in self.rounds),
            "rss_idle_mb": self.rss_idle_mb,
            "rss_after_mb": self.rss_after_mb,
        }


@dataclass
class Scenario:
    """One kind of load, all servers."""

    name: str
    title: str
    entries: list[Entry]
    answer_bytes: dict[str, int]
    notes: list[str] = field(default_factory=list)

    def cpu_ratio(self, server: str) -> float | None:
        """The floor's CPU time per call over this server's, median over the rounds."""
        mine, floors = self._rounds(server), self._rounds("floor")
        if not mine or not floors:
            return None
        return median(f.cpu_us / m.cpu_us for m, f in zip(mine, floors, strict=True))

    def ratio(self, server: str, other: str) -> float | None:
        """Median over the rounds of throughput against the other server's in the same round."""
        mine, theirs = self._rounds(server), self._rounds(other)
        if not mine or not theirs:
            return None
        return median(
            m.round.per_second / t.round.per_second for m, t in zip(mine, theirs, strict=True)
        )

    def _rounds(self, server: str) -> list[Measured]:
        return next((entry.rounds for entry in self.entries if entry.server == server), [])

    def row(self, entry: Entry) -> list[str]:
        """The entry's line of the table."""
        f = entry.figures()
        by_cpu = self.cpu_ratio(entry.server)
        ratios = [self.ratio(entry.server, other) for other in ("floor", "sdk", "fastmcp")]
        return [
            entry.server,
            f"{f['calls_per_s']:,.0f}",
            f"{f['p50_ms']:.2f}",
            f"{f['p99_ms']:.2f}",
            f"{f['cpu_us_per_call']:.1f}",
            f"{f['rss_idle_mb']:.0f}",
            f"{f['rss_after_mb']:.0f}",
            f"{f['core_share']:.0%}",
            f"{ratios[0]:.0%}" if ratios[0] else "–",
            f"{by_cpu:.0%}" if by_cpu else "–",
            f"{ratios[1]:.1f}" if ratios[1] else "–",
            f"{ratios[2]:.1f}" if ratios[2] else "–",
        ]

    def warnings(self) -> list[str]:
        """What a reader has to know before believing the figures."""
        found = []
        for entry in self.entries:
            f = entry.figures()
            if f["wrk_core_share"] > 0.9:
                found.append(
                    f"{entry.server}: wrk itself was the limit ({f['wrk_core_share']:.0%})"
                )
            if f["core_share"] < 0.9:
                found.append(
                    f"{entry.server}: had {f['core_share']:.0%} of its core; the throughput is too low"
                )
        return found


def table(scenario: Scenario) -> str:
    """The scenario for a terminal."""
    rows = [list(COLUMNS), *(scenario.row(entry) for entry in scenario.entries)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = [scenario.title]
    notes = [f"  ! {text}" for text in scenario.warnings()]
    notes += [f"  {text}" for text in scenario.notes]
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
        ]
        lines.append("  ".join(cells))
    return "\n".join([*lines, *notes])


def as_json(scenarios: list[Scenario], about: dict[str, object]) -> str:
    """Everything, single rounds included."""
    body: dict[str, object] = {**about, "scenarios": []}
    body["scenarios"] = [
        {
            "name": s.name,
            "title": s.title,
            "answer_bytes": s.answer_bytes,
            "warnings": s.warnings(),
            "notes": s.notes,
            "servers": {
                e.server: {
                    **{k: round(v, 3) for k, v in e.figures().items()},
                    "of_floor": s.ratio(e.server, "floor"),
                    "of_floor_by_cpu": s.cpu_ratio(e.server),
                    "times_sdk": s.ratio(e.server, "sdk"),
                    "times_fastmcp": s.ratio(e.server, "fastmcp"),
                    "rounds": [asdict(m) for m in e.rounds],
                }
                for e in s.entries
            },
        }
        for s in scenarios
    ]
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"


def as_markdown(scenarios: list[Scenario], about: dict[str, object]) -> str:
    """The tables as committed, with the command that made them."""
    lines = [
        "# Results of the bench",
        "",
        f"Made by `{about['command']}`. How to read it: ../README.md.",
        "",
    ]
    machine = about["machine"]
    assert isinstance(machine, dict)
    lines += [f"- {name}: {machine[name]}" for name in ("cpu", "cores", "kernel", "commit")]
    for name in ("ours", "peers"):
        found = machine[name]
        packages = ", ".join(f"{k} {v}" for k, v in found["packages"].items())
        lines.append(f"- {name}: Python {found['python']}; {packages}")
    lines.append(f"- {about['rounds']} rounds of {about['round_s']} s, interleaved")
    lines.append(f"- load average at start: {about['load_average']}")
    for scenario in scenarios:
        lines += ["", f"## {scenario.title}", ""]
        sizes = ", ".join(f"{k} {v:,}" for k, v in scenario.answer_bytes.items())
        lines += [f"Bytes of one answer: {sizes}.", ""]
        lines.append("| " + " | ".join(COLUMNS) + " |")
        lines.append("| --- |" + " ---: |" * (len(COLUMNS) - 1))
        lines += ["| " + " | ".join(scenario.row(entry)) + " |" for entry in scenario.entries]
        lines += [""] + [f"- {text}." for text in (*scenario.warnings(), *scenario.notes)]
    return "\n".join(lines).rstrip() + "\n"


def save(scenarios: list[Scenario], about: dict[str, object], folder: Path, name: str) -> None:
    """Write `name.json` and `name.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(as_json(scenarios, about))
    (folder / f"{name}.md").write_text(as_markdown(scenarios, about))
