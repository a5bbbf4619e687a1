"""What every mapping of the document has in common.

Knows that sections are frozen and that unknown keys are errors. Refuses to know any section.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Section", "items"]


class Section(BaseModel):
    """One mapping of the document: frozen, and nothing in it that is not named here."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, hide_input_in_errors=True, validate_default=True
    )


def items(description: str, *, max_length: int = 1000, **more: Any) -> Any:
    """Describe a list of the document, which is a tuple in memory."""
    # YAML gives lists; strict mode would insist on tuples, which are what cannot be changed later.
    return Field(strict=False, max_length=max_length, description=description, **more)
