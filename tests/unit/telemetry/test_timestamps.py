"""Stated times: RFC 3339, UTC, milliseconds."""

from __future__ import annotations

import re

import pytest

from waygate_mcp.telemetry.timestamps import Stamp


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1785240000.0425, "2026-07-28T12:00:00.042Z"),
        (1785240000.9999, "2026-07-28T12:00:00.999Z"),
    ],
)
def test_a_time_is_utc_with_milliseconds(seconds: float, expected: str) -> None:
    assert Stamp(lambda: seconds).now() == expected


def test_time_that_goes_on_or_back_is_told_as_it_is() -> None:
    times = iter([1785240000.001, 1785240000.0011, 1785240001.0, 1785239999.5])
    stamp = Stamp(lambda: next(times))
    assert [stamp.now()[11:] for _ in range(4)] == [
        "12:00:00.001Z",
        "12:00:00.001Z",
        "12:00:01.000Z",
        "11:59:59.500Z",
    ]


def test_the_clock_of_the_machine_is_the_default() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", Stamp().now())
