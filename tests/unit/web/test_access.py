"""Permissions as words on routes, walked over every route there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.requests import Request

from tests.support.house import BEARER, HOST, ask, open_house, scope_of, settings_in
from tests.support.routes import FlatRoute, api_routes
from waygate_mcp.errors import ForbiddenError
from waygate_mcp.model.principal import Principal
from waygate_mcp.web.access import Needs, admission_of, generation_of
from waygate_mcp.web.guard import Admission
from waygate_mcp.web.rest import OPEN_PATHS, RestDoor

CHECKS_ITSELF = {"/metrics"}
"""Open or not by the document; it asks for `metrics:read` where it is not."""


def request_of(*permissions: str) -> Request:
    scope = scope_of("/mcp/servers")
    principal = Principal("key:x", "x", frozenset(permissions))
    scope["state"] = {"admission": Admission({}, "r-1", principal), "generation": "one"}
    return Request(scope)


def permissions_of(route: FlatRoute) -> set[str]:
    return {
        each.call.permission
        for each in route.dependant.dependencies
        if isinstance(each.call, Needs)
    }


def test_who_has_the_word_may_and_nobody_else() -> None:
    needs = Needs("servers:read")
    needs(request_of("servers:read"))
    needs(request_of("*"))
    with pytest.raises(ForbiddenError) as caught:
        needs(request_of("servers:write", "servers"))
    assert caught.value.permission == "servers:read"


def test_what_the_door_found_out_is_at_hand() -> None:
    request = request_of("*")
    assert admission_of(request).request_id == "r-1"
    assert str(generation_of(request)) == "one"


async def test_every_route_asks_for_a_key_and_then_for_its_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_house(settings_in(tmp_path, {})) as house:
        door = RestDoor(house)

        async def serve(scope, receive, send):  # type: ignore[no-untyped-def]  # an ASGI callable
            await door(scope, scope["raw_path"].decode(), receive, send)

        closed = [each for each in api_routes(door.api) if each.path not in OPEN_PATHS]
        assert len(closed) > 5
        nobody = Principal("key:nobody", "nobody", frozenset())
        for route in closed:
            path = route.path.replace("{name}", "web")
            for method in route.methods or ():
                assert (await ask(serve, path, method)).status == 401, route.path
        monkeypatch.setattr(house.current().guard, "_authenticate", lambda _headers: nobody)
        for route in closed:
            path = route.path.replace("{name}", "web")
            for method in route.methods or ():
                answer = await ask(serve, path, method, (HOST, BEARER))
                assert answer.status == 403, route.path
                needed = answer.json()["error"]["details"]["permission"]
                assert route.path in CHECKS_ITSELF or {needed} == permissions_of(route)


def test_the_walk_sees_the_routes_of_an_included_router() -> None:
    api, router = FastAPI(docs_url=None, redoc_url=None, openapi_url=None), APIRouter()
    router.add_api_route("/keys/{id}", lambda: None, dependencies=[Depends(Needs("admin:keys"))])
    api.include_router(router, prefix="/admin/v1")
    (route,) = api_routes(api)
    assert (route.path, route.methods) == ("/admin/v1/keys/{id}", {"GET"})
    assert permissions_of(route) == {"admin:keys"}
