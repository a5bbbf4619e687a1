"""Documents that were put in force, on both databases."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from waygate_mcp.model.applied import digest_of
from waygate_mcp.storage import config_history
from waygate_mcp.storage.config_history import ConfigHistory
from waygate_mcp.storage.engine import Database

NOW = 1_790_000_000.0


async def add(history: ConfigHistory, text: str, *, unless_last: bool = False) -> int | None:
    entry = await history.add(
        digest_of(text.encode()), text, "key:ada", "why", unless_last=unless_last
    )
    return None if entry is None else entry.number


async def test_entries_are_numbered_found_paged_and_taken_back(database: Database) -> None:
    history = ConfigHistory(database, lambda: NOW)
    numbers = [await add(history, text) for text in ("one", "two\n# ü", "three")]
    assert numbers == sorted(set(numbers), key=lambda one: one or 0)
    total, found = await history.page(skip=1, limit=1)
    assert (total, [one.text for one in found]) == (3, ["two\n# ü"])
    entry = await history.find(found[0].number)
    assert entry == found[0]
    assert entry is not None
    assert entry.applied_at == datetime.fromtimestamp(NOW, UTC)
    assert (entry.applied_by, entry.reason, entry.is_masked) == ("key:ada", "why", False)
    await history.remove(entry.number)
    assert await history.find(entry.number) is None
    assert (await history.page(skip=0, limit=9))[0] == 2


async def test_what_is_in_force_already_is_noted_once_whoever_is_first(database: Database) -> None:
    history = ConfigHistory(database, lambda: NOW)
    made = await asyncio.gather(*(add(history, "one", unless_last=True) for _ in range(4)))
    assert sorted(one is None for one in made) == [False, True, True, True]
    assert await add(history, "two", unless_last=True)
    assert await add(history, "one", unless_last=True)


async def test_the_newest_are_kept(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_history, "KEPT", 3)
    history = ConfigHistory(database, lambda: NOW)
    for number in range(5):
        await add(history, str(number))
    total, found = await history.page(skip=0, limit=9)
    assert (total, [one.text for one in found]) == (3, ["4", "3", "2"])
