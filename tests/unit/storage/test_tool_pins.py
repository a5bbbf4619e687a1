"""How a pin is written as a row, and what of a row is not believed."""

from __future__ import annotations

from typing import Any

import pytest

from waygate_mcp.errors import StorageError
from waygate_mcp.model.pins import Pin, Sighting, approved, seen
from waygate_mcp.storage.tool_pins import _pin_of, _row_of

A, B = "a" * 64, "b" * 64


def pins() -> list[Pin]:
    """One in each state."""
    pending = seen(None, Sighting("files", "tool", "read", A, '{"name":"read"}'), 1.5)
    assert pending is not None
    settled = approved(pending, A, "admin", 2.25)
    assert settled is not None
    changed = seen(settled, Sighting("files", "tool", "read", B, "{}"), 3.0)
    assert changed is not None
    return [pending, settled, changed]


@pytest.mark.parametrize("pin", pins(), ids=lambda pin: pin.state)
def test_a_pin_is_read_as_it_was_written(pin: Pin) -> None:
    assert _pin_of(_row_of(pin)) == pin


def test_the_newest_digest_in_force_stands_in_a_column_of_its_own() -> None:
    assert [_row_of(pin)["digest"] for pin in pins()] == [None, A, A]


@pytest.mark.parametrize(
    "damage",
    [{"definition": "{"}, {"state": "trusted"}, {"seen_digest": B}, {"definition": None}],
)
def test_what_cannot_be_is_an_error(damage: dict[str, Any]) -> None:
    with pytest.raises(StorageError, match="the pin of files tool"):
        _pin_of(_row_of(pins()[1]) | damage)
