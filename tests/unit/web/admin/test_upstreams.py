"""`/admin/v1/upstreams`: what the document says of each, how it is, and switching one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_upstream import FakeServer
from tests.support.house import BEARER, HOST, Answer, ask, open_app, settings_in
from tests.support.house_keys import key_for
from waygate_mcp.runtime.config_desk import desk_of
from waygate_mcp.runtime.house import House
from waygate_mcp.web.guard import Guard

TEXT = """\
upstreams:
  web:  # what we sell
    url: https://web.example.org/mcp
    headers: {X-Api-Key: hunter2hunter2}
  off: {url: "https://off.example.org/mcp", enabled: false, quarantine: "on"}
mcpServers:
  theirs: {url: "https://theirs.example.org/mcp"}
endpoints:
  dev: {bind: [web]}
"""
PATH = "/admin/v1/upstreams"


class Api:
    """The application of a house with these upstreams."""

    def __init__(self, app: Any, house: House[Guard], file: Path) -> None:
        self.house = house
        self.file = file
        self._app = app

    async def get(self, path: str = "", key: tuple[bytes, bytes] = BEARER) -> Answer:
        return await ask(self._app, PATH + path, "GET", (HOST, key))

    async def switch(self, path: str, **more: Any) -> Answer:
        body = {"based_on": desk_of(self.house).digest, **more}
        headers = (HOST, BEARER, (b"content-type", b"application/json"))
        return await ask(self._app, PATH + path, "POST", headers, json.dumps(body).encode())


@asynccontextmanager
async def open_api(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    FakeServer().put_in_place(monkeypatch)
    file = folder / "waygate.yaml"
    file.write_text(TEXT, encoding="utf-8")
    async with open_app(settings_in(folder)) as (app, house):
        yield Api(app, house, file)


async def test_each_is_shown_as_it_is_configured_and_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_api(tmp_path, monkeypatch) as api:
        answer = await api.get("?limit=2")
        body = answer.json()
        assert (body["total"], answer.header("x-total-count")) == (3, "3")
        web, off = body["upstreams"]
        assert (web["name"], web["block"], web["enabled"]) == ("web", "upstreams", True)
        assert web["section"] == {
            "url": "https://web.example.org/mcp",
            "headers": {"X-Api-Key": "(secret)"},
        }
        assert (web["endpoints"], web["quarantine"]) == (["default", "dev"], "first-use")
        assert (web["state"]["state"], web["state"]["up"]) == ("ready", True)
        assert (off["enabled"], off["state"], off["quarantine"]) == (False, None, "on")
        theirs = (await api.get("/theirs")).json()
        assert (theirs["block"], theirs["state"]["name"]) == ("mcpServers", "theirs")
        assert (await api.get("/nowhere")).status == 404
        narrow = await key_for(api.house, "admin", upstreams=("web",))
        assert (await api.get("", narrow)).json()["total"] == 1
        assert (await api.get("/off", narrow)).status == 404
        operator = await key_for(api.house, "operator")
        assert (await api.get("", operator)).status == 403


async def test_one_is_switched_off_and_on_again_in_the_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_api(tmp_path, monkeypatch) as api:
        answer = await api.switch("/web/disable")
        assert answer.status == 200
        assert answer.json()["entry"]["reason"] == "disable upstream web"
        assert [one["path"] for one in answer.json()["changes"]] == ["upstreams.web.enabled"]
        assert "web" not in api.house.current().upstreams
        assert "web:  # what we sell\n" in api.file.read_text()
        assert "hunter2hunter2" in api.file.read_text()
        assert (await api.get("/web")).json()["enabled"] is False
        assert (await api.switch("/web/enable", reason="back")).status == 200
        assert api.file.read_text() == TEXT.replace(
            "hunter2hunter2}\n", "hunter2hunter2}\n    enabled: true\n"
        )
        assert (await api.switch("/off/enable")).status == 200
        assert (await api.get("/off")).json()["state"]["up"] is True


async def test_what_cannot_be_switched_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_api(tmp_path, monkeypatch) as api:
        assert (await api.switch("/nowhere/enable")).status == 404
        theirs = await api.switch("/theirs/disable")
        assert (theirs.status, theirs.json()["error"]["code"]) == (409, "CONFLICT")
        stale = await api.switch("/web/disable", based_on="0" * 64)
        assert stale.status == 409
        assert (await api.switch("/web/disable", more=1)).status == 400
        assert api.file.read_text() == TEXT
