"""`/admin/v1/audit`: the copy of the journal, asked for by who may."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.audit import reached
from tests.support.house import BEARER, HOST, Answer, ask, open_app, settings_in
from waygate_mcp.runtime import audit as audit_module
from waygate_mcp.testing.fakes import call_of
from waygate_mcp.web.app import App


async def get(app: App, query: str, *headers: tuple[bytes, bytes]) -> Answer:
    return await ask(app, f"/admin/v1/audit{query}", "GET", (HOST, *headers))


async def test_records_are_found_page_by_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "TICK_S", 0.01)
    async with open_app(settings_in(tmp_path, {})) as (app, house):
        room = house.foundation.audit
        for name in ("one", "two", "three"):
            call = call_of("tools/call", name)
            room.trail.begin(call)
            room.trail.end(call, "ok", 0.1)
        await reached(lambda: room.behind == 0)
        answer = await get(app, "?kind=outcome&limit=2", BEARER)
        assert answer.status == 200
        found = answer.json()
        assert [record["name"] for record in found["records"]] == ["three", "two"]
        assert (found["total"], found["behind"]) == (3, 0)
        assert 'rel="next"' in (answer.header("link") or "")
        second = (await get(app, "?kind=outcome&limit=2&page=2", BEARER)).json()
        assert [record["name"] for record in second["records"]] == ["one"]
        assert (await get(app, "?name=two&until=2020-01-01T00:00:00Z", BEARER)).json()["total"] == 0
        assert (await get(app, "?since=yesterday", BEARER)).status == 400
        assert (await get(app, "")).status == 401
