"""The section `audit`: on by default, and bounded."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from waygate_mcp.config.audit import AuditSection
from waygate_mcp.config.document import Document


def test_every_call_is_recorded_without_a_word_in_the_document() -> None:
    audit = Document().audit
    assert audit.enabled
    assert (audit.durability, audit.sync_ms) == ("interval", 100)
    assert audit.clear_arguments == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"sync_ms": 0},
        {"rotate_mb": 0},
        {"keep_days": 0},
        {"durability": "never"},
        {"clear_arguments": [""]},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AuditSection.model_validate(wrong)
