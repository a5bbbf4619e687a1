"""Every metric there is, by name, and how it is counted.

Knows the names and labels of all metrics and renders them with Prometheus's own library. Refuses
labels from outside: methods are known ones or `other`, and each metric has a bound on its
combinations. Counting is done by the event loop's thread only.
"""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from waygate_mcp.protocol.methods import CLIENT_NOTIFICATIONS, METHODS
from waygate_mcp.telemetry.sharing import SharedFolder, Snapshot, add_cells, clear_folder
from waygate_mcp.telemetry.tallies import (
    BUCKETS_S,
    OTHER,
    Cell,
    Counter,
    Gauge,
    Histogram,
    Labels,
)

PREFIX = "waygate_"
PUBLISH_S = 2.0
FOLDER = "metrics"
"""Name of the folder beneath the run folder where workers share their numbers."""

HTTP_METHODS = frozenset({"GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"})
RPC_METHODS = frozenset(METHODS) | CLIENT_NOTIFICATIONS

_BOUNDS = (*(f"{bound:g}" if bound % 1 else f"{bound:.1f}" for bound in BUCKETS_S), "+Inf")

HISTOGRAMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "request_duration_seconds": (
        "Seconds from a request's headers to its whole answer.",
        ("method", "endpoint"),
    ),
    "mcp_call_duration_seconds": (
        "Seconds a call took, questions to the client included.",
        ("endpoint", "method", "upstream"),
    ),
    "plugin_execution_seconds": (
        "Seconds a plugin worked on one command.",
        ("plugin", "command"),
    ),
}
COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "requests_total": ("HTTP requests answered.", ("method", "endpoint", "status")),
    "mcp_calls_total": (
        "MCP requests answered, by how they ended.",
        ("endpoint", "method", "upstream", "outcome"),
    ),
    "errors_total": ("Errors by their code.", ("code",)),
    "auth_failures_total": ("Requests without a valid credential.", ("reason",)),
    "rate_limited_total": (
        "Requests refused because a rate was spent, by whose rate it was.",
        ("scope",),
    ),
    "shadow_refusals_total": (
        "Calls a role in shadow would have refused, by the role.",
        ("role",),
    ),
    "upstream_requests_total": (
        "Calls and readings of lists for an upstream, by how they ended.",
        ("upstream", "outcome"),
    ),
    "audit_write_failures_total": (
        "Audit records that could not be written, or not made durable.",
        (),
    ),
    "log_lines_dropped_total": ("Log lines that were not written.", ("reason",)),
    "records_dropped_total": (
        "Records of calls and events that never reached the database.",
        ("reason",),
    ),
}
GAUGES: dict[str, str] = {
    "active_connections": "Open connections of clients.",
    "parked_exchanges": "Calls that wait for an answer of their client.",
    "sessions": "Open sessions of legacy clients.",
    "audit_queue_depth": "Audit records that are not yet copied into the database.",
    "audit_last_record_timestamp": "When the last audit record was written, in seconds since 1970.",
    "records_waiting": "Records that wait to be written to the database.",
    "config_generation": "Number of the configuration in force; the oldest among workers.",
}
_JOINED: dict[str, Callable[[list[float]], float]] = {
    "config_generation": min,
    "audit_last_record_timestamp": max,
}
"""How the numbers of workers are joined, where it is not by adding them."""
UPSTREAM_UP = "upstream_up"
UPSTREAM_UP_TEXT = "1 where there is a way to the upstream; 0 where some worker has none."
DEFINITIONS_HELD = "definitions_held"
DEFINITIONS_HELD_TEXT = (
    "Definitions of the upstream that wait for approval; the most any worker knows."
)
_SEPARATOR = "/"
"""Stands in no name of the document, so that two labels can be kept as one text."""


class Metrics:
    """All numbers of this process, and those of the other workers when they are rendered.

    The gauges `active_connections`, `parked_exchanges`, `sessions`, `records_waiting` and
    `config_generation` are public: set them, or let them `follow` a function.
    """

    def __init__(self, *, version: str = "unknown", shared: SharedFolder | None = None) -> None:
        self._requests = Histogram(3, admit=_admit_request)
        self._calls = Histogram(4, admit=_admit_call)
        self._plugins = Histogram(2)
        self._errors = Counter(max_cells=200)
        self._auth_failures = Counter(max_cells=200)
        self._rate_limited = Counter(max_cells=20)
        self._shadow_refusals = Counter()
        self._upstream_requests = Counter()
        self._records_dropped = Counter()
        self._upstreams_up: Callable[[], Mapping[str, bool]] = dict
        self._held: Callable[[], Mapping[str, int]] = dict
        self.active_connections = Gauge()
        self.parked_exchanges = Gauge()
        self.sessions = Gauge()
        self.records_waiting = Gauge()
        self.config_generation = Gauge()
        self.audit_queue_depth = Gauge()
        self.audit_last_record_timestamp = Gauge()
        self.audit_write_failures = Gauge()
        self.log_lines_dropped = Gauge()
        self.log_lines_lost = Gauge()
        self.version = version
        self._shared = shared
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Families(self))
        if shared is None:
            # With several workers these would be the numbers of whichever was asked.
            ProcessCollector(registry=self._registry)

    def observe_request(self, method: str, endpoint: str, status: int, seconds: float) -> None:
        """Count one answered HTTP request; `endpoint` is a route of ours, never a raw path."""
        self._requests.observe((method, endpoint, status), seconds)

    def observe_call(
        self, endpoint: str, method: str, upstream: str, outcome: str, seconds: float
    ) -> None:
        """Count one answered MCP request; `outcome` is a value of `CallResult`.

        `upstream` is the provider's name, `""` where the gateway answered by itself.
        """
        self._calls.observe((endpoint, method, upstream, outcome), seconds)

    def observe_plugin(self, plugin: str, command: str, seconds: float) -> None:
        """Count one piece of work of a plugin; `command` is a method, not a tool's name."""
        self._plugins.observe((plugin, command), seconds)

    def count_error(self, code: str) -> None:
        """Count one error by its `WaygateError.code`."""
        self._errors.add(code)

    def count_auth_failure(self, reason: str) -> None:
        """Count one refused credential; `reason` is a slug such as `missing` or `invalid`."""
        self._auth_failures.add(reason)

    def count_rate_limited(self, scope: str) -> None:
        """Count one request that was one too many; `scope` is a word such as `key` or `upstream`."""
        self._rate_limited.add(scope)

    def count_shadow_refusal(self, role: str) -> None:
        """Count one call that a role in shadow would have refused; `role` is a name of the document."""
        self._shadow_refusals.add(role)

    def count_upstream_request(self, upstream: str, outcome: str) -> None:
        """Count one call or reading of a list; `outcome` is one of a few words."""
        self._upstream_requests.add(f"{upstream}{_SEPARATOR}{outcome}")

    def count_record_dropped(self, reason: str) -> None:
        """Count one record that was given up: `queue_full`, `refused` or `stopped`."""
        self._records_dropped.add(reason)

    def follow_upstreams(self, source: Callable[[], Mapping[str, bool]]) -> None:
        """Ask `source` from now on which upstreams are up; see `Gauge.follow`."""
        self._upstreams_up = source

    def follow_held(self, source: Callable[[], Mapping[str, int]]) -> None:
        """Ask `source` from now on how many definitions of each upstream are held back."""
        self._held = source

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Give the metrics as text and its content type, in the format `accept` asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def publish(self) -> None:
        """Write this process's numbers for the other workers to add; nothing with one worker.

        Raises:
            OSError: the shared folder cannot be written.
        """
        if self._shared is not None:
            self._shared.write(self.snapshot())

    def snapshot(self) -> Snapshot:
        """Give all numbers of this process alone."""
        histograms = {"requests": self._requests, "calls": self._calls, "plugins": self._plugins}
        return Snapshot(
            pid=os.getpid(),
            histograms={
                # `list` of a dict's items is one step of the interpreter: safe from any thread.
                name: [(list(labels), cell.copy()) for labels, cell in list(each.cells.items())]
                for name, each in histograms.items()
            },
            counters={
                "errors": dict(self._errors.cells),
                "auth_failures": dict(self._auth_failures.cells),
                "rate_limited": dict(self._rate_limited.cells),
                "shadow_refusals": dict(self._shadow_refusals.cells),
                "upstream_requests": dict(self._upstream_requests.cells),
                "audit_write_failures": {"": self.audit_write_failures.number},
                "records_dropped": dict(self._records_dropped.cells),
                "log_lines": {
                    "queue_full": self.log_lines_dropped.number,
                    "sink_failed": self.log_lines_lost.number,
                },
            },
            gauges={name: getattr(self, name).number for name in GAUGES}
            | {
                f"{UPSTREAM_UP}{_SEPARATOR}{name}": float(is_up)
                for name, is_up in self._upstreams_up().items()
            }
            | {
                f"{DEFINITIONS_HELD}{_SEPARATOR}{name}": float(held)
                for name, held in self._held().items()
            },
        )

    def snapshots(self) -> list[Snapshot]:
        """Give the numbers of this process and the last published ones of the others."""
        others = [] if self._shared is None else self._shared.others()
        return [self.snapshot(), *others]


class _Families(Collector):
    """Turns snapshots into the library's families."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        snapshots = self._metrics.snapshots()
        requests = _merged(snapshots, "requests")
        calls = _merged(snapshots, "calls")
        yield _counter("requests_total", {key: _count(cell) for key, cell in requests.items()})
        yield _histogram("request_duration_seconds", _without(requests, 2))
        yield _counter("mcp_calls_total", {key: _count(cell) for key, cell in calls.items()})
        yield _histogram("mcp_call_duration_seconds", _without(calls, 3))
        yield _histogram("plugin_execution_seconds", _merged(snapshots, "plugins"))
        yield _counter("errors_total", _summed(snapshots, "errors"))
        yield _counter("auth_failures_total", _summed(snapshots, "auth_failures"))
        yield _counter("rate_limited_total", _summed(snapshots, "rate_limited"))
        yield _counter("shadow_refusals_total", _summed(snapshots, "shadow_refusals"))
        yield _counter("upstream_requests_total", _split(_summed(snapshots, "upstream_requests")))
        yield _by_upstream(snapshots, UPSTREAM_UP, UPSTREAM_UP_TEXT, min)
        yield _by_upstream(snapshots, DEFINITIONS_HELD, DEFINITIONS_HELD_TEXT, max)
        failures = sum(_summed(snapshots, "audit_write_failures").values())
        yield _counter("audit_write_failures_total", {(): failures})
        yield _counter("log_lines_dropped_total", _summed(snapshots, "log_lines"))
        yield _counter("records_dropped_total", _summed(snapshots, "records_dropped"))
        for name, text in GAUGES.items():
            numbers = [each.gauges[name] for each in snapshots if name in each.gauges]
            number = _JOINED.get(name, sum)(numbers)
            yield GaugeMetricFamily(PREFIX + name, text, value=number)
        yield _build_info(self._metrics.version)


@contextmanager
def open_metrics(run_dir: Path, *, workers: int = 1, version: str = "unknown") -> Iterator[Metrics]:
    """Give the metrics of this process; with several workers, share them while open.

    A thread writes the numbers every two seconds and once more at the end. Before the workers are
    started, their parent calls `clear_metrics`.
    """
    if workers <= 1:
        yield Metrics(version=version)
        return
    folder = run_dir / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    metrics = Metrics(version=version, shared=SharedFolder(folder))
    stopping = threading.Event()
    thread = threading.Thread(
        target=_publish, args=(metrics, stopping), name="waygate-metrics", daemon=True
    )
    thread.start()
    try:
        yield metrics
    finally:
        stopping.set()
        thread.join(PUBLISH_S)


def clear_metrics(run_dir: Path) -> None:
    """Forget the numbers of workers of an earlier start.

    Raises:
        OSError: the folder cannot be made or written.
    """
    clear_folder(run_dir / FOLDER)


def _publish(metrics: Metrics, stopping: threading.Event) -> None:
    while True:
        stopped = stopping.wait(PUBLISH_S)
        try:
            metrics.publish()
        except OSError:
            # A full disk: the others show our last numbers until there is room again.
            metrics.count_error("metrics_not_shared")
        if stopped:
            return


def _admit_request(labels: Labels) -> Labels:
    method, endpoint, status = labels
    return (method if method in HTTP_METHODS else OTHER, endpoint, status)


def _admit_call(labels: Labels) -> Labels:
    endpoint, method, upstream, outcome = labels
    return (endpoint, method if method in RPC_METHODS else OTHER, upstream, outcome)


def _merged(snapshots: list[Snapshot], name: str) -> dict[Labels, Cell]:
    total: dict[Labels, Cell] = {}
    for snapshot in snapshots:
        add_cells(total, snapshot.histograms.get(name, []))
    return total


def _summed(snapshots: list[Snapshot], name: str) -> dict[Labels, float]:
    total: dict[Labels, float] = {}
    for snapshot in snapshots:
        for label, number in snapshot.counters.get(name, {}).items():
            total[label,] = total.get((label,), 0) + number
    return total


def _split(cells: dict[Labels, float]) -> dict[Labels, float]:
    """Take two labels apart that were kept as one; what had no room stands under `other`."""
    total: dict[Labels, float] = {}
    for (label,), number in cells.items():
        upstream, _, outcome = str(label).partition(_SEPARATOR)
        total[upstream, outcome or OTHER] = number
    return total


def _by_upstream(
    snapshots: list[Snapshot], name: str, text: str, choose: Callable[[float, float], float]
) -> Metric:
    """Give a gauge that each worker has for each upstream; `choose` takes the number that counts."""
    beginning = name + _SEPARATOR
    found: dict[str, float] = {}
    for snapshot in snapshots:
        for label, number in snapshot.gauges.items():
            if label.startswith(beginning):
                upstream = label.removeprefix(beginning)
                found[upstream] = choose(number, found.get(upstream, number))
    family = GaugeMetricFamily(PREFIX + name, text, labels=["upstream"])
    for upstream, number in sorted(found.items()):
        family.add_metric([upstream], number)
    return family


def _without(cells: dict[Labels, Cell], label: int) -> dict[Labels, Cell]:
    total: dict[Labels, Cell] = {}
    for labels, cell in cells.items():
        add_cells(total, [([*labels[:label], *labels[label + 1 :]], cell)])
    return total


def _count(cell: Cell) -> float:
    return sum(cell[:-1])


def _counter(name: str, numbers: dict[Labels, float]) -> Metric:
    text, labels = COUNTERS[name]
    family = CounterMetricFamily(PREFIX + name.removesuffix("_total"), text, labels=labels)
    for key, number in sorted(numbers.items(), key=_order):
        family.add_metric([str(label) for label in key], number)
    return family


def _histogram(name: str, cells: dict[Labels, Cell]) -> Metric:
    text, labels = HISTOGRAMS[name]
    family = HistogramMetricFamily(PREFIX + name, text, labels=labels)
    for key, cell in sorted(cells.items(), key=_order):
        total: float = 0
        buckets = []
        for bound, number in zip(_BOUNDS, cell[:-1], strict=True):
            total += number
            buckets.append((bound, total))
        family.add_metric([str(label) for label in key], buckets=buckets, sum_value=cell[-1])
    return family


def _order(item: tuple[Labels, object]) -> tuple[str, ...]:
    return tuple(map(str, item[0]))


def _build_info(version: str) -> Metric:
    family = GaugeMetricFamily(
        PREFIX + "build_info", "1, with the version as labels.", labels=["version", "python"]
    )
    family.add_metric([version, platform.python_version()], 1)
    return family
