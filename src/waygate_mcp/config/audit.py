"""The section `audit` of the document: what is recorded of calls, how durably, how long.

Knows its keys, units, defaults and bounds. Refuses to know the journal.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from waygate_mcp.config.section import Section, items

__all__ = ["AuditSection"]

_Pattern = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class AuditSection(Section):
    """The audit journal: a record of every call, before its effect and after it."""

    enabled: bool = Field(
        True,
        description="Whether calls are recorded. Without a record nobody can say what happened.",
    )
    durability: Literal["interval", "strict"] = Field(
        "interval",
        description="`interval`: records survive a killed process at once and a power cut after "
        "`sync_ms`. `strict`: a call waits until its beginning is on the disk.",
    )
    sync_ms: int = Field(
        100,
        ge=1,
        le=10_000,
        description="Milliseconds after which records are forced onto the disk.",
    )
    rotate_mb: int = Field(
        64, ge=1, le=4096, description="Mebibytes of one file; a new one is begun each day as well."
    )
    keep_days: int = Field(
        365,
        ge=1,
        le=36_500,
        description="Days after which whole files are let go; a signed note stays.",
    )
    clear_arguments: tuple[_Pattern, ...] = items(
        "Public names (`*` stands for any text) whose arguments are recorded in clear, redacted; all "
        "others as a digest.",
        default=(),
        max_length=256,
    )
    door_refusals_per_s: int = Field(
        10,
        ge=0,
        le=1000,
        description="Refused credentials recorded one by one each second; what is beyond is counted and summed.",
    )
