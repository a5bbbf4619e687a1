"""`/admin/v1/explain`: why a key may or may not use an entry."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from waygate_mcp.config.document import DEFAULT_ENDPOINT
from waygate_mcp.config.roles import roles_of
from waygate_mcp.errors import UnknownNameError
from waygate_mcp.gateway.explain import USE_PERMISSIONS, explain
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.principal import principal_of
from waygate_mcp.model.shadow import ShadowRoles
from waygate_mcp.runtime.house import House
from waygate_mcp.storage.api_keys import ApiKeys
from waygate_mcp.web.access import FAILURES, Needs, generation_of
from waygate_mcp.web.guard import Guard

__all__ = ["router"]


class Explained(BaseModel):
    """Whether a key may use an entry, and the rules that say so."""

    allowed: bool
    listed: bool = Field(description="Whether the entry is in the key's lists.")
    key: str
    state: str = Field(description="How the key itself is; only `active` and `rotating` work.")
    endpoint: str
    kind: str
    name: str
    provider: str | None = Field(description="The plugin or upstream that answers for it.")
    rules: list[str] = Field(description="In the order they decide; the last one settles it.")
    shadow: list[str] = Field(
        description="Roles in shadow (`shadow_roles`) that would refuse what is allowed now."
    )


class ExplainRoutes:
    """The route of this module, for one house."""

    def __init__(self, house: House[Guard]) -> None:
        self._house = house

    async def explain(
        self,
        request: Request,
        response: Response,
        key: Annotated[str, Query(max_length=100, description="The public id of a key.")],
        name: Annotated[str, Query(max_length=2048, description="A public name, or a URI.")],
        endpoint: Annotated[str, Query(max_length=63)] = DEFAULT_ENDPOINT,
        kind: Literal["tool", "prompt", "resource"] = "tool",
    ) -> Explained:
        """Say which rule allows or refuses, and why an entry is missing from the key's lists."""
        generation, foundation = generation_of(request), self._house.foundation
        found = generation.gateway.endpoints.get(endpoint)
        if found is None:
            raise UnknownNameError("endpoint", endpoint)
        stored = await ApiKeys(foundation.database).find(key)
        if stored is None:
            raise UnknownNameError("key", key)
        roles = roles_of(generation.document.roles)
        principal = principal_of(
            f"key:{stored.id}",
            stored.name,
            [grant for role in stored.roles for grant in roles.get(role, ())],
            stored.narrowing,
            roles=stored.roles,
        )
        told = await explain(found, principal, Kind(kind), name)
        shadows = ShadowRoles(roles, roles_of(generation.document.shadow_roles, built_in=False))
        use = USE_PERMISSIONS[Kind(kind)]
        refusing = shadows.refusing(principal, use, endpoint, told.provider or "", name)
        state = stored.state(datetime.fromtimestamp(foundation.clock.now(), UTC))
        is_good = state in ("active", "rotating")
        response.headers["cache-control"] = "no-store"
        return Explained(
            allowed=told.is_allowed and is_good,
            listed=told.is_listed and is_good,
            key=stored.id,
            state=state,
            endpoint=endpoint,
            kind=kind,
            name=name,
            provider=told.provider,
            rules=[*told.rules, *(() if is_good else (f"The key is {state}: it is refused.",))],
            shadow=list(refusing) if told.is_allowed else [],
        )


def router(house: House[Guard]) -> APIRouter:
    """Give the routes of this module."""
    made = APIRouter(
        tags=["keys"], dependencies=[Depends(Needs("admin:keys"))], responses={**FAILURES}
    )
    made.add_api_route(
        "/explain", ExplainRoutes(house).explain, summary="Why a key may use something, or not"
    )
    return made
