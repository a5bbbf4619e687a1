"""`/mcp/status`: what this process serves and how much of it is under way.

Knows counts and names of what is in force. Refuses to judge: `/health` does.
"""

from __future__ import annotations

from fastapi import Depends, FastAPI
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from waygate_mcp import __version__
from waygate_mcp.config.document import DEFAULT_ENDPOINT
from waygate_mcp.protocol.versions import SUPPORTED
from waygate_mcp.runtime.house import House
from waygate_mcp.web.access import FAILURES, Needs, admission_of, generation_of
from waygate_mcp.web.guard import Guard

__all__ = ["Engine", "add_routes"]

READ = Needs("status:read")


class EndpointState(BaseModel):
    """One endpoint."""

    name: str
    path: str
    providers: list[str] = Field(description="Plugins and upstreams it shows, in their order.")


class Engine(BaseModel):
    """What is served, and what is under way in this process."""

    status: str = Field(description="`ready`, or `draining` when it is about to stop.")
    version: str
    revisions: list[str] = Field(description="Revisions of MCP that clients may speak.")
    generation: int = Field(description="Number of the configuration in force.")
    uptime_seconds: float
    endpoints: list[EndpointState]
    plugins: list[str]
    upstreams: int
    upstreams_up: int
    sessions: int = Field(description="Open sessions of legacy clients.")
    parked_calls: int = Field(description="Calls that wait for an answer of their client.")
    calls_in_flight: int = Field(
        description="Requests the configuration in force works on, this one too."
    )
    timestamp: str


class StatusRoutes:
    """The route of this module, for one house."""

    def __init__(self, house: House[Guard]) -> None:
        self._house = house

    async def status(self, request: Request, response: Response) -> Engine:
        """Say what is served and what is under way, from memory."""
        house, generation = self._house, generation_of(request)
        principal = admission_of(request).principal
        upstreams = {
            name: each for name, each in generation.upstreams.items() if principal.may_know(name)
        }
        response.headers["cache-control"] = "no-store"
        return Engine(
            status="ready" if house.is_ready else "draining",
            version=__version__,
            revisions=list(SUPPORTED),
            generation=generation.number,
            uptime_seconds=round(house.uptime_s, 3),
            endpoints=[
                EndpointState(
                    name=name,
                    path="/mcp" if name == DEFAULT_ENDPOINT else f"/servers/{name}/mcp",
                    providers=[
                        binding.provider.name
                        for binding in endpoint.catalog.bindings
                        if principal.may_reach(name, binding.provider.name)
                    ],
                )
                for name, endpoint in generation.gateway.endpoints.items()
                if principal.may_enter(name)
            ],
            plugins=[
                each.name
                for each in generation.providers
                if each.name not in generation.upstreams and principal.may_know(each.name)
            ],
            upstreams=len(upstreams),
            upstreams_up=sum(each.is_up for each in upstreams.values()),
            sessions=len(house.live.sessions),
            parked_calls=len(house.live.parking),
            calls_in_flight=generation.calls.count,
            timestamp=house.stamp.now(),
        )


def add_routes(api: FastAPI, house: House[Guard]) -> None:
    """Add the route of this module with its description."""
    api.add_api_route(
        "/mcp/status",
        StatusRoutes(house).status,
        tags=["status"],
        responses={**FAILURES},
        dependencies=[Depends(READ)],
        summary="What is served and under way",
    )
