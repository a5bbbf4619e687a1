"""What a provider that stays holds of an upstream that comes and goes: a connector, and copies of lists.

Knows these nouns. Refuses to know when anything of them is opened, read or given up (`steady.py`).
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import msgspec

from waygate_mcp.model.catalog import Kind, Listing, Viewer
from waygate_mcp.upstreams.connector import Connector

__all__ = ["Held", "Kept", "ListKey", "Reading", "list_key"]

ListKey = tuple[Kind, bytes, int]
"""Kind, principal and capabilities: a class of viewers that see the same list."""


def list_key(kind: Kind, viewer: Viewer) -> ListKey:
    """Give the class of viewers one belongs to."""
    return (kind, viewer.principal.fingerprint, viewer.capabilities.bits)


class Held(msgspec.Struct, eq=False):
    """An open connector, closed when it was given up and nobody uses it any more."""

    upstream: Connector
    stack: AsyncExitStack
    users: int = 0
    is_given_up: bool = False

    async def close(self) -> None:
        """Close it."""
        await self.stack.aclose()


class Kept(msgspec.Struct):
    """A copy of a list: where it is from, and until when it is believed."""

    listing: Listing
    source: tuple[int, int]
    fresh_until_s: float
    read_at_s: float
    is_outdated: bool = False


class Reading(msgspec.Struct, eq=False):
    """A list being read. `is_left` says that somebody went on without it."""

    task: asyncio.Task[None]
    began_s: float
    is_left: bool = False
