from __future__ import annotations

import pytest

from tests.support.audit import NotedTrail
from waygate_mcp.errors import StorageError
from waygate_mcp.model.pins import Approval, Sighting
from waygate_mcp.policy.approval_desk import ApprovalDesk
from waygate_mcp.testing.pins import MemoryPins

DIGEST = "a" * 64


def approval(number: int, digest: str = DIGEST) -> Approval:
    return Approval("files", "tool", f"t{number}", digest)


async def full(count: int) -> MemoryPins:
    store = MemoryPins()
    await store.see(
        [Sighting("files", "tool", f"t{n}", DIGEST, "{}", is_trusted=False) for n in range(count)]
    )
    return store


async def test_a_decision_is_recorded_before_it_is_in_force_and_after() -> None:
    store, trail = await full(2), NotedTrail()
    desk = ApprovalDesk(store, trail)
    found = await desk.decide("approve", [approval(0), approval(1, "b" * 64)], by="key:a")
    assert [pin.name for pin in found] == ["t0"]
    assert [record[:3] for record in trail.records] == [
        ("approvals.approve", "key:a", "begun"),
        ("approvals.approve", "key:a", "done"),
    ]
    begun, done = (trail.details_of(n)["definitions"] for n in range(2))
    assert [one["name"] for one in begun] == ["t0", "t1"]
    assert done == [{"upstream": "files", "kind": "tool", "name": "t0", "digest": DIGEST}]
    await desk.decide("reject", [approval(1)], by="key:a")
    assert trail.records[-1][:3] == ("approvals.reject", "key:a", "done")
    assert trail.details_of(-1)["definitions"] == [], "what was never approved cannot be rejected"


async def test_what_cannot_be_recorded_is_not_decided() -> None:
    store, trail = await full(1), NotedTrail()
    trail.is_broken = True
    with pytest.raises(StorageError):
        await ApprovalDesk(store, trail).decide("approve", [approval(0)], by="key:a")
    assert [pin.state for pin in await store.load()] == ["pending"]


async def test_a_store_that_fails_is_recorded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    store, trail = await full(1), NotedTrail()

    async def fail(*_: object) -> None:
        raise StorageError("full")

    monkeypatch.setattr(store, "approve", fail)
    with pytest.raises(StorageError):
        await ApprovalDesk(store, trail).decide("approve", [approval(0)], by="key:a")
    assert [record[2] for record in trail.records] == ["begun", "failed"]


async def test_many_definitions_are_many_records_of_bounded_size() -> None:
    store, trail = await full(45), NotedTrail()
    found = await ApprovalDesk(store, trail).decide(
        "approve", [approval(n) for n in range(45)], by="key:a"
    )
    assert len(found) == 45
    sizes = [len(trail.details_of(n)["definitions"]) for n in range(0, 6, 2)]
    assert (len(trail.records), sizes) == (6, [20, 20, 5])


async def test_without_a_journal_it_is_decided_all_the_same() -> None:
    store = await full(1)
    assert len(await ApprovalDesk(store).decide("approve", [approval(0)], by="key:a")) == 1
