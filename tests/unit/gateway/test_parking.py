"""Places for calls that wait, and outcomes kept for clients that lost them."""

from __future__ import annotations

from typing import Any

import pytest

from waygate_mcp.errors import LimitError
from waygate_mcp.gateway.parking import Parking, ParkingLimits


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Parked:
    """As much of an exchange as a place knows."""

    def __init__(self, name: str) -> None:
        self.id = name


def parked(name: str) -> Any:
    return Parked(name)


LIMITS = ParkingLimits(per_principal=2, total=3)


def test_an_exchange_keeps_the_place_it_has() -> None:
    parking = Parking(Clock())
    one = parked("1")
    for _ in range(5):
        parking.reserve(one, "alice", "one", LIMITS)
    assert len(parking) == 1
    assert parking.find("1") is one
    assert parking.all() == (one,)


def test_one_principal_has_no_more_places_than_its_share() -> None:
    parking = Parking(Clock())
    parking.reserve(parked("1"), "alice", "one", LIMITS)
    parking.reserve(parked("2"), "alice", "one", LIMITS)
    with pytest.raises(LimitError) as caught:
        parking.reserve(parked("3"), "alice", "one", LIMITS)
    assert caught.value.limit == "limits.parked_per_principal"
    parking.reserve(parked("4"), "bob", "one", LIMITS)


def test_one_upstream_has_no_more_places_than_its_share_whoever_asks() -> None:
    limits = ParkingLimits(per_principal=2, per_upstream=2, total=9)
    parking = Parking(Clock())
    first = parked("1")
    parking.reserve(first, "alice", "one", limits)
    parking.reserve(parked("2"), "bob", "one", limits)
    with pytest.raises(LimitError) as caught:
        parking.reserve(parked("3"), "carol", "one", limits)
    assert caught.value.limit == "limits.parked_per_upstream"
    parking.reserve(parked("4"), "carol", "two", limits)
    parking.release(first)
    parking.reserve(parked("5"), "carol", "one", limits)


def test_nothing_is_remembered_of_who_parked_once_all_is_over() -> None:
    parking = Parking(Clock())
    for number in range(2):
        parking.reserve(parked(str(number)), "alice", str(number), LIMITS)
    for exchange in parking.all():
        parking.release(exchange)
    assert not parking._owners
    assert not parking._principals
    assert not parking._upstreams


def test_all_principals_have_no_more_places_than_there_are() -> None:
    parking = Parking(Clock())
    for name in ("a", "b", "c"):
        parking.reserve(parked(name), name, "one", LIMITS)
    with pytest.raises(LimitError) as caught:
        parking.reserve(parked("d"), "d", "one", LIMITS)
    assert caught.value.limit == "limits.parked_total"
    assert len(parking) == 3


def test_a_place_that_was_freed_can_be_taken_again() -> None:
    parking = Parking(Clock())
    one, two = parked("1"), parked("2")
    parking.reserve(one, "alice", "one", LIMITS)
    parking.reserve(two, "alice", "one", LIMITS)
    parking.release(one)
    assert parking.find("1") is None
    parking.reserve(parked("3"), "alice", "one", LIMITS)
    parking.release(two)
    parking.release(two)  # it has none any more
    assert len(parking) == 1


def test_an_outcome_is_kept_for_a_minute_and_takes_no_place() -> None:
    clock = Clock()
    parking = Parking(clock)
    one = parked("1")
    parking.reserve(one, "alice", "one", LIMITS)
    parking.release(one, 10)
    assert len(parking) == 0
    clock.now_s += 60
    assert parking.find("1") is one
    clock.now_s += 0.1
    assert parking.find("1") is None


def test_outcomes_whose_minute_is_over_are_forgotten_when_the_next_call_ends() -> None:
    clock = Clock()
    parking = Parking(clock)
    for number in range(3):
        parking.release(parked(str(number)), 10)
    clock.now_s += 61
    parking.release(parked("last"))
    assert not parking._kept
    assert parking._kept_bytes == 0


def test_no_more_than_a_thousand_outcomes_are_kept() -> None:
    parking = Parking(Clock())
    for number in range(1_002):
        parking.release(parked(str(number)), 0)
    assert parking.find("1") is None
    assert parking.find("2") is not None


def test_no_more_than_64_megabytes_of_outcomes_are_kept() -> None:
    parking = Parking(Clock())
    for number in range(5):
        parking.release(parked(str(number)), 16 * 1024 * 1024)
    assert [parking.find(str(number)) is None for number in range(5)] == [True, *[False] * 4]
    parking.release(parked("huge"), 65 * 1024 * 1024)
    assert parking.find("huge") is None
    assert parking._kept_bytes == 0
