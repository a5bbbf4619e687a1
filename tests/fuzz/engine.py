"""Runs targets over mutated inputs for a time, and keeps what breaks them.

Each input may take a time that grows with its size only; more is a finding like any exception. A
finding is written to `tests/fuzz/crashes/<target>-<digest>`; a file there is run by every later test.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.mutate import mutate
from tests.fuzz.targets import TARGETS, Target

FOLDER = Path(__file__).parent
CORPUS = FOLDER / "corpus"
CRASHES = FOLDER / "crashes"

GROWN_MAX = 400
_BASE_S, _PER_BYTE_S = 0.25, 20e-6
_PEAK_BASE_BYTES, _PEAK_PER_BYTE = 2_000_000, 400
_MEASURE_EVERY = 500

_STARTS = {
    "post": ("*.http",),
    "app": ("*.http",),
    "channel": ("*.http",),
    "line": ("*.http",),
    "json": ("*.json", "*.http"),
    "lines": ("lines.txt", "events.txt"),
    "events": ("events.txt", "lines.txt"),
    "seal": ("sealed.txt",),
    "headers": ("arguments*.txt", "schema.json", "definition.json"),
    "downgrade": ("result-*.json", "definition.json", "form.json"),
    "uris": ("template.txt",),
}
_BODY_ONLY = {"line", "json"}


class Finding(Exception):  # noqa: N818 - what the fuzzer looks for
    """An input that broke a target. The input lies in `path`."""

    def __init__(self, target: str, path: Path, seed: int) -> None:
        self.path = path
        super().__init__(f"{target}: seed {seed}, input in {path}")


@dataclass
class Report:
    """What a run did with one target."""

    target: str
    seed: int
    inputs: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    notes: dict[int, int] = field(default_factory=dict)

    def __str__(self) -> str:
        rate = self.inputs / self.seconds if self.seconds else 0
        more = f", statuses {dict(sorted(self.notes.items()))}" if self.notes else ""
        return (
            f"fuzz {self.target}: {self.inputs} inputs in {self.seconds:.1f} s,"
            f" {rate:.0f} a second, slowest {self.slowest_s * 1000:.1f} ms, seed {self.seed}{more}"
        )


def starts(target: str) -> list[bytes]:
    """The corpus of a target, valid inputs all."""
    paths = [path for pattern in _STARTS[target] for path in sorted(CORPUS.glob(pattern))]
    found = [path.read_bytes() for path in paths]
    if target in _BODY_ONLY:
        found = [data.rpartition(b"\n\n")[2] for data in found]
    return [data for data in dict.fromkeys(found) if data]


def crashes(target: str) -> Iterator[Path]:
    """The inputs that once broke a target."""
    yield from sorted(CRASHES.glob(f"{target}-*"))


def check(target: Target, data: bytes) -> float:
    """Run one input, within the time its size allows; gives the seconds it took."""
    began = time.perf_counter()
    target(data)
    took = time.perf_counter() - began
    limit = _BASE_S + _PER_BYTE_S * len(data)
    if took > limit:
        # Another process may have had the processor: only what is slow twice is slow.
        began = time.perf_counter()
        target(data)
        took = min(took, time.perf_counter() - began)
    assert took <= limit, f"{took:.3f} s for {len(data)} bytes"
    return took


def check_memory(target: Target, data: bytes) -> None:
    """Run one input and bound what it holds at its worst by its size.

    Run again where it was too much: a table of the process that happens to grow meanwhile is not the input's doing.
    """
    limit = _PEAK_BASE_BYTES + _PEAK_PER_BYTE * len(data)
    peak = _peak(target, data)
    if peak > limit:
        peak = min(_peak(target, data) for _ in range(2))
    assert peak <= limit, f"{peak} bytes of memory for {len(data)} bytes"


def _peak(target: Target, data: bytes) -> int:
    tracemalloc.start()
    try:
        target(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def run(
    name: str,
    target: Target,
    seconds: float,
    seed: int,
    *,
    patience_s: float | None = None,
    keep: Path = CRASHES,
) -> Report:
    """Feed a target mutated inputs for some seconds.

    `patience_s` replaces the time limit for targets that wait by design, and leaves memory out.

    Raises:
        Finding: an input broke it; the cause is chained.
    """
    rng = random.Random(f"{seed} {name}")
    corpus = starts(name)
    grown = list(corpus)
    report = Report(name, seed)
    began = time.perf_counter()
    while (now := time.perf_counter()) - began < seconds:
        data = corpus[report.inputs] if report.inputs < len(corpus) else _next(rng, grown)
        with _keeping(name, data, seed, keep):
            if patience_s is None:
                took = check(target, data)
                if report.inputs % _MEASURE_EVERY == 0:
                    check_memory(target, data)
            else:
                target(data)
                took = time.perf_counter() - now
                assert took < patience_s, f"{took:.1f} s"
        report.inputs += 1
        report.slowest_s = max(report.slowest_s, took)
        if rng.random() < 0.01:
            # Some mutated inputs become starts themselves, so that a run goes further than one step.
            grown.append(data)
            if len(grown) > len(corpus) + GROWN_MAX:
                del grown[len(corpus)]
    report.seconds = time.perf_counter() - began
    return report


def _next(rng: random.Random, inputs: Sequence[bytes]) -> bytes:
    return mutate(rng, rng.choice(inputs), inputs)


@contextlib.contextmanager
def _keeping(name: str, data: bytes, seed: int, folder: Path) -> Iterator[None]:
    """Write the input down if it breaks something."""
    try:
        yield
    except Exception as exc:
        folder.mkdir(exist_ok=True)
        data = getattr(exc, "data", data)  # found later than it was given
        path = folder / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
        path.write_bytes(data)
        raise Finding(name, path, seed) from exc


def run_all(seconds: float, seed: int, say: Callable[[str], object]) -> list[Report]:
    """Give every pure target its share of the time."""
    reports = []
    for name, target in TARGETS.items():
        reports.append(run(name, target, seconds / len(TARGETS), seed))
        say(str(reports[-1]))
    return reports
