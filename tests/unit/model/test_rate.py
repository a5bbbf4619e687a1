from __future__ import annotations

import pytest

from waygate_mcp.model.rate import Rate, parse_rate


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("6000/minute burst 200", Rate(6000, 60.0, 200)),
        ("10/second", Rate(10, 1.0, 10)),
        ("1/day", Rate(1, 86_400.0, 1)),
    ],
)
def test_a_rate_is_a_count_a_period_and_a_burst(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


def test_a_burst_is_whole_again_after_as_many_intervals() -> None:
    rate = parse_rate("6000/minute burst 200")
    assert rate.interval_s == pytest.approx(0.01)
    assert rate.window_s == pytest.approx(2.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "10/hour",
        "-1/day",
        "0/day",
        "1/day burst 0",
        "9999999999/day",
        "1/day  burst 2",
        "1/day burst",
        "1/day\n",
    ],
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="rate"):
        parse_rate(text)
