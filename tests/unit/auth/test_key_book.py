from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest

from tests.support.keys import START, MemoryKeys, stored
from tests.support.virtual_time import virtual_time
from waygate_mcp.auth.key_book import KEEP_USE_EVERY_S, POLL_S, KeyBook
from waygate_mcp.errors import StorageError


class Wall:
    """A wall clock that is set."""

    def __init__(self) -> None:
        self.now_s = START.timestamp()

    def __call__(self) -> float:
        return self.now_s


def book(store: MemoryKeys) -> tuple[KeyBook, Wall, list[str]]:
    wall, ended = Wall(), list[str]()
    return KeyBook(store, wall, ended.append), wall, ended


async def test_what_changed_in_the_store_is_known_after_it_was_asked() -> None:
    store = MemoryKeys()
    keys, _, ended = book(store)
    await keys.refresh()
    assert keys.find("abcdefghijkl") is None
    kept = await store.add(stored())
    await keys.refresh()
    assert keys.find("abcdefghijkl") == kept
    await store.revoke(kept.id, START)
    await keys.refresh()
    found = keys.find(kept.id)
    assert found is not None
    assert found.revoked_at == START
    assert ended == [kept.id]


async def test_a_key_that_expires_ends_without_a_change_in_the_store() -> None:
    store = MemoryKeys()
    keys, wall, ended = book(store)
    await store.add(stored(expires_at=START + timedelta(minutes=1)))
    await keys.refresh()
    assert ended == []
    wall.now_s += 61
    await keys.refresh()
    await keys.refresh()
    assert ended == ["abcdefghijkl"]


@virtual_time
async def test_it_follows_the_store_and_survives_its_silence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = MemoryKeys()
    keys, wall, ended = book(store)
    await store.add(stored(expires_at=START + timedelta(minutes=1)))
    await keys.refresh()
    group = asyncio.TaskGroup()
    await group.__aenter__()
    group.create_task(keys.watch())
    with caplog.at_level(logging.WARNING):
        store.is_down = True
        await asyncio.sleep(POLL_S * 4)
        assert keys.find("abcdefghijkl") is not None
        wall.now_s += 61
        await asyncio.sleep(POLL_S * 2)
        assert ended == ["abcdefghijkl"]
        store.is_down = False
        await store.add(stored("mnopqrstuvwx"))
        await asyncio.sleep(POLL_S * 2)
    assert keys.find("mnopqrstuvwx") is not None
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "stay as they were known" in said[0]
    assert "up to date again" in said[1]
    keys.stop()
    await group.__aexit__(None, None, None)


@virtual_time
async def test_when_a_key_was_last_used_reaches_the_store_now_and_then() -> None:
    store = MemoryKeys()
    keys, wall, _ = book(store)
    await store.add(stored())
    await keys.refresh()
    await keys.keep_use()
    wall.now_s += 5
    keys.note_use("abcdefghijkl")
    group = asyncio.TaskGroup()
    await group.__aenter__()
    group.create_task(keys.watch())
    await asyncio.sleep(POLL_S * 2)
    assert store.keys["abcdefghijkl"].last_used_at is None
    wall.now_s += KEEP_USE_EVERY_S
    await asyncio.sleep(POLL_S * 2)
    assert store.keys["abcdefghijkl"].last_used_at == START + timedelta(seconds=5)
    keys.stop()
    await group.__aexit__(None, None, None)


async def test_a_use_that_could_not_be_kept_is_kept_later() -> None:
    store = MemoryKeys()
    keys, _, _ = book(store)
    await store.add(stored())
    keys.note_use("abcdefghijkl")
    store.is_down = True
    with pytest.raises(StorageError):
        await keys.keep_use()
    store.is_down = False
    await keys.keep_use()
    assert store.keys["abcdefghijkl"].last_used_at == START
