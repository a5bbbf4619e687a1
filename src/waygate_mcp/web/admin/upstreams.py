"""`/admin/v1/upstreams`: what the document says of each, how it is, and switching one on or off.

Knows how a section is shown beside the state of what it configures. Refuses to change anything by itself: to switch is
to put a document in force in which one word differs (`runtime.config_desk`).
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from waygate_mcp.config.client_block import client_names
from waygate_mcp.config.document import Document
from waygate_mcp.config.document_text import set_member
from waygate_mcp.errors import UnknownNameError
from waygate_mcp.runtime.clear_secrets import without_secrets_in
from waygate_mcp.runtime.config_desk import desk_of
from waygate_mcp.runtime.house import House
from waygate_mcp.web.access import FAILURES, Needs, admission_of, generation_of
from waygate_mcp.web.admin.config import InForceNow, WantedChange, explained, in_force, wish_of
from waygate_mcp.web.guard import Guard
from waygate_mcp.web.paging import Limit, Page, PageNumber, cut
from waygate_mcp.web.problems import Refused
from waygate_mcp.web.servers import Server, server_of

__all__ = ["router"]


class Upstream(BaseModel):
    """One upstream of the document."""

    name: str
    block: Literal["upstreams", "mcpServers"] = Field(description="Where it stands.")
    enabled: bool
    quarantine: str = Field(description="What becomes of its definitions nobody approved.")
    endpoints: list[str] = Field(description="The endpoints that bind it.")
    section: dict[str, Any] = Field(
        description="What the document says of it, references as they stand there."
    )
    state: Server | None = Field(description="How it is; null while it is switched off.")


class UpstreamList(Page):
    """One page of upstreams, in the order of the document."""

    upstreams: list[Upstream]


class UpstreamRoutes:
    """The routes of this module, for one house."""

    def __init__(self, house: House[Guard]) -> None:
        self._house = house

    async def list_upstreams(
        self, request: Request, response: Response, page: PageNumber = 1, limit: Limit = 10
    ) -> UpstreamList:
        """List the upstreams of the document, those that are switched off too."""
        document = generation_of(request).document
        principal = admission_of(request).principal
        names = [name for name in document.upstreams if principal.may_know(name)]
        shown = cut(names, page, limit, request, response)
        return UpstreamList(
            upstreams=[_shown(request, document, name) for name in shown],
            total=len(names),
            page=page,
            limit=limit,
        )

    async def show(self, request: Request, response: Response, name: str) -> Upstream:
        """Show one upstream."""
        response.headers["cache-control"] = "no-store"
        return _shown(request, _document_with(request, name), name)

    async def switch(
        self, is_on: bool, request: Request, response: Response, name: str, wanted: WantedChange
    ) -> InForceNow:
        """Put a document in force that differs in `enabled` of one upstream."""
        document, desk = _document_with(request, name), desk_of(self._house)
        if name in client_names(document).values():
            text = "It stands below `mcpServers`, whose shape is the clients'; change it in the document."
            raise Refused(409, "not_ours", text)
        async with explained(self._house):
            text = set_member(desk.text, "upstreams", name, "enabled", is_on, source="")
            reason = wanted.reason or f"{'enable' if is_on else 'disable'} upstream {name}"
            done = await desk.apply(text, wish_of(request, wanted.based_on, reason))
        return in_force(response, done)


def router(house: House[Guard]) -> APIRouter:
    """Give the routes, for one house."""
    routes = UpstreamRoutes(house)
    made = APIRouter(
        prefix="/upstreams",
        tags=["configuration"],
        dependencies=[Depends(Needs("admin:config"))],
        responses={**FAILURES},
    )

    async def enable(
        request: Request, response: Response, name: str, wanted: WantedChange
    ) -> InForceNow:
        """Switch an upstream on, in the document and at once."""
        return await routes.switch(True, request, response, name, wanted)

    async def disable(
        request: Request, response: Response, name: str, wanted: WantedChange
    ) -> InForceNow:
        """Switch an upstream off, in the document and at once."""
        return await routes.switch(False, request, response, name, wanted)

    add = made.add_api_route
    post = partial(add, methods=["POST"])
    add("", routes.list_upstreams, summary="The upstreams of the document")
    add("/{name}", routes.show, summary="One upstream")
    post("/{name}/enable", enable, summary="Switch an upstream on")
    post("/{name}/disable", disable, summary="Switch an upstream off")
    return made


def _document_with(request: Request, name: str) -> Document:
    """Give the document in force, which has an upstream of that name.

    Raises:
        UnknownNameError: it has none, for this caller.
    """
    document = generation_of(request).document
    if name not in document.upstreams or not admission_of(request).principal.may_know(name):
        raise UnknownNameError("upstream", name)
    return document


def _shown(request: Request, document: Document, name: str) -> Upstream:
    section = document.upstreams[name]
    opened = generation_of(request).upstreams.get(name)
    said = {"upstreams": {name: section.model_dump(mode="json", exclude_defaults=True)}}
    is_client = name in client_names(document).values()
    return Upstream(
        name=name,
        block="mcpServers" if is_client else "upstreams",
        enabled=section.enabled,
        quarantine=document.quarantine_of(name),
        endpoints=[one for one in document.endpoints if name in document.holders(one)],
        section=without_secrets_in(said)["upstreams"][name],
        state=None if opened is None else server_of(opened, request),
    )
