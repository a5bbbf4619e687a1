"""How often callers may call, as the document says it: `limits.rates`.

Knows the keys and that each rate can be read. Refuses to count.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from waygate_mcp.config.section import Section, items
from waygate_mcp.model.rate import parse_rate

__all__ = ["RatesSection", "Subject"]


def _rate(text: str) -> str:
    parse_rate(text)
    return text


RateText = Annotated[str, StringConstraints(max_length=64), AfterValidator(_rate)]
"""`100/minute`, `10/second burst 20`, `5000/day`."""

Rates = Annotated[tuple[RateText, ...], Field(strict=False, max_length=8)]
Subject = Annotated[str, StringConstraints(min_length=1, max_length=256)]
"""A role, the id of a caller, a tool's public name, or the name of an upstream or plugin."""


class RatesSection(Section):
    """How often callers may call: lists of rates such as `100/minute burst 20`; all of a list hold."""

    default: Rates = items(
        "What each key may do for which nothing else is said; empty: `WAYGATE_RATE_LIMIT` a minute.",
        max_length=8,
        default=(),
    )
    roles: dict[Subject, Rates] = Field(
        default_factory=dict,
        max_length=256,
        description="What each holder of a role may do, instead of `default`; of several roles the first "
        "named here counts.",
    )
    keys: dict[Subject, Rates] = Field(
        default_factory=dict,
        max_length=1000,
        description="What single callers may do, by their id (`key:…`), instead of all else.",
    )
    tools: dict[Subject, Rates] = Field(
        default_factory=dict,
        max_length=1000,
        description="How often each caller may call a tool, by its public name, besides its own rates.",
    )
    upstreams: dict[Subject, Rates] = Field(
        default_factory=dict,
        max_length=256,
        description="How often an upstream or plugin is called by all callers together, by its name.",
    )
