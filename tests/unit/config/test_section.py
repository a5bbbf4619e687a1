"""What every mapping of the document has in common."""

from __future__ import annotations

import pytest
from pydantic import Field, ValidationError

from waygate_mcp.config.section import Section, items


class Sample(Section):
    """A section of the tests."""

    names: tuple[str, ...] = items("Names.", default=("a",), max_length=2)
    count: int = Field(1, description="A number.")


def test_a_list_of_the_document_becomes_a_tuple_and_stays_bounded() -> None:
    assert Sample.model_validate({"names": ["x", "y"]}).names == ("x", "y")
    assert Sample().names == ("a",)
    with pytest.raises(ValidationError):
        Sample.model_validate({"names": ["x", "y", "z"]})


def test_only_the_list_is_lenient_never_what_is_in_it() -> None:
    for wrong in ({"names": [1]}, {"names": "ab"}, {"count": "1"}, {"count": True}):
        with pytest.raises(ValidationError):
            Sample.model_validate(wrong)


def test_unknown_keys_are_refused_and_nothing_changes_later() -> None:
    with pytest.raises(ValidationError):
        Sample.model_validate({"nmes": []})
    with pytest.raises(ValidationError):
        Sample().count = 2  # type: ignore[misc]  # frozen is what is tested


def test_an_error_never_shows_the_value() -> None:
    with pytest.raises(ValidationError) as caught:
        Sample.model_validate({"count": "canary-4711"})
    assert "canary-4711" not in str(caught.value)


def test_items_carry_their_description() -> None:
    assert Sample.model_fields["names"].description == "Names."
