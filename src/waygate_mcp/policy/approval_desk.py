"""Deciding about definitions that wait, wherever that is asked for: in the journal first, then in force.

Knows the order of record and decision. Refuses to know who may decide: its callers have asked.
Spec: threat model rules 24 and 37.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from waygate_mcp.model.pins import Approval, Pin
from waygate_mcp.model.ports import AuditTrail, PinStore

__all__ = ["ApprovalDesk", "Verdict"]

Verdict = Literal["approve", "reject"]
_IN_A_RECORD = 20
"""How many definitions one audit record names: its size is bounded, as that of every record."""


class ApprovalDesk:
    """Approves and rejects. `trail` records each decision before it is in force; None: nothing is recorded."""

    def __init__(self, store: PinStore, trail: AuditTrail | None = None) -> None:
        self._store = store
        self._trail = trail

    async def decide(
        self, verdict: Verdict, approvals: Sequence[Approval], *, by: str, request_id: str = ""
    ) -> list[Pin]:
        """Decide about each definition by itself; give the pins of those that waited with that digest.

        Raises:
            StorageError: it cannot be recorded or stored; what was not recorded is not in force.
        """
        decided: list[Pin] = []
        for first in range(0, len(approvals), _IN_A_RECORD):
            some = approvals[first : first + _IN_A_RECORD]
            self._record(verdict, "begun", some, by, request_id)
            try:
                found = (
                    await self._store.approve(some, by)
                    if verdict == "approve"
                    else await self._store.reject(some)
                )
            except BaseException:
                self._record(verdict, "failed", some, by, request_id)
                raise
            keys = {pin.key for pin in found}
            done = [one for one in some if one.key in keys]
            self._record(verdict, "done", done, by, request_id)
            decided += found
        return decided

    def _record(
        self, verdict: Verdict, outcome: str, some: Sequence[Approval], by: str, request_id: str
    ) -> None:
        if self._trail is None:
            return
        named = [
            {"upstream": one.upstream, "kind": one.kind, "name": one.name, "digest": one.digest}
            for one in some
        ]
        self._trail.record(
            f"approvals.{verdict}",
            principal=by,
            outcome=outcome,
            details={"definitions": named},
            request_id=request_id,
        )
