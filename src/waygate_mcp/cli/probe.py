"""Upstreams tried in this process, as the gateway would open them.

Knows how one is opened once, asked for its lists and closed, and how the outcome is shown. What a program writes to
standard error meanwhile is kept: it is the best hint when one does not start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from waygate_mcp.cli.document_desk import secret_sources
from waygate_mcp.cli.output import note, say
from waygate_mcp.config.references import names_in
from waygate_mcp.config.settings import Settings
from waygate_mcp.config.upstream import UpstreamLimitsSection, UpstreamSection
from waygate_mcp.errors import ConfigError, WaygateError
from waygate_mcp.model.catalog import Kind, Listing, Viewer
from waygate_mcp.model.event import Event
from waygate_mcp.model.principal import LOCAL
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.versions import MODERN
from waygate_mcp.runtime.secrets import fetch_for_command
from waygate_mcp.runtime.tasks import TaskSupervisor
from waygate_mcp.runtime.upstreams import UpstreamHouse, resolve_upstreams
from waygate_mcp.telemetry.redaction import Redactor
from waygate_mcp.upstreams.status import Status
from waygate_mcp.upstreams.steady import SteadyUpstream

__all__ = ["Probe", "mend_of", "print_probe", "probe_as_json", "probe_upstreams", "progress"]

_AT_ONCE = 8
_SPARE_S = 5.0
_KEPT_LINES = 20
_PACKAGE = "waygate_mcp"
_MENDS = (
    ("wants credentials", "waygate add {name} URL --secret-header Authorization --force"),
    ("at a private address", "`network: private` below {name}, if it is meant"),
    ("at a loopback address", "`network: private` below {name}, if it is meant"),
    ("is not resolved", "look at the name in `url`, and at this machine's DNS"),
    ("is not reached", "is it running, and is the port in `url` right?"),
    ("its process ended", "run its command by hand in a terminal"),
)
"""Part of an error's text → what to do; the first that fits counts."""
_CAPABILITIES = ClientCapabilities.parse(
    {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}, MODERN
)


@dataclass(slots=True)
class Probe:
    """How one upstream is. `took_s` is from the first byte to all lists read; `lines` are the last of its log."""

    name: str
    status: Status | None = None
    counts: dict[str, int] = field(default_factory=dict)
    took_s: float = 0.0
    problem: str = ""
    lines: tuple[str, ...] = ()

    @property
    def is_well(self) -> bool:
        """Whether it was opened and gave its lists."""
        return not self.problem


class _Lines(logging.Handler):
    """Keeps the last lines that children wrote, by upstream."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: dict[str, deque[str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        arguments = record.args
        if not isinstance(arguments, tuple) or not arguments or record.levelno != logging.INFO:
            return
        if record.name.endswith("upstreams.process"):
            name = str(arguments[0])
            kept = self._lines.setdefault(name, deque(maxlen=_KEPT_LINES))
            kept.append(record.getMessage().removeprefix(f"{name}: "))

    def of(self, name: str, redactor: Redactor) -> tuple[str, ...]:
        """Give the last lines of one, without secrets."""
        return tuple(redactor.text(line) for line in self._lines.get(name, ()))


def probe_upstreams(
    sections: Mapping[str, UpstreamSection],
    folder: Path,
    settings: Settings,
    on_done: Callable[[Probe], None] | None = None,
) -> list[Probe]:
    """Open each upstream once, read its lists, close it; `on_done` hears of each as it is done.

    Bounded by each one's own limits of time. Never raises for what an upstream does.
    """
    with _listening() as lines:
        return asyncio.run(_probe_all(sections, folder, settings, lines, on_done))


def print_probe(probe: Probe) -> None:
    """Say in one line how an upstream is, and below it what to know when it is not well."""
    status = probe.status
    if status is None or not probe.is_well:
        say(f"{probe.name}: not well: {probe.problem}")
        for line in probe.lines:
            say(f"    it wrote: {line}")
        if mend := mend_of(probe.problem, probe.name):
            say(f"    mend: {mend}")
        return
    counted = ", ".join(f"{count} {kind}" for kind, count in probe.counts.items())
    latency = "" if status.latency_s is None else f"latency {status.latency_s * 1000:.0f} ms · "
    eras = " and ".join(status.eras) or "era unknown"
    say(
        f"{probe.name}: well · {status.transport} · {eras} ({status.revision}) · {counted} · "
        f"{latency}opened and listed in {probe.took_s:.2f} s"
    )
    if status.sandbox:
        say(f"    sandbox: {status.sandbox}")


def mend_of(problem: str, name: str) -> str:
    """Give what a person can do about a problem, empty where it says so itself."""
    return next((mend.format(name=name) for part, mend in _MENDS if part in problem), "")


def probe_as_json(probe: Probe) -> dict[str, Any]:
    """Give a probe as plain values."""
    status = probe.status
    return {
        "name": probe.name,
        "well": probe.is_well,
        "transport": None if status is None else status.transport,
        "eras": [] if status is None else list(status.eras),
        "revision": None if status is None else status.revision or None,
        "counts": probe.counts,
        "took_s": round(probe.took_s, 4),
        "latency_s": None if status is None else status.latency_s,
        "sandbox": None if status is None else status.sandbox or None,
        "problem": probe.problem or None,
        "mend": mend_of(probe.problem, probe.name) or None,
        "log": list(probe.lines),
    }


def progress(total: int) -> Callable[[Probe], None] | None:
    """Give what says on a terminal how far it is, None in a pipe."""
    if total < 2 or not sys.stderr.isatty():
        return None
    done: list[str] = []

    def on_done(probe: Probe) -> None:
        done.append(probe.name)
        note(f"{len(done)} of {total}: {probe.name}")

    return on_done


@contextlib.contextmanager
def _listening() -> Iterator[_Lines]:
    """Keep what upstreams log to ourselves: what matters of it is in the outcome."""
    logger, lines = logging.getLogger(_PACKAGE), _Lines()
    level, propagates = logger.level, logger.propagate
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.removeHandler(lines)
        logger.setLevel(level)
        logger.propagate = propagates


async def _probe_all(
    sections: Mapping[str, UpstreamSection],
    folder: Path,
    settings: Settings,
    lines: _Lines,
    on_done: Callable[[Probe], None] | None,
) -> list[Probe]:
    turn = asyncio.Semaphore(_AT_ONCE)
    # No run-files: those of a running gateway are none of our business, and ours end with us.
    async with (
        TaskSupervisor() as supervisor,
        UpstreamHouse(supervisor, None, (settings.data_dir,)) as house,
    ):

        async def one(name: str, section: UpstreamSection) -> Probe:
            async with turn:
                redactor = Redactor()
                probe = await _probe_one(name, section, folder, settings, house, redactor)
                if not probe.is_well:
                    probe.problem = redactor.text(probe.problem)
                    probe.lines = lines.of(name, redactor)
            if on_done is not None:
                on_done(probe)
            return probe

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(*item)) for item in sections.items()]
        return [task.result() for task in tasks]


async def _probe_one(
    name: str,
    section: UpstreamSection,
    folder: Path,
    settings: Settings,
    house: UpstreamHouse,
    redactor: Redactor,
) -> Probe:
    probe = Probe(name)
    began_s = time.monotonic()
    try:
        wanted = [secret for secret, _ in names_in(section.referring)]
        sources = secret_sources(settings)
        known = await fetch_for_command(settings, wanted, sources, remember=redactor.remember)
        configs = resolve_upstreams(
            {name: section},
            folder,
            data_dir=settings.data_dir,
            on_secret=redactor.remember,
            known=known,
        )
        async with house.use(configs, _hear_nothing) as (provider,):
            await _look_at(provider, probe, section.limits)
    except ConfigError as exc:
        probe.problem = "; ".join(map(str, exc.problems))
    except WaygateError as exc:
        probe.problem = str(exc)
    probe.took_s = time.monotonic() - began_s
    return probe


async def _look_at(provider: SteadyUpstream, probe: Probe, limits: UpstreamLimitsSection) -> None:
    """Wait until it is open, then count what it offers."""
    within_s = limits.open_timeout_s + _SPARE_S
    if (opening := provider.opening) is not None:
        await asyncio.wait((opening,), timeout=within_s)
    probe.status = provider.status
    if probe.status.state != "ready":
        probe.problem = probe.status.last_error or f"did not open within {within_s:.0f} s"
        return
    features = provider.features
    wanted: Sequence[tuple[str, bool, tuple[Kind, ...]]] = (
        ("tools", features.tools, (Kind.TOOL,)),
        ("prompts", features.prompts, (Kind.PROMPT,)),
        ("resources", features.resources, (Kind.RESOURCE, Kind.TEMPLATE)),
    )
    until_s = time.monotonic() + limits.list_timeout_s
    for word, has, kinds in wanted:
        listed = [await _listing(provider, kind, until_s) for kind in kinds] if has else []
        probe.counts[word] = sum(len(listing.entries) for listing in listed)
        if not all(listing.version for listing in listed):
            probe.problem = f"its {word} were not read within {limits.list_timeout_s:.0f} s"
    probe.status = provider.status
    probe.problem = probe.status.last_error or probe.problem


async def _listing(provider: SteadyUpstream, kind: Kind, until_s: float) -> Listing:
    """Wait for a list longer than a client would: until it is read, or has failed."""
    while True:
        listing = await provider.listing(kind, Viewer(LOCAL, _CAPABILITIES))
        if listing.version or provider.status.last_error or time.monotonic() >= until_s:
            return listing
        await asyncio.sleep(0)


def _hear_nothing(_event: Event) -> None:
    """It is over before a change would matter."""
