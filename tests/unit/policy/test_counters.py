"""Counters in memory: what is forgotten, and what a flood of names gains."""

from __future__ import annotations

from waygate_mcp.model.ports import Bucket
from waygate_mcp.policy.counters import LocalCounters


def bucket(name: str, burst: int = 2) -> Bucket:
    return Bucket(name, "key", burst, 1.0, float(burst))


def test_whole_buckets_are_forgotten_for_new_ones() -> None:
    now = [0.0]
    counters = LocalCounters(lambda: now[0], max_buckets=3)
    for name in "abc":
        assert counters.take((bucket(name),)) is None
    now[0] = 5.0
    assert counters.take((bucket("d"),)) is None
    assert len(counters) == 1


def test_without_room_newcomers_share_a_bucket_and_nobody_in_debt_is_forgotten() -> None:
    counters = LocalCounters(lambda: 0.0, max_buckets=2)
    for name in "aabb":
        assert counters.take((bucket(name),)) is None
    passed = [counters.take((bucket(f"flood {number}"),)) is None for number in range(10)]
    assert passed == [True, True] + [False] * 8
    assert counters.take((bucket("a"),)) is not None
    assert len(counters) == 3


def test_two_newcomers_in_one_call_are_both_counted_in_the_shared_bucket() -> None:
    counters = LocalCounters(lambda: 0.0, max_buckets=1)
    assert counters.take((bucket("a"),)) is None
    assert counters.take((bucket("b"), bucket("c"))) is None
    assert counters.take((bucket("d"),)) is not None
