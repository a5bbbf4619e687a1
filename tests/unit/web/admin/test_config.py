"""`/admin/v1/config`: a document shown, planned, applied, found again, rolled back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import BEARER, HOST, Answer, ask, open_app, settings_in
from tests.support.house_keys import key_for
from waygate_mcp.errors import ConfigError
from waygate_mcp.runtime import config_desk
from waygate_mcp.runtime.house import House
from waygate_mcp.web.guard import Guard

FIRST = "# ours\nplugins:\n  hello: {use: waygate_mcp.plugins.builtin.hello}\n"
SECOND = f"{FIRST}endpoints:\n  dev: {{bind: [hello]}}\n"
PATH = "/admin/v1/config"


class Api:
    """The application, and its document."""

    def __init__(self, app: Any, house: House[Guard], file: Path) -> None:
        self.house = house
        self.file = file
        self._app = app

    async def get(self, path: str = "", key: tuple[bytes, bytes] | None = BEARER) -> Answer:
        headers = (HOST,) if key is None else (HOST, key)
        return await ask(self._app, PATH + path, "GET", headers)

    async def post(self, path: str, body: dict[str, Any]) -> Answer:
        content = (b"content-type", b"application/json")
        return await ask(
            self._app, PATH + path, "POST", (HOST, BEARER, content), json.dumps(body).encode()
        )

    async def digest(self) -> str:
        return str((await self.get()).json()["digest"])


@asynccontextmanager
async def open_api(folder: Path, text: str = FIRST) -> AsyncIterator[Api]:
    file = folder / "waygate.yaml"
    file.write_text(text, encoding="utf-8")
    async with open_app(settings_in(folder)) as (app, house):
        yield Api(app, house, file)


async def test_a_whole_cycle(tmp_path: Path) -> None:
    async with open_api(tmp_path) as api:
        answer = await api.get()
        shown = answer.json()
        assert answer.status == 200
        assert (shown["text"], shown["masked"], shown["file_is_same"]) == (FIRST, False, True)
        assert answer.header("etag") == f'"{shown["digest"]}"'
        assert answer.header("cache-control") == "no-store"

        planned = (await api.post("/plan", {"text": SECOND})).json()
        assert (planned["valid"], planned["problems"]) == (True, [])
        (change,) = planned["changes"]
        assert (change["kind"], change["path"], change["old"]) == ("added", "endpoints.dev", None)
        assert change["new"]["bind"] == ["hello"]
        assert api.file.read_text() == FIRST

        wanted = {"text": SECOND, "based_on": planned["based_on"], "reason": "for tests"}
        applied = (await api.post("/apply", wanted)).json()
        assert applied["entry"]["applied_by"].startswith("key:")
        assert (applied["entry"]["reason"], applied["generation"]) == ("for tests", 2)
        assert applied["entry"]["digest"] == planned["digest"] == await api.digest()
        assert api.file.read_text() == SECOND
        assert (await api.post("/apply", wanted)).status == 409

        listed = await api.get("/history?limit=1")
        body = listed.json()
        assert (body["total"], listed.header("x-total-count")) == (2, "2")
        assert 'rel="next"' in (listed.header("link") or "")
        assert body["entries"][0] == applied["entry"]
        first = (await api.get("/history?limit=1&page=2")).json()["entries"][0]
        assert first["applied_by"] == "file"
        whole = (await api.get(f"/history/{first['number']}")).json()
        assert (whole["text"], whole["masked"]) == (FIRST, False)

        back = {"number": first["number"], "based_on": await api.digest()}
        answer = await api.post("/rollback", back)
        assert (answer.status, answer.json()["changes"][0]["kind"]) == (200, "removed")
        assert api.file.read_text() == FIRST


async def test_what_cannot_be_put_in_force_says_why_and_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_api(tmp_path) as api:
        digest = await api.digest()

        async def applied(text: str, based_on: str = digest) -> tuple[int, str, Any]:
            answer = await api.post("/apply", {"text": text, "based_on": based_on})
            error = answer.json()["error"]
            assert api.file.read_text() == FIRST
            assert await api.digest() == digest
            return answer.status, error["code"], error

        status, code, error = await applied("endpoint: {}\n")
        assert (status, code) == (400, "INVALID_REQUEST")
        assert "did you mean `endpoints`?" in str(error["details"])
        planned = (await api.post("/plan", {"text": "endpoint: {}\n"})).json()
        assert (planned["valid"], planned["problems"][0]["suggestion"]) == (False, "endpoints")

        missing = FIRST.replace("hello:", "other:").replace("builtin.hello", "builtin.nowhere")
        status, _, error = await applied(missing)
        assert status == 400
        assert "plugins.other.use" in str(error["details"])
        broken = FIRST.replace(".hello}", ".hello, config: {greeting: [1]}}")
        status, _, error = await applied(broken)
        assert status == 400
        assert "plugins.hello.config.greeting" in str(error["details"])

        assert (await applied(SECOND, "0" * 64))[:2] == (409, "CONFLICT")
        assert (await applied(SECOND, "no digest"))[:2] == (400, "INVALID_REQUEST")
        for body in ({"text": SECOND}, {"based_on": digest}):
            answer = await api.post("/apply", body)
            assert answer.json()["error"]["code"] == "MISSING_PARAMETER"

        def full(*_: Any) -> None:
            raise ConfigError("cannot be written") from OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(config_desk, "write_whole", full)
            status, code, error = await applied(SECOND)
        assert (status, code) == (503, "SERVICE_UNAVAILABLE")
        assert error["message"] == "The document cannot be written: No space left on device."

        unknown = await api.post("/rollback", {"number": 999, "based_on": digest})
        assert (unknown.status, unknown.json()["error"]["code"]) == (404, "NOT_FOUND")
        assert (await api.get("/history/999")).status == 404
        assert (await api.get("/history/first")).status == 400


async def test_a_plugin_that_fails_as_it_opens_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("raise ValueError('not today')", encoding="utf-8")
    text = f"server: {{remote_changes: all}}\n{FIRST}"
    async with open_api(tmp_path, text) as api:
        wanted = {"text": f"{text}  bad: {{use: ./bad.py}}\n", "based_on": await api.digest()}
        answer = await api.post("/apply", wanted)
        assert answer.status == 400
        assert "bad" in str(answer.json()["error"]["details"])
        assert api.file.read_text() == text


async def test_a_secret_in_clear_is_not_shown_and_its_document_not_put_back(
    tmp_path: Path,
) -> None:
    text = f"{FIRST}upstreams:\n  web:\n    url: https://a.example.org\n    enabled: false\n"
    text += "    headers: {X-Api-Key: hunter2hunter2}\n"
    async with open_api(tmp_path, text) as api:
        shown = (await api.get()).json()
        assert shown["masked"] is True
        assert shown["text"] == text.replace("hunter2hunter2", "(secret)")
        await api.house.document_record.note("now")
        (entry,) = (await api.get("/history")).json()["entries"]
        assert entry["masked"] is True
        back = {"number": entry["number"], "based_on": shown["digest"]}
        answer = await api.post("/rollback", back)
        assert answer.status == 409
        assert "was not kept" in answer.json()["error"]["message"]
        api.file.write_text(FIRST, encoding="utf-8")
        assert (await api.get()).json()["file_is_same"] is False


async def test_only_who_may_change_the_document_sees_it(tmp_path: Path) -> None:
    async with open_api(tmp_path) as api:
        assert (await api.get(key=None)).status == 401
        operator = await key_for(api.house, "operator")
        for path in ("", "/history", "/history/1"):
            refused = await api.get(path, operator)
            assert refused.json()["error"]["details"] == {"permission": "admin:config"}
