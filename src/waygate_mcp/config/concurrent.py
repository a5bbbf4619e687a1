"""How many calls callers may have at once, as the document says it: `limits.concurrent`.

Knows the keys. Refuses to count.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from waygate_mcp.config.rates import Subject
from waygate_mcp.config.section import Section

__all__ = ["ConcurrentSection"]

Places = Annotated[int, Field(ge=1, le=1_000_000)]


class ConcurrentSection(Section):
    """How many calls may be under way at once; no number is no limit."""

    default: Places | None = Field(
        None, description="Calls of each caller at once for which nothing else is said."
    )
    roles: dict[Subject, Places] = Field(
        default_factory=dict,
        max_length=256,
        description="Calls at once of each holder of a role, instead of `default`; of several roles the "
        "first named here counts.",
    )
    keys: dict[Subject, Places] = Field(
        default_factory=dict,
        max_length=1000,
        description="Calls at once of single callers, by their id (`key:…`), instead of all else.",
    )
    tools: dict[Subject, Places] = Field(
        default_factory=dict,
        max_length=1000,
        description="Calls of a tool at once by each caller, by its public name.",
    )
    upstreams: dict[Subject, Places] = Field(
        default_factory=dict,
        max_length=256,
        description="Calls at an upstream or plugin at once by all callers together, by its name.",
    )
