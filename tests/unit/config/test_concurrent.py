from __future__ import annotations

import pytest
from pydantic import ValidationError

from waygate_mcp.config.document import Document


def test_numbers_stand_under_limits_and_none_is_the_default() -> None:
    given = {"default": 3, "tools": {"x": 1}, "upstreams": {"web": 50}}
    document = Document.model_validate({"limits": {"concurrent": given}})
    assert document.limits.concurrent.default == 3
    assert document.limits.concurrent.upstreams == {"web": 50}
    assert Document().limits.concurrent.default is None


@pytest.mark.parametrize("number", [0, -1, "3", 1_000_001])
def test_a_number_that_would_shut_the_door_is_refused(number: object) -> None:
    with pytest.raises(ValidationError):
        Document.model_validate({"limits": {"concurrent": {"roles": {"x": number}}}})
