"""Every metric by name, as Prometheus reads it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from waygate_mcp.telemetry import metrics as module
from waygate_mcp.telemetry.metrics import (
    COUNTERS,
    GAUGES,
    HISTOGRAMS,
    UPSTREAM_UP,
    Metrics,
    clear_metrics,
    open_metrics,
)
from waygate_mcp.telemetry.sharing import SharedFolder

SURFACE = {
    "waygate_requests_total": {"method", "endpoint", "status"},
    "waygate_request_duration_seconds": {"method", "endpoint"},
    "waygate_errors_total": {"code"},
    "waygate_active_connections": set(),
    "waygate_mcp_calls_total": {"endpoint", "method", "upstream", "outcome"},
    "waygate_mcp_call_duration_seconds": {"endpoint", "method", "upstream"},
    "waygate_plugin_execution_seconds": {"plugin", "command"},
    "waygate_auth_failures_total": {"reason"},
    "waygate_upstream_up": {"upstream"},
    "waygate_rate_limited_total": {"scope"},
    "waygate_shadow_refusals_total": {"role"},
    "waygate_upstream_requests_total": {"upstream", "outcome"},
    "waygate_audit_queue_depth": set(),
    "waygate_audit_last_record_timestamp": set(),
    "waygate_parked_exchanges": set(),
    "waygate_sessions": set(),
    "waygate_config_generation": set(),
    "waygate_build_info": {"version", "python"},
}


BESIDE = {
    "waygate_audit_write_failures_total",
    "waygate_log_lines_dropped_total",
    "waygate_records_dropped_total",
    "waygate_records_waiting",
}
"""Metrics of ours that the surface does not name."""


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text, _ = metrics.render()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def number(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[name, tuple(sorted(labels.items()))]


def busy() -> Metrics:
    metrics = Metrics(version="9.9")
    metrics.observe_request("POST", "/mcp", 200, 0.003)
    metrics.observe_call("default", "tools/call", "hello", "ok", 0.3)
    metrics.observe_plugin("hello", "tools/call", 0.2)
    metrics.count_error("unknown_name")
    metrics.count_auth_failure("missing")
    metrics.count_upstream_request("web", "ok")
    metrics.count_record_dropped("refused")
    metrics.count_rate_limited("key")
    metrics.count_shadow_refusal("agent")
    metrics.follow_upstreams(lambda: {"web": True})
    return metrics


def test_the_metrics_are_those_of_the_surface_with_its_labels() -> None:
    found: dict[str, set[str]] = {}
    for name, labels in samples(busy()):
        base = name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
        found.setdefault(base, set()).update(label for label, _ in labels if label != "le")
    for name, expected in SURFACE.items():
        assert found[name] == expected, name
    ours = {name for name in found if name.startswith("waygate_")}
    assert ours - set(SURFACE) == BESIDE


def test_the_tables_name_every_metric() -> None:
    named = {f"waygate_{name}" for name in (*HISTOGRAMS, *COUNTERS, *GAUGES, UPSTREAM_UP)}
    assert named | {"waygate_build_info"} == set(SURFACE) | BESIDE


def test_a_request_is_counted_and_timed() -> None:
    metrics = Metrics()
    metrics.observe_request("POST", "/mcp", 200, 0.02)
    metrics.observe_request("POST", "/mcp", 200, 20)
    metrics.observe_request("POST", "/mcp", 503, 0.001)
    count = {"method": "POST", "endpoint": "/mcp"}
    assert number(metrics, "waygate_requests_total", status="200", **count) == 2
    assert number(metrics, "waygate_requests_total", status="503", **count) == 1
    name = "waygate_request_duration_seconds"
    assert number(metrics, f"{name}_count", **count) == 3
    assert number(metrics, f"{name}_sum", **count) == pytest.approx(20.021)
    assert number(metrics, f"{name}_bucket", le="0.005", **count) == 1
    assert number(metrics, f"{name}_bucket", le="0.025", **count) == 2
    assert number(metrics, f"{name}_bucket", le="10.0", **count) == 2
    assert number(metrics, f"{name}_bucket", le="+Inf", **count) == 3


def test_a_call_is_counted_by_outcome_and_timed_without_it() -> None:
    metrics = Metrics()
    metrics.observe_call("default", "tools/call", "hello", "ok", 1)
    metrics.observe_call("default", "tools/call", "hello", "failed", 2)
    call = {"endpoint": "default", "method": "tools/call", "upstream": "hello"}
    assert number(metrics, "waygate_mcp_calls_total", outcome="ok", **call) == 1
    assert number(metrics, "waygate_mcp_calls_total", outcome="failed", **call) == 1
    assert number(metrics, "waygate_mcp_call_duration_seconds_count", **call) == 2
    assert number(metrics, "waygate_mcp_call_duration_seconds_sum", **call) == 3


def test_methods_from_outside_are_other() -> None:
    metrics = Metrics()
    for index in range(100):
        metrics.observe_request(f"BREW{index}", "/mcp", 405, 0.1)
        metrics.observe_call("default", f"evil/{index}", "", "refused", 0.1)
    assert (
        number(metrics, "waygate_requests_total", method="other", endpoint="/mcp", status="405")
        == 100
    )
    assert len([name for name, _ in samples(metrics) if name == "waygate_mcp_calls_total"]) == 1


def test_requests_of_upstreams_are_counted_by_how_they_ended() -> None:
    metrics = Metrics()
    for outcome in ("ok", "ok", "refused"):
        metrics.count_upstream_request("web", outcome)
    name = "waygate_upstream_requests_total"
    assert number(metrics, name, upstream="web", outcome="ok") == 2
    assert number(metrics, name, upstream="web", outcome="refused") == 1


def test_upstreams_without_end_count_as_other() -> None:
    metrics = Metrics()
    for index in range(3000):
        metrics.count_upstream_request(f"u{index}", "ok")
    name = "waygate_upstream_requests_total"
    assert number(metrics, name, upstream="other", outcome="other") == 1000


def test_an_upstream_is_up_where_every_worker_has_a_way_to_it(tmp_path: Path) -> None:
    clear_metrics(tmp_path)
    folder = tmp_path / module.FOLDER
    first, second = (Metrics(shared=SharedFolder(folder)) for _ in range(2))
    first.follow_upstreams(lambda: {"both": True, "one": True, "mine": True, "none": False})
    second.follow_upstreams(lambda: {"both": True, "one": False, "none": False})
    for metrics in (first, second):
        metrics.count_upstream_request("both", "ok")
        metrics.publish()
    found = {
        name: number(first, "waygate_upstream_up", upstream=name)
        for name in ("both", "one", "mine", "none")
    }
    assert found == {"both": 1, "one": 0, "mine": 1, "none": 0}
    assert number(first, "waygate_upstream_requests_total", upstream="both", outcome="ok") == 2


def test_labels_are_escaped() -> None:
    metrics = Metrics()
    metrics.count_error('a"b\\c\nd')
    assert number(metrics, "waygate_errors_total", code='a"b\\c\nd') == 1


def test_gauges_show_what_they_are_set_to_or_follow() -> None:
    metrics = Metrics()
    metrics.active_connections.inc()
    metrics.sessions.follow(lambda: 7)
    metrics.config_generation.set(3)
    metrics.log_lines_dropped.follow(lambda: 4)
    assert number(metrics, "waygate_active_connections") == 1
    assert number(metrics, "waygate_sessions") == 7
    assert number(metrics, "waygate_config_generation") == 3
    assert number(metrics, "waygate_log_lines_dropped_total", reason="queue_full") == 4


def test_the_build_is_told() -> None:
    assert any(("version", "9.9") in labels for _, labels in samples(busy()))


def test_the_format_is_the_one_asked_for() -> None:
    metrics = busy()
    text, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    openmetrics, openmetrics_type = metrics.render("application/openmetrics-text; version=1.0.0")
    assert openmetrics_type.startswith("application/openmetrics-text")
    assert openmetrics.endswith(b"# EOF\n")
    assert not text.endswith(b"# EOF\n")


def test_two_metrics_share_nothing() -> None:
    first, second = Metrics(), Metrics()
    first.count_error("x")
    assert ("waygate_errors_total", (("code", "x"),)) not in samples(second)


def test_workers_are_added_up_and_the_oldest_configuration_is_told(tmp_path: Path) -> None:
    clear_metrics(tmp_path)
    folder = tmp_path / module.FOLDER
    first, second = (Metrics(shared=SharedFolder(folder)) for _ in range(2))
    for metrics, generation in ((first, 5), (second, 4)):
        metrics.observe_request("POST", "/mcp", 200, 1)
        metrics.count_error("x")
        metrics.sessions.set(2)
        metrics.config_generation.set(generation)
        metrics.publish()
    count = {"method": "POST", "endpoint": "/mcp"}
    assert number(first, "waygate_requests_total", status="200", **count) == 2
    assert number(first, "waygate_request_duration_seconds_sum", **count) == 2
    assert number(first, "waygate_errors_total", code="x") == 2
    assert number(first, "waygate_sessions") == 4
    assert number(first, "waygate_config_generation") == 4
    assert not any(name.startswith("process_") for name, _ in samples(first))


def test_one_worker_shares_nothing_and_tells_of_its_process(tmp_path: Path) -> None:
    with open_metrics(tmp_path) as metrics:
        metrics.publish()
        assert any(name.startswith("process_") for name, _ in samples(metrics))
    assert list(tmp_path.iterdir()) == []


def test_several_workers_publish_by_themselves_and_once_more_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = threading.Event()
    real = Metrics.publish

    def publish(self: Metrics) -> None:
        real(self)
        published.set()

    monkeypatch.setattr(Metrics, "publish", publish)
    monkeypatch.setattr(module, "PUBLISH_S", 0.01)
    with open_metrics(tmp_path, workers=2, version="1") as metrics:
        assert published.wait(10)
        monkeypatch.setattr(module, "PUBLISH_S", 10)
        metrics.count_error("late")
    (found,) = SharedFolder(tmp_path / module.FOLDER).others()
    assert found.counters["errors"] == {"late": 1}


def test_a_folder_that_cannot_be_written_is_counted_and_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = threading.Event()

    def full(_: Metrics) -> None:
        tried.set()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Metrics, "publish", full)
    monkeypatch.setattr(module, "PUBLISH_S", 0.01)
    with open_metrics(tmp_path, workers=2) as metrics:
        assert tried.wait(10)
        monkeypatch.setattr(module, "PUBLISH_S", 10)
    assert number(metrics, "waygate_errors_total", code="metrics_not_shared") >= 1
