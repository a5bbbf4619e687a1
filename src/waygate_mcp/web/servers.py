"""Upstreams for operators: `/mcp/servers`, what one of them offers, and opening one anew.

Knows how the state of an upstream is shown. Refuses to know how it comes about, and to change what is
configured: that is the document's.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
from fastapi import Depends, FastAPI
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from waygate_mcp.config.document import DEFAULT_ENDPOINT
from waygate_mcp.errors import UnknownNameError
from waygate_mcp.model.catalog import Kind, Viewer
from waygate_mcp.model.ports import Provider
from waygate_mcp.model.principal import Principal
from waygate_mcp.policy.pinned import PinnedProvider
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES
from waygate_mcp.upstreams.status import Status
from waygate_mcp.upstreams.steady import SteadyUpstream
from waygate_mcp.web.access import FAILURES, Needs, admission_of, generation_of
from waygate_mcp.web.paging import Limit, Page, PageNumber, cut

__all__ = ["Server", "add_routes", "server_of"]

READ = Needs("servers:read")
ADMIN = Needs("admin:servers")


class Server(BaseModel):
    """How one upstream is."""

    name: str = Field(description="Its name in the document.")
    transport: str = Field(description="`http` or `stdio`.")
    state: str = Field(
        description="`new`, `opening`, `ready`, `failing` (errors of late, or not opened), `down` "
        "(left alone for a while) or `closed`."
    )
    up: bool = Field(description="Whether there is a way to it now.")
    eras: list[str] = Field(
        description="The eras it is known to speak; from memory while it is down."
    )
    revision: str = Field(description="The revision of the specification it is spoken to in.")
    breaker: str = Field(description="`closed`, `open` or `half-open`.")
    retry_s: float = Field(
        description="Seconds until the next call is let through; 0 where one may."
    )
    latency_s: float | None = Field(description="Moving average over calls that were answered.")
    in_flight: int = Field(description="Calls it works on.")
    waiting: int = Field(description="Calls that wait for their turn.")
    opened: int = Field(description="How often it was opened since it is configured so.")
    interactive: bool = Field(
        description="Whether it was seen asking where nobody can say who is meant."
    )
    refused_questions: int = Field(description="Questions of it that nobody could be asked.")
    sandbox: str = Field(description="The walls round its process; empty over HTTP.")
    held: int = Field(description="Definitions of it that wait for approval or were dropped.")
    last_error: str = Field(description="What went wrong last; empty while all is well.")


class ServerList(Page):
    """One page of upstreams, in the order of the document."""

    servers: list[Server]


class OwnTools(Page):
    """One page of an upstream's tools, under its own names."""

    server: str
    tools: list[dict[str, Any]] = Field(description="Definitions as the upstream gives them.")


async def servers(
    request: Request, response: Response, page: PageNumber = 1, limit: Limit = 10
) -> ServerList:
    """List the upstreams that are served and how each is, from memory: none is asked."""
    principal = admission_of(request).principal
    upstreams = tuple(
        each for each in generation_of(request).upstreams.values() if principal.may_know(each.name)
    )
    shown = cut(upstreams, page, limit, request, response)
    return ServerList(
        servers=[server_of(each, request) for each in shown],
        total=len(upstreams),
        page=page,
        limit=limit,
    )


async def server_tools(
    request: Request, response: Response, name: str, page: PageNumber = 1, limit: Limit = 10
) -> OwnTools:
    """List the tools of one upstream as this caller sees them; as last read while it is down."""
    upstream = _offered(request, name)
    viewer = Viewer(admission_of(request).principal, NO_CAPABILITIES)
    entries = [
        entry
        for entry in (await upstream.listing(Kind.TOOL, viewer)).entries
        if _is_shown(viewer.principal, name, entry.name)
    ]
    shown = cut(entries, page, limit, request, response)
    return OwnTools(
        server=name,
        tools=[msgspec.json.decode(entry.definition) for entry in shown],
        total=len(entries),
        page=page,
        limit=limit,
    )


async def reload_server(request: Request, response: Response, name: str) -> Server:
    """Let go of the connection and open it anew, whatever the breaker says; say how that went.

    Calls in flight end on the old one. `state` tells whether it worked. In this process only.
    """
    upstream = _find(request, name)
    await upstream.reopen()
    response.headers["cache-control"] = "no-store"
    return server_of(upstream, request)


def add_routes(api: FastAPI) -> None:
    """Add the routes of this module with their descriptions."""
    add = partial(api.add_api_route, tags=["servers"], responses={**FAILURES})
    read, admin = [Depends(READ)], [Depends(ADMIN)]
    add("/mcp/servers", servers, dependencies=read, summary="Upstreams and how they are")
    add(
        "/mcp/servers/{name}/tools",
        server_tools,
        dependencies=read,
        summary="The tools of one upstream",
    )
    add(
        "/mcp/servers/{name}/reload",
        reload_server,
        methods=["POST"],
        dependencies=admin,
        summary="Open one upstream anew",
    )


def _is_shown(principal: Principal, upstream: str, tool: str) -> bool:
    """Tell whether a tool may be shown under its own name: it may be seen under that, or its usual one."""
    return any(
        principal.may_see("tools:list", DEFAULT_ENDPOINT, upstream, name)
        for name in (tool, f"{upstream}__{tool}")
    )


def _find(request: Request, name: str) -> SteadyUpstream:
    """Give the upstream of that name.

    Raises:
        UnknownNameError: none is served under it.
    """
    upstream = generation_of(request).upstreams.get(name)
    if upstream is None or not admission_of(request).principal.may_know(name):
        raise UnknownNameError("server", name)
    return upstream


def _offered(request: Request, name: str) -> Provider:
    """Give what is offered of the upstream of that name: what is held back is not.

    Raises:
        UnknownNameError: none is served under it.
    """
    _find(request, name)
    return next(one for one in generation_of(request).providers if one.name == name)


def server_of(upstream: SteadyUpstream, request: Request) -> Server:
    """Say how an upstream is."""
    status: Status = upstream.status
    offered = _offered(request, upstream.name)
    return Server(
        name=status.name,
        transport=status.transport,
        state=status.state,
        up=upstream.is_up,
        eras=list(status.eras),
        revision=status.revision,
        breaker=status.breaker,
        retry_s=round(status.retry_s, 3),
        latency_s=None if status.latency_s is None else round(status.latency_s, 6),
        in_flight=status.in_flight,
        waiting=status.waiting,
        opened=status.opened,
        interactive=status.is_interactive,
        refused_questions=status.refused_questions,
        sandbox=status.sandbox,
        held=offered.held if isinstance(offered, PinnedProvider) else 0,
        last_error=status.last_error,
    )
