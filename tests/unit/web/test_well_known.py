"""The metadata of this server as an OAuth resource, open to everybody and telling nobody which endpoints there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.house import HOST, ask, open_house, settings_in
from tests.support.oauth_house import PUBLIC, open_doors
from tests.support.tokens import ISSUER, token
from waygate_mcp.web.rest import RestDoor

PATH = "/.well-known/oauth-protected-resource"


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        (PATH, PUBLIC),
        (f"{PATH}/mcp", f"{PUBLIC}/mcp"),
        (f"{PATH}/servers/dev/mcp", f"{PUBLIC}/servers/dev/mcp"),
        (f"{PATH}/servers/no-such/mcp", f"{PUBLIC}/servers/no-such/mcp"),
    ],
)
async def test_each_resource_has_its_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, resource: str
) -> None:
    async with open_doors(tmp_path, monkeypatch) as doors:
        answer = await doors.get(path)
        assert answer.status == 200
        assert answer.header("content-type") == "application/json"
        assert answer.header("cache-control") == "public, max-age=300"
        assert answer.json() == {
            "resource": resource,
            "authorization_servers": [ISSUER],
            "bearer_methods_supported": ["header"],
            "resource_name": "Waygate MCP",
            "scopes_supported": ["mcp:read", "mcp:call"],
        }


@pytest.mark.parametrize(
    "path",
    [f"{PATH}/", f"{PATH}/servers/A%20B/mcp", f"{PATH}/servers/a/b/mcp", f"{PATH}x", f"{PATH}/sse"],
)
async def test_what_is_no_resource_is_not_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    async with open_doors(tmp_path, monkeypatch) as doors:
        assert (await doors.get(path)).status == 401
        assert (await doors.get(path, token(scope="mcp:admin"))).status == 404


async def test_metadata_is_answered_to_a_bad_token_and_while_the_issuer_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_doors(tmp_path, monkeypatch) as doors:
        doors.issuer.gate.clear()
        doors.issuer.is_down = True
        for text in (b"ey.ey.ey", token("ES384"), token(aud="https://else.example"), token()):
            assert (await doors.get(PATH, text)).status == 200


async def test_where_no_tokens_are_taken_there_is_none(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, {})) as house:
        rest = RestDoor(house)

        async def serve(scope, receive, send):  # type: ignore[no-untyped-def]  # an ASGI callable
            await rest(scope, scope["raw_path"].decode(), receive, send)

        assert (await ask(serve, PATH, "GET", (HOST,))).status == 404


async def test_rest_asks_for_scopes_and_keeps_to_the_audience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_doors(tmp_path, monkeypatch) as doors:
        answer = await doors.get("/mcp/servers", token())
        assert answer.status == 403
        assert 'scope="mcp:admin"' in (answer.header("www-authenticate") or "")
        assert (await doors.get("/mcp/servers", token(scope="mcp:admin"))).status == 200
        assert (await doors.get("/mcp/tools", token())).status == 200
        other = await doors.get("/mcp/tools?endpoint=dev", token())
        unknown = await doors.get("/mcp/tools?endpoint=nope", token())
        assert (other.status, unknown.status) == (404, 404), (
            "for another endpoint: as if it were not there"
        )
        whole = await doors.get("/mcp/tools?endpoint=dev", token(aud=PUBLIC))
        assert whole.status == 200
        assert (await doors.get("/mcp/tools", token(aud=f"{PUBLIC}/servers/dev/mcp"))).status == 401
        assert (await doors.get("/mcp/tools")).status == 401


async def test_rest_waits_for_keys_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_doors(tmp_path, monkeypatch) as doors:
        assert (await doors.get("/mcp/tools", token())).status == 200
        doors.issuer.kinds = ["ES384"]
        assert (await doors.get("/mcp/tools", token("ES384"))).status == 200
        doors.issuer.kinds = []
        assert (await doors.get("/mcp/tools", token("EdDSA"))).status == 401
        assert (await doors.get("/mcp/tools", token("EdDSA"), "OPTIONS")).status == 401
