"""The pins of definitions for a command beside a running gateway, or without one.

Knows which database a process's settings mean. What is decided here reaches running gateways because they
ask the same database for what is new.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from waygate_mcp.config.settings import Settings
from waygate_mcp.model.ports import PinStore
from waygate_mcp.runtime.clock import Clock
from waygate_mcp.storage.engine import Database, database_url
from waygate_mcp.storage.tool_pins import ToolPins

__all__ = ["open_pin_store"]


@asynccontextmanager
async def open_pin_store(settings: Settings) -> AsyncIterator[PinStore]:
    """Open the database of these settings, and give its pins.

    Raises:
        ConfigError: the address is none.
        StorageError: it cannot be opened.
    """
    given = None if settings.db_url is None else settings.db_url.get_secret_value()
    async with Database(database_url(given, settings.data_dir)) as database:
        yield ToolPins(database, Clock().now)
