"""What every CounterStore keeps to: in memory, and shared by the workers of one machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from waygate_mcp.model.ports import Bucket, CounterStore
from waygate_mcp.model.rate import parse_rate
from waygate_mcp.policy.counters import LocalCounters
from waygate_mcp.policy.limits import buckets_of
from waygate_mcp.policy.shared_counters import SharedCounters


class Hands:
    """A clock that goes when it is told to."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Hands:
    return Hands()


def _in_memory(_path: Path, clock: Callable[[], float]) -> Iterator[CounterStore]:
    yield LocalCounters(clock)


def _shared(path: Path, clock: Callable[[], float]) -> Iterator[CounterStore]:
    def missed() -> None:
        raise AssertionError("nobody else holds the lock")

    with SharedCounters(path / "run" / "counters", LocalCounters(clock), missed, clock) as store:
        yield store


@pytest.fixture(params=[_in_memory, _shared], ids=["memory", "shared"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Hands) -> Iterator[CounterStore]:
    yield from request.param(tmp_path, clock)


def bucket(text: str, subject: str = "key:a", scope: str = "key") -> Bucket:
    (one,) = buckets_of(scope, subject, (parse_rate(text),))
    return one


def admitted(store: CounterStore, one: Bucket, tries: int) -> int:
    return sum(store.take((one,)) is None for _ in range(tries))


def test_a_burst_passes_and_the_next_is_told_when_to_come_back(
    store: CounterStore, clock: Hands
) -> None:
    one = bucket("60/minute burst 5")
    assert admitted(store, one, 5) == 5
    shortage = store.take((one,))
    assert shortage is not None
    assert shortage.bucket is one
    assert shortage.retry_after_s == pytest.approx(1.0)
    assert shortage.reset_s == pytest.approx(5.0)
    clock.now += 0.99
    assert store.take((one,)) is not None
    clock.now += 0.011
    assert admitted(store, one, 3) == 1


def test_in_the_long_run_the_rate_holds_and_refusals_cost_nothing(
    store: CounterStore, clock: Hands
) -> None:
    one = bucket("10/second burst 20")
    passed = 0
    for _ in range(1_000):  # ten seconds, ten times more asked than allowed
        passed += store.take((one,)) is None
        clock.now += 0.01
    assert 118 <= passed <= 120


def test_an_idle_bucket_saves_no_more_than_its_burst(store: CounterStore, clock: Hands) -> None:
    one = bucket("60/minute burst 5")
    assert store.take((one,)) is None
    clock.now += 86_400
    assert admitted(store, one, 10) == 5


def test_callers_are_counted_apart(store: CounterStore) -> None:
    assert admitted(store, bucket("3/minute"), 5) == 3
    assert admitted(store, bucket("3/minute", "key:b"), 5) == 3


def test_of_several_buckets_all_are_taken_from_or_none(store: CounterStore) -> None:
    wide, narrow = bucket("100/day"), bucket("2/minute", "key:a tool", "tool")
    assert [store.take((wide, narrow)) is None for _ in range(4)] == [True, True, False, False]
    assert admitted(store, wide, 200) == 98


def test_two_rates_of_one_caller_both_hold(store: CounterStore, clock: Hands) -> None:
    both = buckets_of("key", "key:a", (parse_rate("2/second"), parse_rate("3/minute")))
    assert [store.take(both) is None for _ in range(3)] == [True, True, False]
    clock.now += 1.0
    assert [store.take(both) is None for _ in range(2)] == [True, False]
