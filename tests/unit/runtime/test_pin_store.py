"""A command and a gateway with the same settings mean the same pins."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.house import settings_in
from waygate_mcp.errors import ConfigError
from waygate_mcp.model.pins import Sighting
from waygate_mcp.runtime.pin_store import open_pin_store


async def test_what_one_stores_the_next_finds(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    async with open_pin_store(settings) as store:
        (pin,) = await store.see([Sighting("files", "tool", "read", "a" * 64, "{}", True)])
    async with open_pin_store(settings) as store:
        assert list(await store.load()) == [pin]


async def test_another_database_is_another_store(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, db_url=f"sqlite:///{tmp_path / 'other.db'}")
    async with open_pin_store(settings) as store:
        assert list(await store.load()) == []
    assert (tmp_path / "other.db").exists()


async def test_an_address_of_no_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        async with open_pin_store(settings_in(tmp_path, db_url="mysql://x/y")):
            raise AssertionError
