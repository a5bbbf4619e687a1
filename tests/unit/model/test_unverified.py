"""A credential that takes waiting."""

from __future__ import annotations

from waygate_mcp.model.principal import LOCAL, Principal
from waygate_mcp.model.unverified import UnverifiedError


async def test_it_brings_the_way_to_decide() -> None:
    async def verify() -> Principal:
        return LOCAL

    error = UnverifiedError(verify)
    assert await error.verify() is LOCAL
    assert "not verified" in str(error)
