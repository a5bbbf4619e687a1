"""What is known of an upstream without asking it.

Knows what outlives a restart: what a server can do and in which eras it speaks. Refuses to know where
that is kept (`ports.FactStore`).
"""

from __future__ import annotations

import msgspec

from waygate_mcp.model.catalog import Features

__all__ = ["Facts"]


class Facts(msgspec.Struct, frozen=True):
    """What a server said of itself when it was last opened.

    `eras` are those it is known to speak, `revision` the one agreed on or offered. `found_at_s` is
    seconds since 1970, and says when this was first found to be so.
    """

    features: Features
    instructions: str | None = None
    eras: tuple[str, ...] = ()
    revision: str = ""
    found_at_s: float = 0.0
