"""What every mapping of the document has in common, seen in some that are."""

# A section made here would be one that other tests miss on the page of keys.

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from waygate_mcp.config.document import EndpointSection, LimitsSection
from waygate_mcp.config.section import Section, items
from waygate_mcp.config.upstream import UpstreamSection


def test_a_list_of_the_document_becomes_a_tuple_and_stays_bounded() -> None:
    assert EndpointSection.model_validate({"bind": ["x", "y"]}).bind == ("x", "y")
    assert EndpointSection().bind == ("*",)
    with pytest.raises(ValidationError):
        EndpointSection.model_validate({"bind": ["x"] * 1001})


@pytest.mark.parametrize(
    ("section", "wrong"),
    [
        (UpstreamSection, {"command": "x", "args": [1]}),
        (UpstreamSection, {"command": "x", "args": "ab"}),
        (LimitsSection, {"page_size": "1"}),
        (LimitsSection, {"page_size": True}),
    ],
)
def test_only_the_list_is_lenient_never_what_is_in_it(
    section: type[Section], wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        section.model_validate(wrong)


def test_unknown_keys_are_refused_and_nothing_changes_later() -> None:
    with pytest.raises(ValidationError):
        EndpointSection.model_validate({"bnd": []})
    with pytest.raises(ValidationError):
        EndpointSection().bind = ()  # type: ignore[misc]  # frozen is what is tested


def test_an_error_never_shows_the_value() -> None:
    with pytest.raises(ValidationError) as caught:
        LimitsSection.model_validate({"page_size": "canary-4711"})
    assert "canary-4711" not in str(caught.value)


def test_items_carry_their_description_and_what_else_is_said() -> None:
    field = items("Names.", default=("a",), max_length=2)
    assert (field.description, field.default) == ("Names.", ("a",))
