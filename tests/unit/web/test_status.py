"""What a process serves, and how much of it is under way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_upstream import FakeServer
from tests.support.house import BEARER, HOST, ask, open_house, settings_in
from waygate_mcp import __version__
from waygate_mcp.web.rest import RestDoor


async def test_it_says_what_is_served_and_counts_what_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FakeServer()
    server.put_in_place(monkeypatch)
    document = {
        "plugins": {"hello": {"use": "waygate_mcp.plugins.builtin.hello"}},
        "upstreams": {"web": {"url": "https://h/mcp"}},
        "endpoints": {"dev": {"bind": ["web"]}},
    }
    async with open_house(settings_in(tmp_path, document)) as house:
        door = RestDoor(house)

        async def serve(scope: Any, receive: Any, send: Any) -> None:
            await door(scope, scope["raw_path"].decode(), receive, send)

        body = (await ask(serve, "/mcp/status", "GET", (HOST, BEARER))).json()
        assert body["endpoints"] == [
            {"name": "default", "path": "/mcp", "providers": ["hello", "web"]},
            {"name": "dev", "path": "/servers/dev/mcp", "providers": ["web"]},
        ]
        assert (body["plugins"], body["upstreams"], body["upstreams_up"]) == (["hello"], 1, 1)
        assert (body["version"], body["generation"], body["status"]) == (__version__, 1, "ready")
        assert body["revisions"][0] == "2026-07-28"
        assert (body["sessions"], body["parked_calls"], body["calls_in_flight"]) == (0, 0, 1)
        house.is_draining = True
        body = (await ask(serve, "/mcp/status", "GET", (HOST, BEARER))).json()
        assert body["status"] == "draining"
        assert house.current().calls.count == 0
