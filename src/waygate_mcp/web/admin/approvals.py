"""Definitions of upstreams that wait for somebody to look at them: `/admin/v1/approvals`.

Knows how what waits is shown and decided about. Refuses to approve anything but exactly the definition
whose digest the caller gives: that is the one that was looked at.
Spec: threat model rule 24.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from waygate_mcp.model.pins import Approval
from waygate_mcp.policy.approval_desk import ApprovalDesk
from waygate_mcp.policy.held import HeldEntry, held_entries, waiting_pins
from waygate_mcp.policy.poison import visible
from waygate_mcp.runtime.house import House
from waygate_mcp.telemetry.logs import get_logger
from waygate_mcp.web.access import FAILURES, Needs, admission_of, generation_of
from waygate_mcp.web.guard import Guard
from waygate_mcp.web.paging import Limit, Page, PageNumber, cut

__all__ = ["router"]

MAX_DECISIONS = 5_000

_log = get_logger("web.admin.approvals")

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Change(BaseModel):
    """A field that differs from the definition that was approved last."""

    path: str = Field(description="Where it stands, as `inputSchema.properties.path.type`.")
    approved: str | None = Field(description="The approved value as JSON; null: it was not there.")
    waiting: str | None = Field(description="The new value as JSON; null: it is gone.")


class SignShown(BaseModel):
    """A sign that a definition means to deceive."""

    path: str
    kind: str
    text: str
    grave: bool = Field(description="Whether no honest definition has a reason for it.")


class Held(BaseModel):
    """A definition that waits. Characters nobody can see are shown by their number."""

    upstream: str
    kind: str = Field(description="`tool`, `prompt`, `resource template` or `instructions`.")
    name: str = Field(description="The upstream's own name of it; empty for its instructions.")
    state: str = Field(
        description="`pending`: nothing of it was ever approved; `changed`: another was."
    )
    digest: str = Field(description="What an approval names.")
    seen_at: datetime
    changes: list[Change]
    omitted: int = Field(description="How many more fields differ.")
    signs: list[SignShown]


class HeldList(Page):
    """One page of what waits."""

    approvals: list[Held]


class Decision(BaseModel):
    """A decision about exactly one definition."""

    model_config = ConfigDict(extra="forbid")

    upstream: str = Field(max_length=63)
    kind: str = Field(max_length=63)
    name: str = Field(max_length=1024)
    digest: Digest


class Decisions(BaseModel):
    """What to decide. Each by itself: one that waits no more does not hinder the others."""

    model_config = ConfigDict(extra="forbid")

    decision: Literal["approve", "reject"] = Field(
        "approve", description="`reject` forgets a change and leaves what was approved in force."
    )
    definitions: list[Decision] = Field(min_length=1, max_length=MAX_DECISIONS)


class Decided(BaseModel):
    """What was decided, and what was not: another definition waits there by now, or none."""

    decided: list[Decision]
    refused: list[Decision]


class ApprovalRoutes:
    """The routes of this module, for one house."""

    def __init__(self, house: House[Guard]) -> None:
        self._house = house

    async def list_held(
        self,
        request: Request,
        response: Response,
        page: PageNumber = 1,
        limit: Limit = 10,
        upstream: Annotated[
            str | None, Query(max_length=63, description="Only of this one.")
        ] = None,
    ) -> HeldList:
        """List what waits, with what changed and the signs of deceit in it."""
        known = await self._house.foundation.pins.store.load()
        waiting = waiting_pins(known, upstream)
        shown = cut(waiting, page, limit, request, response)
        held = await asyncio.to_thread(held_entries, shown, known)
        listed = [_shown(one) for one in held]
        return HeldList(approvals=listed, total=len(waiting), page=page, limit=limit)

    async def decide(self, request: Request, response: Response, body: Decisions) -> Decided:
        """Approve or reject definitions, each named by its digest.

        In force at once here, and within a second in other processes.
        """
        foundation, admission = self._house.foundation, admission_of(request)
        is_recorded = generation_of(request).document.audit.enabled
        desk = ApprovalDesk(foundation.pins.store, foundation.audit.trail if is_recorded else None)
        wanted = [
            Approval(one.upstream, one.kind, one.name, one.digest) for one in body.definitions
        ]
        found = await desk.decide(
            body.decision, wanted, by=admission.principal.id, request_id=admission.request_id
        )
        foundation.pins.wake()
        keys = {pin.key for pin in found}
        decided = [one for one in body.definitions if (one.upstream, one.kind, one.name) in keys]
        refused = [one for one in body.definitions if one not in decided]
        _log.info(
            "definitions_decided", decision=body.decision, by=admission.principal.id,
            count=len(decided), refused=len(refused),
            upstreams=sorted({one.upstream for one in decided}),
        )  # fmt: skip
        response.headers["cache-control"] = "no-store"
        return Decided(decided=decided, refused=refused)


def router(house: House[Guard]) -> APIRouter:
    """Give the routes, for one house."""
    routes = ApprovalRoutes(house)
    made = APIRouter(
        prefix="/approvals",
        tags=["approvals"],
        dependencies=[Depends(Needs("admin:approvals"))],
        responses={**FAILURES},
    )
    made.add_api_route("", routes.list_held, summary="Definitions that wait for approval")
    made.add_api_route(
        "/decisions", routes.decide, methods=["POST"], summary="Approve or reject definitions"
    )
    return made


def _shown(entry: HeldEntry) -> Held:
    return Held(
        upstream=entry.upstream,
        kind=entry.kind,
        name=entry.name,
        state=entry.state,
        digest=entry.digest,
        seen_at=datetime.fromtimestamp(entry.seen_at, UTC),
        changes=[
            Change(path=visible(one.path), approved=_visible(one.old), waiting=_visible(one.new))
            for one in entry.changes
        ],
        omitted=entry.omitted,
        signs=[
            SignShown(
                path=visible(one.path), kind=one.kind, text=visible(one.text), grave=one.is_grave
            )
            for one in entry.signs
        ],
    )


def _visible(value: str | None) -> str | None:
    return None if value is None else visible(value)
