"""`/admin/v1/endpoints`: what each binds, shows and hides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.house import BEARER, HOST, Answer, ask, open_app, settings_in
from tests.support.house_keys import key_for

DOCUMENT: dict[str, Any] = {
    "plugins": {
        "hello": {"use": "waygate_mcp.plugins.builtin.hello"},
        "more": {"use": "waygate_mcp.plugins.builtin.hello"},
    },
    "endpoints": {
        "dev": {"bind": ["hello", "more"], "prefix": "none", "tools": {"titles": {"gone": "Gone"}}},
    },
}
PATH = "/admin/v1/endpoints"


async def test_endpoints_are_listed_with_what_they_bind_and_shown_with_what_they_hide(
    tmp_path: Path,
) -> None:
    async with open_app(settings_in(tmp_path, DOCUMENT)) as (app, house):

        async def get(path: str = "", key: tuple[bytes, bytes] = BEARER) -> Answer:
            return await ask(app, PATH + path, "GET", (HOST, key))

        body = (await get()).json()
        assert (body["total"], [one["name"] for one in body["endpoints"]]) == (
            2,
            ["default", "dev"],
        )
        dev = body["endpoints"][1]
        assert dev["path"] == "/servers/dev/mcp"
        assert dev["section"]["prefix"] == "none"
        assert [(one["name"], one["prefix"]) for one in dev["providers"]] == [
            ("hello", ""),
            ("more", ""),
        ]
        await ask(app, "/mcp/tools?endpoint=dev", "GET", (HOST, BEARER))
        answer = await get("/dev")
        shown = answer.json()
        assert answer.header("cache-control") == "no-store"
        assert shown["providers"][0]["lists"]["tool"]
        assert {(one["provider"], one["name"]) for one in shown["hidden"]} == {
            ("more", "echo"),
            ("more", "greet"),
        }
        assert all(one["reason"] for one in shown["hidden"])
        assert shown["unknown"] == ["gone"]
        assert (await get("/nowhere")).status == 404

        narrow = await key_for(house, "admin", endpoints=("dev",), upstreams=("hello",))
        assert (await get("", narrow)).json()["total"] == 1
        seen = (await get("/dev", narrow)).json()
        assert [one["name"] for one in seen["providers"]] == ["hello"]
        assert seen["hidden"] == []
        assert (await get("/default", narrow)).status == 404
        viewer = await key_for(house, "viewer")
        assert (await get("", viewer)).status == 403
