"""Counting: buckets, bounds on the number of cells, gauges that follow."""

from __future__ import annotations

import pytest

from waygate_mcp.telemetry.tallies import BUCKETS_S, Counter, Gauge, Histogram, Labels


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0, 0), (0.005, 0), (0.0051, 1), (0.3, 6), (10, 10), (10.1, 11), (1e9, 11)],
)
def test_a_duration_falls_into_the_first_bucket_that_holds_it(seconds: float, bucket: int) -> None:
    histogram = Histogram(1)
    histogram.observe(("a",), seconds)
    cell = histogram.cells["a",]
    assert [index for index, number in enumerate(cell[:-1]) if number] == [bucket]
    assert cell[-1] == seconds
    assert len(cell) == len(BUCKETS_S) + 2


def test_durations_add_up_by_labels() -> None:
    histogram = Histogram(1)
    for _ in range(3):
        histogram.observe(("a",), 1)
    histogram.observe(("b",), 1)
    assert histogram.cells["a",][-1] == 3
    assert histogram.cells["b",][-1] == 1


def test_beyond_the_bound_labels_count_as_other() -> None:
    histogram = Histogram(2, max_cells=2)
    for number in range(10):
        histogram.observe((str(number), "x"), 1)
    assert list(histogram.cells) == [("0", "x"), ("1", "x"), ("other", "other")]
    assert histogram.cells["other", "other"][-1] == 8
    histogram.observe(("0", "x"), 1)
    assert histogram.cells["0", "x"][-1] == 2


def test_labels_that_are_not_admitted_are_replaced() -> None:
    def admit(labels: Labels) -> Labels:
        return labels if labels == ("good",) else ("other",)

    histogram = Histogram(1, admit=admit)
    for label in ("good", "bad", "worse"):
        histogram.observe((label,), 1)
    assert list(histogram.cells) == [("good",), ("other",)]


def test_a_counter_counts_within_its_bound() -> None:
    counter = Counter(max_cells=1)
    counter.add("a")
    counter.add("a", 2)
    counter.add("b")
    counter.add("c")
    assert counter.cells == {"a": 3, "other": 2}


def test_a_gauge_is_set_moved_or_follows() -> None:
    gauge = Gauge()
    gauge.set(5)
    gauge.inc()
    gauge.dec(2)
    assert gauge.number == 4
    gauge.follow(lambda: 9)
    assert gauge.number == 9
