"""`/admin/v1/endpoints`: what each endpoint binds and shows, and what of it is hidden and why.

Knows how the state of an endpoint is shown, from memory. Refuses to change it: that is the document's.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from waygate_mcp.config.document import endpoint_path
from waygate_mcp.gateway.endpoint import Endpoint as Served
from waygate_mcp.runtime.house import House
from waygate_mcp.web.access import FAILURES, Needs, admission_of, generation_of
from waygate_mcp.web.guard import Guard
from waygate_mcp.web.paging import Limit, Page, PageNumber, cut
from waygate_mcp.web.tools import endpoint_named

__all__ = ["router"]

MAX_HIDDEN = 1_000


class Bound(BaseModel):
    """A plugin or upstream an endpoint shows."""

    name: str
    prefix: str = Field(description="The text before its names.")
    uri_prefix: str = Field(description="The text before its URIs.")
    lists: dict[str, str] = Field(description="How each of its lists was last come by.")


class Hidden(BaseModel):
    """An entry that is not shown."""

    kind: str
    provider: str
    original: str = Field(description="Its own name.")
    name: str = Field(description="The name it would have.")
    reason: str


class Endpoint(BaseModel):
    """One endpoint."""

    name: str
    path: str = Field(description="Where MCP clients find it.")
    providers: list[Bound] = Field(description="What it shows, in the order of its lists.")
    section: dict[str, Any] = Field(description="What the document says of it.")


class EndpointList(Page):
    """One page of endpoints, in the order of the document."""

    endpoints: list[Endpoint]


class WholeEndpoint(Endpoint):
    """The same, with what it hides."""

    hidden: list[Hidden] = Field(
        description="Entries the lists last looked at left out; 1000 at most."
    )
    unknown: list[str] = Field(
        description="Names in `rename`, `titles` and `describe` that no tool was seen to have."
    )


async def list_endpoints(
    request: Request, response: Response, page: PageNumber = 1, limit: Limit = 10
) -> EndpointList:
    """List the endpoints and what each of them binds."""
    principal = admission_of(request).principal
    found = [
        one
        for name, one in generation_of(request).gateway.endpoints.items()
        if principal.may_enter(name)
    ]
    shown = cut(found, page, limit, request, response)
    return EndpointList(
        endpoints=[Endpoint(**_told(request, one)) for one in shown],
        total=len(found),
        page=page,
        limit=limit,
    )


async def show_endpoint(request: Request, response: Response, name: str) -> WholeEndpoint:
    """Show one endpoint, with what it hides and why."""
    found = endpoint_named(request, name)
    principal, status = admission_of(request).principal, found.status()
    response.headers["cache-control"] = "no-store"
    return WholeEndpoint(
        **_told(request, found),
        hidden=[
            Hidden(
                kind=one.kind,
                provider=one.provider,
                original=one.original,
                name=one.name,
                reason=one.reason,
            )
            for one in status.hidden[:MAX_HIDDEN]
            if principal.may_reach(name, one.provider)
        ],
        unknown=list(status.unknown),
    )


def router(_house: House[Guard]) -> APIRouter:
    """Give the routes; they need nothing of the house but the generation a request is served by."""
    made = APIRouter(
        prefix="/endpoints",
        tags=["configuration"],
        dependencies=[Depends(Needs("admin:config"))],
        responses={**FAILURES},
    )
    made.add_api_route("", list_endpoints, summary="All endpoints")
    made.add_api_route("/{name}", show_endpoint, summary="One endpoint")
    return made


def _told(request: Request, endpoint: Served) -> dict[str, Any]:
    principal, name = admission_of(request).principal, endpoint.name
    section = generation_of(request).document.endpoints[name]
    return {
        "name": name,
        "path": endpoint_path(name),
        "providers": [
            Bound(
                name=one.provider,
                prefix=one.prefix,
                uri_prefix=one.uri_prefix,
                lists={kind: str(how) for kind, how in one.lists.items()},
            )
            for one in endpoint.status().bindings
            if principal.may_reach(name, one.provider)
        ],
        "section": section.model_dump(mode="json", exclude_defaults=True),
    }
