"""How a pin changes: each line of the table of its module."""

from __future__ import annotations

import msgspec

from waygate_mcp.model.pins import Approval, Pin, Sighting, approved, rejected, seen

A, B = "a" * 64, "b" * 64


def sight(digest: str, *, trusted: bool = False) -> Sighting:
    return Sighting("files", "tool", "read", digest, digest[:1], trusted)


def pin_of(found: Pin | None) -> Pin:
    assert found is not None
    return found


def test_the_table() -> None:
    pending = pin_of(seen(None, sight(A), 1.0))
    assert (pending.state, pending.waiting_digest, pending.first_seen_at) == ("pending", A, 1.0)
    trusted = pin_of(seen(None, sight(A, trusted=True), 1.0))
    assert (trusted.state, trusted.accepted, trusted.waiting_digest) == ("approved", (A,), None)
    assert (trusted.approved_at, trusted.approved_by) == (1.0, "first use")

    moved = pin_of(seen(pending, sight(B, trusted=True), 2.0))
    assert (moved.state, moved.waiting_digest) == ("pending", B)
    assert (moved.first_seen_at, moved.changed_at) == (1.0, 2.0)
    changed = pin_of(seen(trusted, sight(B, trusted=True), 2.0))
    assert (changed.state, changed.accepted, changed.definition) == ("changed", (A,), "a")
    assert (changed.waiting_digest, changed.waiting_definition) == (B, "b")

    accepted = pin_of(approved(changed, B, "me", 3.0))
    assert (accepted.state, accepted.accepted, accepted.definition) == ("approved", (B, A), "b")
    back = pin_of(rejected(changed, B))
    assert msgspec.structs.replace(back, changed_at=1.0) == trusted


def test_what_changes_nothing() -> None:
    trusted = pin_of(seen(None, sight(A, trusted=True), 1.0))
    changed = pin_of(seen(trusted, sight(B), 2.0))
    assert seen(trusted, sight(A), 3.0) is None
    assert seen(changed, sight(A), 3.0) is None
    assert seen(changed, sight(B), 3.0) is None
    assert approved(changed, A, "me", 3.0) is None
    assert approved(trusted, A, "me", 3.0) is None
    assert rejected(changed, A) is None
    assert rejected(trusted, A) is None
    assert rejected(pin_of(seen(None, sight(A), 1.0)), A) is None


def test_all_three_name_the_same_entry() -> None:
    key = ("files", "tool", "read")
    assert sight(A).key == key
    assert Approval(*key, A).key == key
    assert pin_of(seen(None, sight(A), 1.0)).key == key
