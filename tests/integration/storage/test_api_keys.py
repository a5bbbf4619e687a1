"""The repository of keys, and the one in memory that tests use, against one contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.integration.storage.conftest import DATABASES, address_of
from tests.support.keys import START, MemoryKeys, stored
from waygate_mcp.model.keys import StoredKey
from waygate_mcp.model.permissions import Narrowing
from waygate_mcp.model.ports import KeyStore
from waygate_mcp.storage.api_keys import ApiKeys
from waygate_mcp.storage.engine import Database, database_url

LATER = START + timedelta(hours=1)


@pytest.fixture(params=["memory", *DATABASES])
async def keys(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KeyStore]:
    if request.param == "memory":
        yield MemoryKeys()
        return
    address = address_of(request.param, request, tmp_path)
    async with Database(database_url(address, tmp_path)) as database:
        yield ApiKeys(database)


async def test_a_key_is_given_back_as_it_was_kept(keys: KeyStore) -> None:
    wanted = stored(
        roles=("a", "b"),
        narrowing=Narrowing(("dev",), ("files",), ("*read*",)),
        limits=("5/minute",),
        expires_at=LATER,
    )
    kept = await keys.add(wanted)
    assert kept.version > 0
    assert await keys.find(wanted.id) == kept
    assert await keys.changed_since(0) == [kept]
    assert await keys.find("nobody") is None


async def test_whoever_polls_sees_each_change_once_and_in_order(keys: KeyStore) -> None:
    first = await keys.add(stored("a" * 12))
    second = await keys.add(stored("b" * 12))
    assert [key.id for key in await keys.changed_since(0)] == [first.id, second.id]
    gone = await keys.revoke(first.id, LATER)
    assert gone is not None
    assert await keys.changed_since(second.version) == [gone]
    assert await keys.changed_since(gone.version) == []


async def test_a_rotation_keeps_the_hash_before_and_a_revocation_neither(keys: KeyStore) -> None:
    key = await keys.add(stored(digest=b"1" * 32))
    turned = await keys.rotate(key.id, b"2" * 32, LATER, START)
    assert turned is not None
    assert (turned.digest, turned.previous_digest, turned.previous_until) == (
        b"2" * 32,
        b"1" * 32,
        LATER,
    )
    gone = await keys.revoke(key.id, LATER)
    assert gone is not None
    assert (gone.revoked_at, gone.previous_digest, gone.previous_until) == (LATER, None, None)
    for answer in (
        await keys.revoke(key.id, LATER),
        await keys.rotate(key.id, b"3" * 32, LATER, LATER),
        await keys.revoke("nobody", LATER),
    ):
        assert answer is None
    assert await keys.find(key.id) == gone


async def test_a_use_is_no_change(keys: KeyStore) -> None:
    key: StoredKey = await keys.add(stored())
    await keys.note_use({key.id: LATER, "nobody": LATER})
    found = await keys.find(key.id)
    assert found is not None
    assert (found.last_used_at, found.version) == (LATER, key.version)
