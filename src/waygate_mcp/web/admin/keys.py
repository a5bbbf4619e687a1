"""`/admin/v1/keys` and `/admin/v1/roles`.

Knows how keys are asked for and shown. Refuses to know the rules; `auth.key_desk` does. The text of a
key stands in the answer that made it and nowhere else.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from waygate_mcp.auth.key_desk import OVERLAP, KeyDesk, parse_span
from waygate_mcp.config.roles import roles_of
from waygate_mcp.model.keys import StoredKey
from waygate_mcp.model.permissions import ALL, Narrowing
from waygate_mcp.runtime.house import House
from waygate_mcp.storage.api_keys import ApiKeys
from waygate_mcp.web.access import FAILURES, Needs, admission_of, generation_of
from waygate_mcp.web.guard import Guard
from waygate_mcp.web.paging import Limit, Page, PageNumber, cut

__all__ = ["router"]

Patterns = Annotated[list[str], Field(min_length=1, max_length=100)]


class Key(BaseModel):
    """An API key, its text and its hash aside."""

    id: str = Field(description="The public part of its text.")
    name: str
    state: str = Field(description="`active`, `rotating`, `expired` or `revoked`.")
    roles: list[str]
    endpoints: list[str] = Field(description="Patterns of the endpoints it exists for.")
    upstreams: list[str] = Field(description="Patterns of the upstreams and plugins it may reach.")
    names: list[str] = Field(description="Patterns of the names and URIs it may use.")
    limits: list[str] = Field(description="Rates of its own.")
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    previous_until: datetime | None = Field(
        description="Until when the text from before its rotation is good."
    )


class NewKey(Key):
    """A key whose text was just made."""

    key: str = Field(description="Its text, shown this once.")


class KeyList(Page):
    """One page of keys, those made last first."""

    keys: list[Key]


class Wanted(BaseModel):
    """What a new key shall be."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(max_length=100)
    roles: list[str] = Field(min_length=1, max_length=20)
    endpoints: Patterns = [ALL]
    upstreams: Patterns = [ALL]
    names: Patterns = [ALL]
    limits: list[str] = Field(default=[], max_length=20)
    expires_in: str | None = Field(None, description="Such as `90d`; a key without expires never.")


class Rotation(BaseModel):
    """How a key is rotated."""

    model_config = ConfigDict(extra="forbid", strict=True)

    overlap: str = Field(
        f"{int(OVERLAP.total_seconds()) // 3600}h",
        description="How long the text from before stays good, such as `24h`; 30d at most.",
    )


class Role(BaseModel):
    """A role and what it grants."""

    name: str
    permissions: list[str]


class RoleList(Page):
    """One page of roles."""

    roles: list[Role]


class KeyRoutes:
    """The routes of this module, for one house."""

    def __init__(self, house: House[Guard]) -> None:
        self._house = house

    def _desk(self, request: Request) -> KeyDesk:
        foundation = self._house.foundation
        document = generation_of(request).document
        return KeyDesk(
            ApiKeys(foundation.database),
            foundation.key_hash,
            roles_of(document.roles),
            foundation.clock.now,
            foundation.audit.trail if document.audit.enabled else None,
        )

    async def list_keys(
        self, request: Request, response: Response, page: PageNumber = 1, limit: Limit = 10
    ) -> KeyList:
        """List all keys, revoked and expired ones too."""
        desk = self._desk(request)
        found = await desk.list()
        shown = cut(found, page, limit, request, response)
        return KeyList(
            keys=[_shown(key, desk.now()) for key in shown],
            total=len(found),
            page=page,
            limit=limit,
        )

    async def show_key(self, request: Request, response: Response, id: str) -> Key:
        """Show one key."""
        desk = self._desk(request)
        response.headers["cache-control"] = "no-store"
        return _shown(await desk.show(id), desk.now())

    async def create_key(self, request: Request, response: Response, wanted: Wanted) -> NewKey:
        """Make a key. It can do nothing that the key that asks cannot do itself."""
        desk = self._desk(request)
        key, text = await desk.create(
            admission_of(request).principal,
            wanted.name,
            wanted.roles,
            narrowing=Narrowing(
                tuple(wanted.endpoints), tuple(wanted.upstreams), tuple(wanted.names)
            ),
            limits=wanted.limits,
            expires_in=None if wanted.expires_in is None else parse_span(wanted.expires_in),
        )
        return await self._new(response, key, text, desk.now())

    async def rotate_key(
        self,
        request: Request,
        response: Response,
        id: str,
        how: Rotation | None = None,
    ) -> NewKey:
        """Give a key a new text; the old one stays good for the overlap."""
        desk = self._desk(request)
        overlap = parse_span((how or Rotation()).overlap)
        key, text = await desk.rotate(admission_of(request).principal, id, overlap)
        return await self._new(response, key, text, desk.now())

    async def revoke_key(self, request: Request, response: Response, id: str) -> Key:
        """Take a key back; every worker refuses it within two seconds."""
        desk = self._desk(request)
        key = await desk.revoke(admission_of(request).principal, id)
        await self._house.foundation.keys.refresh()
        response.headers["cache-control"] = "no-store"
        return _shown(key, desk.now())

    async def list_roles(
        self, request: Request, response: Response, page: PageNumber = 1, limit: Limit = 10
    ) -> RoleList:
        """List the roles: the built-in ones, and those of the document."""
        found = list(roles_of(generation_of(request).document.roles).items())
        shown = cut(found, page, limit, request, response)
        roles = [Role(name=name, permissions=list(map(str, grants))) for name, grants in shown]
        return RoleList(roles=roles, total=len(found), page=page, limit=limit)

    async def _new(self, response: Response, key: StoredKey, text: str, now: datetime) -> NewKey:
        self._house.logs.redactor.remember(text)
        await self._house.foundation.keys.refresh()
        response.headers["cache-control"] = "no-store"
        return NewKey(**_shown(key, now).model_dump(), key=text)


def router(house: House[Guard]) -> APIRouter:
    """Give the routes of this module."""
    routes = KeyRoutes(house)
    made = APIRouter(
        tags=["keys"], dependencies=[Depends(Needs("admin:keys"))], responses={**FAILURES}
    )
    made.add_api_route("/keys", routes.list_keys, summary="All keys")
    made.add_api_route(
        "/keys", routes.create_key, methods=["POST"], status_code=201, summary="Make a key"
    )
    made.add_api_route("/keys/{id}", routes.show_key, summary="One key")
    made.add_api_route("/keys/{id}", routes.revoke_key, methods=["DELETE"], summary="Revoke a key")
    made.add_api_route(
        "/keys/{id}/rotate", routes.rotate_key, methods=["POST"], summary="Rotate a key"
    )
    made.add_api_route("/roles", routes.list_roles, summary="All roles")
    return made


def _shown(key: StoredKey, now: datetime) -> Key:
    return Key(
        id=key.id,
        name=key.name,
        state=key.state(now),
        roles=list(key.roles),
        endpoints=list(key.narrowing.endpoints),
        upstreams=list(key.narrowing.upstreams),
        names=list(key.narrowing.names),
        limits=list(key.limits),
        created_at=key.created_at,
        created_by=key.created_by,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        last_used_at=key.last_used_at,
        previous_until=key.previous_until if key.state(now) == "rotating" else None,
    )
