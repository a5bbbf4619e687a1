"""Pinned definitions: which definition of an upstream's entry is trusted, and which one waits.

Knows how a pin changes when a definition is seen, approved or rejected. Refuses to know where pins are
kept (`ports.PinStore`) and how a digest is made (`policy/definitions.py`).

    nothing --seen, trusted-->     approved
    nothing --seen-->              pending
    pending --another seen-->      pending, with that one
    approved --another seen-->     changed
    changed --another seen-->      changed, with that one
    pending, changed --approved--> approved
    changed --rejected-->          approved, as before

A change waits until somebody decides, whatever the upstream shows meanwhile: one that shows different
things in turn gains nothing.
Spec: threat model rule 24.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from waygate_mcp.model.catalog import Kind

__all__ = [
    "INSTRUCTIONS",
    "KEPT_DIGESTS",
    "PINNED_KINDS",
    "Approval",
    "Pin",
    "PinState",
    "Sighting",
    "approved",
    "rejected",
    "seen",
]

PinState = Literal["approved", "pending", "changed"]

INSTRUCTIONS = "instructions"
"""The kind of the pin of an upstream's advice to models; its name is empty."""

PINNED_KINDS = (Kind.TOOL, Kind.PROMPT, Kind.TEMPLATE)
"""Kinds of entries that are pinned. Resources are data: their list changes with every file."""

KEPT_DIGESTS = 8
"""Approved digests of one entry that stay in force: an upstream may define it differently for clients
that can do different things (decisions.md 24)."""


class Sighting(msgspec.Struct, frozen=True):
    """A definition an upstream was seen to give. `is_trusted` says that a new one is approved by that."""

    upstream: str
    kind: str
    name: str
    digest: str
    definition: str
    is_trusted: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """Whose definition it is."""
        return (self.upstream, self.kind, self.name)


class Approval(msgspec.Struct, frozen=True):
    """Somebody's decision about exactly the definition with this digest."""

    upstream: str
    kind: str
    name: str
    digest: str

    @property
    def key(self) -> tuple[str, str, str]:
        """Whose definition it is."""
        return (self.upstream, self.kind, self.name)


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one entry of one upstream. Times are Unix seconds.

    `accepted` are the digests in force, newest first; empty while it is pending. `definition` is the
    one approved last, None while it is pending. `waiting_digest` and `waiting_definition` are what waits
    for a decision. `version` grows over all pins of a store: pollers ask for what is newer than they saw.
    """

    upstream: str
    kind: str
    name: str
    state: PinState
    accepted: tuple[str, ...] = ()
    definition: str | None = None
    waiting_digest: str | None = None
    waiting_definition: str | None = None
    first_seen_at: float = 0.0
    changed_at: float = 0.0
    approved_at: float | None = None
    approved_by: str | None = None
    version: int = 0

    @property
    def key(self) -> tuple[str, str, str]:
        """Whose definition it is."""
        return (self.upstream, self.kind, self.name)


def seen(pin: Pin | None, sighting: Sighting, now: float) -> Pin | None:
    """Give the pin after a sighting, None where it stays as it is."""
    if pin is None:
        fresh = Pin(
            upstream=sighting.upstream,
            kind=sighting.kind,
            name=sighting.name,
            state="pending",
            waiting_digest=sighting.digest,
            waiting_definition=sighting.definition,
            first_seen_at=now,
            changed_at=now,
        )
        return approved(fresh, sighting.digest, "first use", now) if sighting.is_trusted else fresh
    if sighting.digest in pin.accepted or sighting.digest == pin.waiting_digest:
        return None
    return msgspec.structs.replace(
        pin,
        state="pending" if pin.state == "pending" else "changed",
        waiting_digest=sighting.digest,
        waiting_definition=sighting.definition,
        changed_at=now,
    )


def approved(pin: Pin, digest: str, by: str, now: float) -> Pin | None:
    """Give the pin after an approval, None where another definition waits, or none."""
    if pin.waiting_digest is None or pin.waiting_digest != digest:
        return None
    return msgspec.structs.replace(
        pin,
        state="approved",
        accepted=(digest, *pin.accepted)[:KEPT_DIGESTS],
        definition=pin.waiting_definition,
        waiting_digest=None,
        waiting_definition=None,
        approved_at=now,
        approved_by=by,
    )


def rejected(pin: Pin, digest: str) -> Pin | None:
    """Give the pin after a rejection, None where another definition waits, or nothing was approved.

    What was approved is in force again; a change that is still shown will be seen, and wait, again.
    """
    if pin.state != "changed" or pin.waiting_digest != digest:
        return None
    return msgspec.structs.replace(
        pin, state="approved", waiting_digest=None, waiting_definition=None
    )
