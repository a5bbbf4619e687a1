"""The repository of secrets, on SQLite; `tests/integration/storage` runs it on PostgreSQL too."""

from __future__ import annotations

from waygate_mcp.storage.secrets import Fetched


def test_what_was_fetched_shows_names_alone() -> None:
    assert repr(Fetched({"A": "canary"}, {"B": "is damaged"})) == (
        "Fetched(['A'], problems={'B': 'is damaged'})"
    )
