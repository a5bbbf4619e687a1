"""Keys by the admin API, through the REST door of a whole house."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import BEARER, HOST, Answer, ask, open_house, settings_in
from waygate_mcp.web.rest import RestDoor

DOCUMENT = {
    "plugins": {"hello": {"use": "waygate_mcp.plugins.builtin.hello"}},
    "roles": {
        "keeper": ["admin:keys", "tools:list", "tools:call:greet"],
        "greeter": ["tools:list", "tools:call:greet"],
    },
}


class Api:
    """The REST door of a house, asked as one key or another."""

    def __init__(self, door: RestDoor) -> None:
        self._door = door

    async def ask(self, method: str, path: str, body: Any = None, key: str | None = None) -> Answer:
        async def serve(scope: Any, receive: Any, send: Any) -> None:
            await self._door(scope, scope["raw_path"].decode(), receive, send)

        who = BEARER if key is None else (b"authorization", b"Bearer " + key.encode())
        kind = (b"content-type", b"application/json")
        data = b"" if body is None else json.dumps(body).encode()
        return await ask(serve, f"/admin/v1{path}", method, (HOST, who, kind), data)

    async def made(self, *roles: str, **more: Any) -> dict[str, Any]:
        answer = await self.ask("POST", "/keys", {"name": "n", "roles": list(roles), **more})
        assert answer.status == 201, answer.body
        assert answer.header("cache-control") == "no-store"
        found: dict[str, Any] = answer.json()
        return found


@asynccontextmanager
async def open_api(folder: Path) -> AsyncIterator[Api]:
    async with open_house(settings_in(folder, DOCUMENT)) as house:
        yield Api(RestDoor(house))


async def test_a_key_is_made_shown_listed_rotated_and_revoked(tmp_path: Path) -> None:
    async with open_api(tmp_path) as api:
        made = await api.made("keeper", endpoints=["default"], limits=["5/minute"], expires_in="1d")
        text = made.pop("key")
        assert text.startswith(f"wg_{made['id']}_")
        assert (made["state"], made["roles"], made["endpoints"]) == (
            "active",
            ["keeper"],
            ["default"],
        )
        assert (await api.ask("GET", f"/keys/{made['id']}")).json() == made
        listed = (await api.ask("GET", "/keys")).json()
        assert (listed["total"], listed["keys"]) == (1, [made])
        assert (await api.ask("GET", "/keys", key=text)).status == 200
        turned = (await api.ask("POST", f"/keys/{made['id']}/rotate", {"overlap": "1h"})).json()
        assert turned["state"] == "rotating"
        for good in (text, turned["key"]):
            assert (await api.ask("GET", "/keys", key=good)).status == 200
        gone = await api.ask("DELETE", f"/keys/{made['id']}")
        assert gone.json()["state"] == "revoked"
        for good in (text, turned["key"]):
            assert (await api.ask("GET", "/keys", key=good)).status == 401


async def test_a_rotation_without_a_body_has_the_usual_overlap(tmp_path: Path) -> None:
    async with open_api(tmp_path) as api:
        made = await api.made("greeter")
        turned = (await api.ask("POST", f"/keys/{made['id']}/rotate")).json()
        assert turned["previous_until"] > made["created_at"]


async def test_a_key_makes_none_that_is_stronger_than_itself(tmp_path: Path) -> None:
    async with open_api(tmp_path) as api:
        keeper = (await api.made("keeper"))["key"]
        wanted = {"name": "n", "roles": ["greeter"]}
        assert (await api.ask("POST", "/keys", wanted, keeper)).status == 201
        refused = await api.ask("POST", "/keys", wanted | {"roles": ["admin"]}, keeper)
        assert (refused.status, refused.json()["error"]["code"]) == (403, "FORBIDDEN")
        assert "may do more" in refused.json()["error"]["message"]
        greeter = (await api.made("greeter"))["key"]
        assert (await api.ask("GET", "/keys", key=greeter)).status == 403


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"name": "n", "roles": ["greater"]}, "did you mean greeter"),
        ({"name": "n", "roles": ["viewer"], "expires_in": "soon"}, "no span of time"),
        ({"name": "n", "roles": ["viewer"], "colour": "red"}, "colour"),
        ({"roles": ["viewer"]}, "name"),
    ],
)
async def test_what_cannot_be_a_key_is_400_and_says_why(
    wanted: dict[str, Any], said: str, tmp_path: Path
) -> None:
    async with open_api(tmp_path) as api:
        answer = await api.ask("POST", "/keys", wanted)
        assert answer.status == 400
        assert said in answer.body.decode()
        assert (await api.ask("GET", "/keys")).json()["total"] == 0


async def test_a_key_nobody_knows_is_404(tmp_path: Path) -> None:
    async with open_api(tmp_path) as api:
        for method, path in (
            ("GET", "/keys/nobody"),
            ("DELETE", "/keys/nobody"),
            ("POST", "/keys/nobody/rotate"),
        ):
            assert (await api.ask(method, path)).status == 404


async def test_the_roles_are_those_of_the_document_beside_the_built_in_ones(
    tmp_path: Path,
) -> None:
    async with open_api(tmp_path) as api:
        found = {
            one["name"]: one["permissions"]
            for one in (await api.ask("GET", "/roles")).json()["roles"]
        }
        assert set(found) == {"viewer", "operator", "admin", "keeper", "greeter"}
        assert found["greeter"] == ["tools:list", "tools:call:greet"]
