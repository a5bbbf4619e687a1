"""Keys of a whole house, made as an operator makes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from waygate_mcp.auth.key_desk import KeyDesk
from waygate_mcp.config.roles import roles_of
from waygate_mcp.model.permissions import Narrowing
from waygate_mcp.model.principal import LOCAL
from waygate_mcp.runtime.house import House
from waygate_mcp.storage.api_keys import ApiKeys

__all__ = ["key_for", "revoke"]


async def key_for(
    house: House[Any], *roles: str, **narrowing: tuple[str, ...]
) -> tuple[bytes, bytes]:
    """Make a key that is good at once; gives the header that shows it."""
    foundation = house.foundation
    desk = KeyDesk(
        ApiKeys(foundation.database),
        foundation.key_hash,
        roles_of(house.current().document.roles),
        foundation.clock.now,
    )
    _, text = await desk.create(LOCAL, "a key", roles, narrowing=Narrowing(**narrowing))
    await foundation.keys.refresh()
    return (b"authorization", b"Bearer " + text.encode())


async def revoke(house: House[Any], header: tuple[bytes, bytes]) -> None:
    """Take a key back that `key_for` gave; in force at once."""
    foundation = house.foundation
    public = header[1].decode().split("_")[1]
    now = datetime.fromtimestamp(foundation.clock.now(), UTC)
    assert await ApiKeys(foundation.database).revoke(public, now)
    await foundation.keys.refresh()
