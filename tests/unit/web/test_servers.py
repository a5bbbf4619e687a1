"""Upstreams for operators: how each is, what it offers, and opening one anew."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_upstream import FakeServer
from tests.support.house import BEARER, HOST, Answer, ask, open_house, settings_in
from waygate_mcp.web import servers
from waygate_mcp.web.rest import RestDoor

UP = {"url": "https://h/mcp"}
DOWN = {"command": "/bin/false", "sandbox": "none"}


class Api:
    """The REST door of a house with upstreams."""

    def __init__(self, door: RestDoor) -> None:
        self._door = door

    async def ask(self, path: str, method: str = "GET") -> Answer:
        async def serve(scope: Any, receive: Any, send: Any) -> None:
            await self._door(scope, scope["raw_path"].decode(), receive, send)

        return await ask(serve, path, method, (HOST, BEARER))


@asynccontextmanager
async def open_api(folder: Path, **upstreams: dict[str, Any]) -> AsyncIterator[Api]:
    async with open_house(settings_in(folder, {"upstreams": upstreams})) as house:
        yield Api(RestDoor(house))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    server = FakeServer(*({"name": f"t{n}", "inputSchema": {}, "x": n} for n in range(12)))
    server.put_in_place(monkeypatch)
    return server


async def test_each_upstream_is_shown_as_it_is(tmp_path: Path, server: FakeServer) -> None:
    async with open_api(tmp_path, web=UP, other=UP) as api:
        answer = await api.ask("/mcp/servers")
        assert answer.status == 200
        assert (answer.header("x-total-count"), answer.header("cache-control")) == ("2", "no-store")
        body = answer.json()
        assert (body["total"], body["page"], body["limit"]) == (2, 1, 10)
        web, other = body["servers"]
        assert other["name"] == "other"
        assert web == {
            "name": "web", "transport": "http", "state": "ready", "up": True, "eras": ["modern"],
            "revision": "2026-07-28", "breaker": "closed", "retry_s": 0.0, "latency_s": None,
            "in_flight": 0, "waiting": 0, "opened": 1, "interactive": False,
            "refused_questions": 0, "sandbox": "", "held": 0, "last_error": "",
        }  # fmt: skip


async def test_one_that_is_down_says_why(tmp_path: Path, server: FakeServer) -> None:
    server.is_up = False
    async with open_api(tmp_path, web=UP) as api:
        (web,) = (await api.ask("/mcp/servers")).json()["servers"]
        assert (web["state"], web["up"]) == ("failing", False)
        assert "503" in web["last_error"]


async def test_its_tools_are_listed_under_its_own_names_page_by_page(
    tmp_path: Path, server: FakeServer
) -> None:
    async with open_api(tmp_path, web=UP) as api:
        answer = await api.ask("/mcp/servers/web/tools?page=2&limit=10")
        body = answer.json()
        assert (body["server"], body["total"]) == ("web", 12)
        assert [tool["name"] for tool in body["tools"]] == ["t10", "t11"]
        assert body["tools"][0]["x"] == 10
        assert 'rel="prev"' in (answer.header("link") or "")


async def test_opening_one_anew_says_how_that_went(tmp_path: Path, server: FakeServer) -> None:
    async with open_api(tmp_path, web=UP) as api:
        answer = await api.ask("/mcp/servers/web/reload", "POST")
        assert (answer.status, answer.json()["state"]) == (200, "ready")
        assert (answer.json()["opened"], server.opened) == (2, 2)
        server.is_up = False
        answer = await api.ask("/mcp/servers/web/reload", "POST")
        assert (answer.status, answer.json()["state"]) == (200, "failing")
        assert (await api.ask("/mcp/servers/web/reload")).status == 405


@pytest.mark.parametrize(
    ("path", "method"),
    [("/mcp/servers/nope/tools", "GET"), ("/mcp/servers/nope/reload", "POST")],
)
async def test_one_nobody_configured_is_not_found(
    tmp_path: Path, server: FakeServer, path: str, method: str
) -> None:
    async with open_api(tmp_path, web=UP) as api:
        answer = await api.ask(path, method)
        assert (answer.status, answer.json()["error"]["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("query", ["page=0", "limit=0", "limit=101", "page=x", "page=1000001"])
async def test_pages_that_are_none_are_refused_in_our_envelope(
    tmp_path: Path, server: FakeServer, query: str
) -> None:
    async with open_api(tmp_path, web=UP) as api:
        answer = await api.ask(f"/mcp/servers?{query}")
        assert (answer.status, answer.json()["error"]["code"]) == (400, "INVALID_REQUEST")


async def test_the_description_names_its_permissions_errors_and_no_422(tmp_path: Path) -> None:
    async with open_api(tmp_path) as api:
        described = (await api.ask("/openapi.json")).json()
        operation = described["paths"]["/mcp/servers/{name}/reload"]["post"]
        assert set(operation["responses"]) == {"200", "401", "403", "4XX", "5XX"}
        assert "422" not in str(described)


def test_the_page_says_what_each_member_means() -> None:
    page = (Path(__file__).parents[3] / "docs" / "upstreams.md").read_text(encoding="utf-8")
    table = page.partition("| member | meaning |\n| --- | --- |\n")[2].partition("\n\n")[0]
    wanted = [
        f"| `{name}` | {field.description} |" for name, field in servers.Server.model_fields.items()
    ]
    assert table.splitlines() == wanted
