"""Keys of every kind at every route, in both eras: exactly the documented answers.

Knows the application, called in memory with keys from its own admin API. An open route that is not on
the short list fails here (threat model rules 1, 7, 9 and 10).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import BEARER, HOST, Answer, ask, open_app, settings_in
from tests.support.routes import api_routes, paths
from waygate_mcp.auth.key_desk import KeyDesk
from waygate_mcp.auth.key_text import KeyHash, make_key
from waygate_mcp.config.roles import roles_of
from waygate_mcp.model.permissions import Narrowing
from waygate_mcp.model.principal import LOCAL
from waygate_mcp.runtime.house import House
from waygate_mcp.storage.api_keys import ApiKeys
from waygate_mcp.web.app import App
from waygate_mcp.web.guard import Guard
from waygate_mcp.web.rest import OPEN_PATHS

DOCUMENT: dict[str, Any] = {
    "plugins": {
        "hello": {"use": "waygate_mcp.plugins.builtin.hello"},
        "shut": {"use": "waygate_mcp.testing.everything"},
    },
    "endpoints": {"dev": {}, "other": {}},
    "server": {"http_sse": True},
    "roles": {
        "narrow": ["session:open", "tools:list:hello__*", "tools:call:hello__*"],
        "mute": ["session:open"],
    },
}
RAW_PATHS = ("/mcp", "/servers/dev/mcp", "/servers/unknown/mcp", "/sse", "/messages/unknown")
METHODS = ("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS")
CONTENT = (b"content-type", b"application/json")
ACCEPT = (b"accept", b"application/json, text/event-stream")
SAME_ID = (b"x-request-id", b"the-same-everywhere")
MODERN = "2026-07-28"
LEGACY = "2025-11-25"

Header = tuple[bytes, bytes]


def bearer(text: str) -> Header:
    return (b"authorization", b"Bearer " + text.encode())


@dataclass
class Keys:
    """An application with a key of every kind. `bad` are all that must be refused."""

    app: App
    house: House[Guard]
    desk: KeyDesk
    bad: dict[str, str] = field(default_factory=dict)

    async def make(self, *roles: str, **narrowing: tuple[str, ...]) -> str:
        """Make a key and let the application know it."""
        _, text = await self.desk.create(
            LOCAL, "a key", roles or ("operator",), narrowing=Narrowing(**narrowing)
        )
        await self.house.foundation.keys.refresh()
        return text

    async def modern(
        self, key: str, method: str, params: Mapping[str, Any], path: str = "/mcp", **more: str
    ) -> Answer:
        """Send a request of 2026-07-28."""
        meta = "io.modelcontextprotocol/"
        envelope = {
            f"{meta}protocolVersion": MODERN,
            f"{meta}clientInfo": {"name": "tests", "version": "1"},
            f"{meta}clientCapabilities": {},
        }
        body = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": method,
            "params": {**params, "_meta": envelope},
        }
        headers = [bearer(key), CONTENT, ACCEPT, SAME_ID]
        mirrored = {"mcp-protocol-version": MODERN, "mcp-method": method, **more}
        name = params.get("name") or params.get("uri")
        if isinstance(name, str):
            mirrored["mcp-name"] = name
        headers += [(k.encode(), v.encode()) for k, v in mirrored.items()]
        return await self.send(path, headers, body)

    async def legacy(
        self, key: str, method: str, params: Mapping[str, Any], path: str = "/mcp"
    ) -> Answer:
        """Open a session of 2025-11-25 and send a request in it."""
        headers = [bearer(key), CONTENT, ACCEPT, SAME_ID]
        hello = {
            "protocolVersion": LEGACY,
            "capabilities": {},
            "clientInfo": {"name": "tests", "version": "1"},
        }
        opened = await self.send(path, headers, _request("initialize", hello))
        token = opened.header("mcp-session-id")
        if opened.status != 200 or token is None:
            return opened
        headers += [(b"mcp-session-id", token.encode()), (b"mcp-protocol-version", LEGACY.encode())]
        await self.send(path, headers, {"jsonrpc": "2.0", "method": "notifications/initialized"})
        return await self.send(path, headers, _request(method, params))

    async def send(self, path: str, headers: list[Header], body: Mapping[str, Any]) -> Answer:
        return await ask(self.app, path, "POST", (HOST, *headers), json.dumps(body).encode())


def _request(method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": dict(params)}


@asynccontextmanager
async def keys_of_all_kinds(tmp_path: Path) -> AsyncIterator[Keys]:
    settings = settings_in(tmp_path, DOCUMENT, env="production")
    async with open_app(settings) as (app, house):
        await ask(app, "/ready")
        foundation = house.foundation
        store, roles = ApiKeys(foundation.database), roles_of(DOCUMENT["roles"])
        now = foundation.clock.now
        keys = Keys(app, house, KeyDesk(store, foundation.key_hash, roles, now))
        long_ago = KeyDesk(store, foundation.key_hash, roles, lambda: now() - 100_000.0)
        revoked, revoked_text = await keys.desk.create(LOCAL, "revoked", ["admin"])
        await keys.desk.revoke(LOCAL, revoked.id)
        _, expired = await long_ago.create(LOCAL, "e", ["admin"], expires_in=timedelta(hours=1))
        turned, before = await long_ago.create(LOCAL, "turned", ["admin"])
        await long_ago.rotate(LOCAL, turned.id, timedelta(hours=1))
        _, foreign = await KeyDesk(store, KeyHash(b"another master key" * 2), roles, now).create(
            LOCAL, "of another gateway", ["admin"]
        )
        await foundation.keys.refresh()
        keys.bad = {
            "revoked": revoked_text,
            "expired": expired,
            "rotated away": before,
            "foreign": foreign,
            "never made": make_key(),
            "of a known id": make_key(public_id=turned.id),
            "no key of ours": "x" * 40,
            "empty": "",
        }
        yield keys


def walk(app: App) -> list[tuple[str, str]]:
    """Every method and path the application knows."""
    assert app._rest is not None
    found = {*RAW_PATHS, *paths(app._rest.api)}
    return [(method, path) for path in sorted(found) for method in METHODS]


def plain(answer: Answer) -> bytes:
    """The bytes of an answer without the moment it was given."""
    try:
        body = answer.json()
    except ValueError:
        return answer.body
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body["error"].pop("timestamp", None)
    return json.dumps(body).encode()


@pytest.mark.parametrize("part", range(3))
async def test_no_key_that_is_good_no_more_comes_in_anywhere(tmp_path: Path, part: int) -> None:
    async with keys_of_all_kinds(tmp_path) as keys:
        walked = walk(keys.app)
        assert {path for _, path in walked} >= {"/mcp", "/admin/v1/keys", "/admin/v1/explain"}
        for method, path in walked[part::3]:
            if method == "OPTIONS" or path in OPEN_PATHS:
                continue
            stranger = await ask(keys.app, path, method, (HOST, SAME_ID))
            assert stranger.status == 401, f"{method} {path} without a key: {stranger.status}"
            texts: dict[bytes, str] = {}
            for kind, text in keys.bad.items():
                for header in (bearer(text), (b"x-api-key", text.encode())):
                    answer = await ask(keys.app, path, method, (HOST, SAME_ID, header))
                    assert answer.status == 401, f"{method} {path}, {kind}: {answer.status}"
                    assert answer.header("www-authenticate") is not None
                    texts.setdefault(plain(answer), kind)
            assert len(texts) == 1, f"{method} {path} tells bad keys apart: {texts}"


async def test_a_key_without_permissions_is_refused_by_every_rest_route(tmp_path: Path) -> None:
    async with keys_of_all_kinds(tmp_path) as keys:
        assert keys.app._rest is not None
        mute, good = await keys.make("mute"), await keys.make("admin")
        checked = 0
        for route in api_routes(keys.app._rest.api):
            path = route.path
            for method in sorted(route.methods):
                if path in OPEN_PATHS:
                    continue
                headers = (HOST, bearer(mute), CONTENT)
                answer = await ask(keys.app, path, method, headers, b"{}")
                assert answer.status == 403, f"{method} {path}: {answer.status} {answer.body!r}"
                answer = await ask(keys.app, path, method, (HOST, bearer(good), CONTENT), b"{}")
                assert answer.status not in (401, 403), f"{method} {path}: {answer.status}"
                checked += 1
        assert checked >= 12


HIDDEN: list[tuple[str, str, dict[str, Any], str, str]] = [
    ("tools/call", "name", {"arguments": {}}, "shut__test_simple_text", "shut__test_nowhere_now"),
    ("tools/call", "name", {"arguments": {}}, "shut__test_custom_header", "shut__test_nowhere_here__"),
    ("tools/call", "name", {"arguments": {"a": 1}}, "shut__slow_cancellable", "shut__slow_nowhere_now_"),
    ("prompts/get", "name", {}, "shut__test_simple_prompt", "shut__test_nowhere_there"),
    ("resources/read", "uri", {}, "test://static-text", "test://nowhere-now"),
    ("resources/read", "uri", {}, "test://template/1/data", "test://nowheres/1/data"),
]  # fmt: skip


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_what_is_hidden_answers_as_what_is_missing(tmp_path: Path, era: str) -> None:
    async with keys_of_all_kinds(tmp_path) as keys:
        send = keys.modern if era == "modern" else keys.legacy
        wide = await keys.make("operator")
        narrow = {
            "by its role": await keys.make("narrow"),
            "to an upstream": await keys.make("operator", upstreams=("hello",)),
            "to names": await keys.make("operator", names=("hello__*",)),
        }
        for method, member, rest, hidden, missing in HIDDEN:

            async def answers(key: str, *names: str) -> list[tuple[int, bytes]]:
                found = [
                    (await send(key, method, {member: name, **rest}), name.encode())  # noqa: B023 - used at once
                    for name in names
                ]
                return [(each.status, plain(each).replace(name, b"N")) for each, name in found]

            is_there, is_not = await answers(wide, hidden, missing)
            assert is_there != is_not, f"{method} {hidden} is there for who may use it"
            for how, key in narrow.items():
                of_hidden, of_missing = await answers(key, hidden, missing)
                assert of_hidden == of_missing, f"{method} {hidden}, narrowed {how}"


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_an_endpoint_a_key_is_not_for_is_not_there(tmp_path: Path, era: str) -> None:
    async with keys_of_all_kinds(tmp_path) as keys:
        narrow = await keys.make("admin", endpoints=("dev",))
        send = keys.modern if era == "modern" else keys.legacy
        assert (await send(narrow, "tools/list", {}, "/servers/dev/mcp")).status == 200
        for method, params in (("tools/list", {}), ("tools/call", {"name": "hello__greet"})):
            missing = await send(narrow, method, params, "/servers/gone/mcp")
            assert missing.status == 404
            for path in ("/servers/other/mcp", "/mcp"):
                hidden = await send(narrow, method, params, path)
                assert (hidden.status, hidden.body) == (404, missing.body), path
        of_old = await ask(keys.app, "/sse", "GET", (HOST, bearer(narrow), SAME_ID))
        assert of_old.status == 404


async def test_the_state_of_the_server_names_only_what_a_key_may_reach(tmp_path: Path) -> None:
    async with keys_of_all_kinds(tmp_path) as keys:
        narrow = await keys.make("admin", endpoints=("dev",), upstreams=("hello",))
        told = (await ask(keys.app, "/mcp/status", headers=(HOST, bearer(narrow)))).json()
        assert [one["name"] for one in told["endpoints"]] == ["dev"]
        assert told["endpoints"][0]["providers"] == ["hello"]
        assert told["plugins"] == ["hello"]


async def test_a_role_that_only_calls_agrees_with_what_explain_says(tmp_path: Path) -> None:
    async with keys_of_all_kinds(tmp_path) as keys:
        text = await keys.make("narrow")
        for name, is_allowed in (("hello__greet", True), ("shut__test_simple_text", False)):
            path = f"/admin/v1/explain?key={text[3:15]}&name={name}"
            told = (await ask(keys.app, path, headers=(HOST, BEARER))).json()
            called = await keys.modern(text, "tools/call", {"name": name, "arguments": {}})
            assert told["allowed"] is is_allowed
            assert ("result" in called.json()) is is_allowed
