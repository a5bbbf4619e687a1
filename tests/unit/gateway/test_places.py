"""Slots, nodes and heirs: what ids say of the worker that gave them."""

from __future__ import annotations

import pytest

from waygate_mcp.errors import InterruptedCallError
from waygate_mcp.gateway.places import ALONE, OwnedElsewhereError, Place


def test_a_node_says_its_slot_and_is_another_after_a_restart() -> None:
    place = Place(2, 3)
    first, second = place.new_node(), place.new_node()
    assert first != second
    assert place.slot_in(first) == place.slot_in(second) == 2


@pytest.mark.parametrize(
    ("identifier", "slot"),
    [
        ("1-abc", 1),
        ("1.abc", 1),
        ("q0-abc", 0),
        ("q12-abc", None),
        ("3-abc", None),
        ("1abc", None),
        ("", None),
        ("w1", None),
        ("-1-abc", None),
        ("9999-abc", None),
        (1, None),
        (None, None),
    ],
)
def test_an_id_names_a_slot_or_none_there_is(identifier: object, slot: int | None) -> None:
    place = Place(2, 3)
    assert place.slot_in(identifier) == slot
    assert place.other_slot(identifier) == slot


def test_an_id_of_ones_own_names_no_other() -> None:
    place = Place(2, 3)
    assert place.mark("abc") == "2-abc"
    assert place.other_slot(place.mark("abc")) is None
    assert ALONE.other_slot("2-abc") is None


def test_what_more_workers_gave_out_belongs_to_one_of_those_there_are() -> None:
    assert [Place(0, 2).owner_of(slot) for slot in range(5)] == [0, 1, 0, 1, 0]
    assert ALONE.owner_of(7) == 0


def test_all_workers_look_for_an_heir_in_the_same_order() -> None:
    heirs = [Place(slot, 4).heirs(1) for slot in range(4)]
    assert heirs == [(1, 2, 3), (), (1,), (1, 2)]


def test_what_nobody_can_reach_is_interrupted() -> None:
    error = OwnedElsewhereError(2)
    assert isinstance(error, InterruptedCallError)
    assert (error.slot, error.code) == (2, "interrupted")
    assert "2" not in error.safe_message
