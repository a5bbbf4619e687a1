"""Whose a name is: the first claimant's, within bounds, kept by a store that may fail."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import pytest

from waygate_mcp.errors import StorageError
from waygate_mcp.gateway import name_table
from waygate_mcp.gateway.name_table import PREFIX, NameTable
from waygate_mcp.model.catalog import NameClaim


def claim(name: str, provider: str, original: str = "x", kind: str = "tool") -> NameClaim:
    return NameClaim("default", kind, name, provider, original)


class Store:
    """A store in memory that another process may have written to, and that may be full."""

    def __init__(self, *claims: NameClaim) -> None:
        self.claims = {one.key: one for one in claims}
        self.asked: list[NameClaim] = []
        self.is_full = False

    async def load(self) -> Sequence[NameClaim]:
        return tuple(self.claims.values())

    async def claim(self, wanted: Mapping[NameClaim, NameClaim | None]) -> Sequence[NameClaim]:
        if self.is_full:
            raise StorageError("no space left")
        self.asked += wanted
        for one, void in wanted.items():
            if self.claims.get(one.key) in (None, void):
                self.claims[one.key] = one
        return [self.claims[one.key] for one in wanted]


async def test_the_first_claimant_keeps_a_name() -> None:
    table = NameTable()
    assert table.owner("default", "tool", "greet") is None
    await table.claim({claim("greet", "one"): None})
    await table.claim({claim("greet", "two"): None})
    assert table.owner("default", "tool", "greet") == claim("greet", "one")
    assert table.owner("other", "tool", "greet") is None
    assert table.owner("default", "prompt", "greet") is None


async def test_a_void_claim_gives_way_and_no_other() -> None:
    table = NameTable()
    first, second, third = (claim("greet", name) for name in ("one", "two", "three"))
    await table.claim({first: None})
    await table.claim({second: third})
    assert table.owner("default", "tool", "greet") == first
    await table.claim({second: first})
    assert table.owner("default", "tool", "greet") == second


async def test_the_next_process_knows_what_was_stored() -> None:
    store = Store()
    await NameTable(store).claim({claim("greet", "one"): None, claim("a", "one", "", PREFIX): None})
    table = NameTable(store)
    await table.load()
    assert table.owner("default", "tool", "greet") == claim("greet", "one")
    assert table.prefix("default", "a") == ""
    assert table.prefix("default", "b") is None


async def test_who_was_first_in_another_process_is_first_here() -> None:
    store = Store(claim("greet", "two"))
    table = NameTable(store)  # it was stored after we loaded
    await table.claim({claim("greet", "one"): None})
    assert table.owner("default", "tool", "greet") == claim("greet", "two")


async def test_names_of_resources_and_very_long_ones_are_not_stored() -> None:
    store = Store()
    table = NameTable(store)
    fleeting = claim("memo://a", "one", kind="resource")
    long = claim("x" * 2_000, "one")
    await table.claim({fleeting: None, long: None})
    assert store.asked == []
    assert table.owner("default", "resource", "memo://a") == fleeting
    assert table.owner("default", "tool", long.name) == long


async def test_a_full_disk_is_told_once_and_claims_hold_for_this_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Store()
    store.is_full = True
    table = NameTable(store)
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            await table.claim({claim(f"t{number}", "one"): None})
    assert table.owner("default", "tool", "t2") == claim("t2", "one")
    assert [record.getMessage() for record in caplog.records] == [
        "public names are not kept for the next start: no space left"
    ]
    store.is_full = False
    await table.claim({claim("t3", "one"): None})
    store.is_full = True
    await table.claim({claim("t4", "one"): None})
    assert len(caplog.records) == 2  # it had worked meanwhile


async def test_who_claims_too_much_loses_its_own_oldest_and_nobody_elses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(name_table, "MAX_CLAIMS", 3)
    table = NameTable()
    await table.claim({claim("mine", "honest"): None})
    await table.claim({claim(f"t{number}", "flood"): None for number in range(10)})
    assert table.owner("default", "tool", "mine") is not None
    held = [n for n in range(10) if table.owner("default", "tool", f"t{n}") is not None]
    assert held == [7, 8, 9]


async def test_a_name_that_changed_hands_counts_for_its_new_holder_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(name_table, "MAX_CLAIMS", 2)
    table = NameTable()
    old = claim("a", "one")
    await table.claim({old: None, claim("b", "one"): None})
    await table.claim({claim("a", "two"): old})
    await table.claim({claim("c", "one"): None})
    owners = {name: table.owner("default", "tool", name) for name in "abc"}
    assert {name: one and one.provider for name, one in owners.items()} == {
        "a": "two",
        "b": "one",
        "c": "one",
    }


async def test_a_server_with_new_names_all_the_time_is_written_down_now_and_then() -> None:
    store = Store()
    now_s = [0.0]
    table = NameTable(store, lambda: now_s[0])
    for number in range(100):
        await table.claim({claim(f"t{number}", "flood"): None})
    assert len(store.claims) == name_table.WRITES_AT_ONCE
    assert table.owner("default", "tool", "t99") is not None  # it holds all the same
    now_s[0] += name_table.WRITE_EVERY_S
    await table.claim({claim("t100", "flood"): None})
    assert len(store.claims) == 101  # with all that waited
    await table.claim({claim("t101", "flood"): None})
    assert len(store.claims) == 101


async def test_what_waits_to_be_written_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_table, "MAX_CLAIMS", 30)
    store = Store()
    table = NameTable(store, lambda: 0.0)
    for number in range(52):
        await table.claim({claim(f"t{number}", "flood"): None})
    assert len(store.claims) == 51


async def test_there_is_nothing_to_load_without_a_store() -> None:
    await NameTable().load()
