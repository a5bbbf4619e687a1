"""Which database and which clock a process has: for the house, and for commands beside it."""

from __future__ import annotations

from waygate_mcp.config.settings import Settings
from waygate_mcp.storage.engine import Database, database_url

__all__ = ["open_database"]


def open_database(settings: Settings) -> Database:
    """Give the configured database, to be entered by whoever uses it.

    Raises:
        ConfigError: its address is none.
    """
    given = settings.db_url.get_secret_value() if settings.db_url is not None else None
    return Database(database_url(given, settings.data_dir))
