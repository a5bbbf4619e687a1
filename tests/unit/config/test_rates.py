from __future__ import annotations

import pytest
from pydantic import ValidationError

from waygate_mcp.config.document import Document


def test_rates_stand_under_limits() -> None:
    document = Document.model_validate(
        {"limits": {"rates": {"default": ["10/second", "5000/day"], "tools": {"x": ["1/minute"]}}}}
    )
    assert document.limits.rates.default == ("10/second", "5000/day")
    assert document.limits.rates.tools == {"x": ("1/minute",)}


def test_a_rate_that_cannot_be_read_is_a_fault_of_the_document() -> None:
    with pytest.raises(ValidationError, match="COUNT/minute"):
        Document.model_validate({"limits": {"rates": {"roles": {"x": ["ten a minute"]}}}})
