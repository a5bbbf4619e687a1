"""`/admin/v1/audit`: questions to the copy of the audit journal.

Knows what can be asked. Refuses to be the record: whether it is whole, `waygate audit verify` says.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from waygate_mcp.runtime.house import House
from waygate_mcp.web.access import FAILURES, Needs
from waygate_mcp.web.guard import Guard
from waygate_mcp.web.paging import Limit, Page, PageNumber, Window, cut

__all__ = ["router"]


class Questions(BaseModel):
    """What is asked for; each is the exact text of the record."""

    model_config = ConfigDict(extra="ignore")

    kind: Annotated[str | None, Field(max_length=64)] = None
    principal: Annotated[str | None, Field(max_length=512)] = None
    endpoint: Annotated[str | None, Field(max_length=512)] = None
    method: Annotated[str | None, Field(max_length=512)] = None
    upstream: Annotated[str | None, Field(max_length=512)] = None
    name: Annotated[str | None, Field(max_length=1024)] = None
    outcome: Annotated[str | None, Field(max_length=128)] = None
    request_id: Annotated[str | None, Field(max_length=256)] = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None


class AuditPage(Page):
    """One page of records, newest first."""

    records: list[dict[str, Any]] = Field(description="As they stand in the journal.")
    behind: int = Field(
        description="Records of the process that answers which are not yet copied, so not found here."
    )


class AuditRoutes:
    """The routes of this module, for one house."""

    def __init__(self, house: House[Guard]) -> None:
        self._house = house

    async def find(
        self,
        request: Request,
        response: Response,
        asked: Annotated[Questions, Query()],
        page: PageNumber = 1,
        limit: Limit = 10,
    ) -> AuditPage:
        """Give records by kind, principal, endpoint, method, upstream, name, outcome, request and time."""
        audit = self._house.foundation.audit
        wanted = asked.model_dump(exclude_none=True, exclude={"since", "until"})
        skip = (page - 1) * limit
        total, lines = await audit.log.find(
            wanted, asked.since, asked.until, skip=skip, limit=limit
        )
        rows = Window(total, [msgspec.json.decode(line) for line in lines])
        shown = cut(rows, page, limit, request, response)
        return AuditPage(total=total, page=page, limit=limit, records=shown, behind=audit.behind)


def router(house: House[Guard]) -> APIRouter:
    """Give the routes, for one house."""
    made = APIRouter(
        tags=["audit"], dependencies=[Depends(Needs("audit:read"))], responses={**FAILURES}
    )
    made.add_api_route("/audit", AuditRoutes(house).find, summary="Records of the audit journal")
    return made
