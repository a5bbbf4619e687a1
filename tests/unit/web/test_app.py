from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.house import BEARER, HOST, Answer, ask, open_app, settings_in
from tests.support.routes import paths
from waygate_mcp.config.document import DEFAULT_ENDPOINT
from waygate_mcp.errors import ConfigError
from waygate_mcp.web.app import App
from waygate_mcp.web.cycle import CYCLE
from waygate_mcp.web.rest import OPEN_PATHS

DOCUMENT: dict[str, Any] = {
    "plugins": {"hello": {"use": "waygate_mcp.plugins.builtin.hello"}},
    "endpoints": {"dev": {}},
    "server": {"http_sse": True},
}
RAW_PATHS = ("/mcp", "/servers/dev/mcp", "/servers/unknown/mcp", "/sse", "/messages/unknown")
"""What the application answers without asking a route of FastAPI."""

METHODS = ("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS")
WRONG = (b"x-api-key", b"wg_000000000000_" + b"0" * 49)
Headers = Iterable[tuple[bytes, bytes]]


class Names:
    """Notes which door was asked for what."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    async def mcp(self, scope: Any, receive: Any, send: Any, endpoint: str) -> None:
        self.seen.append(("mcp", endpoint))

    async def sse(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(("sse",))

    async def rest(self, scope: Any, path: str, receive: Any, send: Any) -> None:
        self.seen.append(("rest", path))


@pytest.mark.parametrize(
    ("path", "door"),
    [
        ("/mcp", ("mcp", DEFAULT_ENDPOINT)),
        ("/servers/dev/mcp", ("mcp", "dev")),
        ("/servers/a%2Fb/mcp", ("mcp", "a%2Fb")),
        ("/sse", ("sse",)),
        ("/messages/1", ("sse",)),
        ("/", ("rest", "/")),
        ("/mcp/", ("rest", "/mcp/")),
        ("//mcp", ("rest", "//mcp")),
        ("/MCP", ("rest", "/MCP")),
        ("/%6dcp", ("rest", "/%6dcp")),
        ("/mcp/execute", ("rest", "/mcp/execute")),
        ("/servers//mcp", ("rest", "/servers//mcp")),
        ("/servers/a/b/mcp", ("rest", "/servers/a/b/mcp")),
        ("/servers/../mcp/mcp", ("rest", "/servers/../mcp/mcp")),
        ("/servers/dev/mcp/", ("rest", "/servers/dev/mcp/")),
        ("/sse/", ("rest", "/sse/")),
        ("/messages", ("rest", "/messages")),
    ],
)
async def test_the_raw_path_decides_the_door(
    tmp_path: Path, path: str, door: tuple[object, ...]
) -> None:
    async with open_app(settings_in(tmp_path, {})) as (app, _house):
        names = Names()
        app._mcp, app._sse, app._rest = names.mcp, names.sse, names.rest  # type: ignore[assignment]  # doors that only note
        scope = {"type": "http", "method": "GET", "raw_path": path.encode(), "path": "/decoded"}
        await app(scope, None, None)  # type: ignore[arg-type]  # nothing is read or sent
        assert names.seen == [door]


async def test_a_page_may_ask_whether_it_may_call_the_old_transport(tmp_path: Path) -> None:
    document = DOCUMENT | {"server": {"http_sse": True, "cors_origins": ["https://web.example"]}}
    asks = (b"access-control-request-method", b"GET")
    async with open_app(settings_in(tmp_path, document)) as (app, _house):
        for path in ("/sse", "/messages/1", "/mcp", "/servers/dev/mcp"):
            headers = (HOST, (b"origin", b"https://web.example"), asks)
            answer = await ask(app, path, "OPTIONS", headers)
            assert answer.status == 204
            assert answer.header("access-control-allow-origin") == "https://web.example"


async def test_a_server_that_gives_no_raw_path_is_served_by_the_path(tmp_path: Path) -> None:
    async with open_app(settings_in(tmp_path, {})) as (app, _house):
        names = Names()
        app._mcp = names.mcp  # type: ignore[assignment]  # a door that only notes
        await app({"type": "http", "path": "/mcp"}, None, None)  # type: ignore[arg-type]  # nothing is read
        assert names.seen == [("mcp", DEFAULT_ENDPOINT)]


async def test_web_sockets_are_closed(tmp_path: Path) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async with open_app(settings_in(tmp_path, {})) as (app, _house):
        await app({"type": "websocket", "path": "/mcp"}, None, send)  # type: ignore[arg-type]  # nothing is read
        assert sent == [{"type": "websocket.close", "code": 1000}]


async def test_the_house_opens_and_closes_with_the_server(tmp_path: Path) -> None:
    async with open_app(settings_in(tmp_path, {})) as (_app, house):
        assert house.is_ready
    assert house.is_draining


async def test_a_house_that_does_not_open_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        async with open_app(settings_in(tmp_path, {"plugns": {}})):
            raise AssertionError("it opened")
    assert caught.value.path == "plugns"


async def test_a_rest_door_that_cannot_be_loaded_is_a_failure_of_its_requests_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "waygate_mcp.web.rest", ModuleType("empty"))
    async with open_app(settings_in(tmp_path, DOCUMENT)) as (app, _house):
        with capture_logs() as lines:
            answer = await ask(app, "/health")
        assert (answer.status, answer.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert (await ask(app, "/mcp", "POST", (HOST, BEARER))).status == 415
    assert "task_failed" in [line["event"] for line in lines]


# --- requests the server ends because it stops


class Begun:
    """Stands for the server's own record of an answer."""

    def __init__(self, **more: bool) -> None:
        self.response_started = more.get("started", False)
        self.response_complete = more.get("complete", False)
        self.chunked_encoding = more.get("chunked", False)


@pytest.mark.parametrize(
    ("begun", "sent"),
    [
        (Begun(), ["http.response.start", "http.response.body"]),
        (Begun(started=True, chunked=True), ["http.response.body"]),
        (Begun(started=True), []),
        (Begun(started=True, complete=True), []),
        (None, []),
    ],
)
async def test_a_request_cut_short_by_the_end_gets_an_end(
    tmp_path: Path, begun: Begun | None, sent: list[str]
) -> None:
    found: list[Any] = []

    async def send(message: Any) -> None:
        found.append(message)

    async def cancelled(*_: object) -> None:
        raise asyncio.CancelledError

    async with open_app(settings_in(tmp_path, {})) as (app, house):
        app._mcp = cancelled  # type: ignore[assignment]  # a call that is cancelled
        scope: dict[str, Any] = {"type": "http", "raw_path": b"/mcp"}
        if begun is not None:
            scope["extensions"] = {CYCLE: begun}
        with pytest.raises(asyncio.CancelledError):
            await app(scope, None, send)  # type: ignore[arg-type]  # nothing is read
        assert found == []
        house.is_draining = True
        await app(scope, None, send)  # type: ignore[arg-type]  # nothing is read
        assert [message["type"] for message in found] == sent
        if len(found) == 2:
            assert found[0]["status"] == 503
            assert b"SERVICE_UNAVAILABLE" in found[1]["body"]


# --- one function decides who comes in: every route, without a key, with a bad one, with a good one


def walk(app: App) -> list[tuple[str, str]]:
    """Every method and path the application knows."""
    assert app._rest is not None
    found = [(method, path) for path in RAW_PATHS for method in METHODS]
    return found + [(method, path) for path in sorted(paths(app._rest.api)) for method in METHODS]


async def settled(app: App, method: str, path: str, *headers: tuple[bytes, bytes]) -> Answer:
    return await ask(app, path, method, (HOST, *headers))


@pytest.mark.parametrize("more", [{"host": "0.0.0.0"}, {"env": "production"}])
async def test_no_route_but_the_open_ones_answers_without_a_good_key(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    async with open_app(settings_in(tmp_path, DOCUMENT, **more)) as (app, _house):
        await ask(app, "/ready")
        walked = walk(app)
        assert {path for _, path in walked} >= {"/", "/health", "/ready", "/metrics", "/mcp"}
        for method, path in walked:
            for headers in ((), (WRONG,)):
                status = (await settled(app, method, path, *headers)).status
                is_open = path in OPEN_PATHS and method != "OPTIONS"
                # OPTIONS at the MCP door is a preflight and nothing else: without an Origin, 403.
                is_refused = status == 401 or (method == "OPTIONS" and status == 403)
                assert is_refused is not is_open, f"{method} {path} without a good key: {status}"


async def test_a_good_key_comes_in_everywhere(tmp_path: Path) -> None:
    async with open_app(settings_in(tmp_path, DOCUMENT)) as (app, _house):
        await ask(app, "/ready")
        for method, path in walk(app):
            if (method, path) == ("GET", "/sse") or method == "OPTIONS":
                continue  # a stream, which would not end; a preflight, which carries no key
            status = (await settled(app, method, path, BEARER)).status
            assert status not in (401, 403), f"{method} {path} with a good key: {status}"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (((b"host", b"evil.example"), BEARER), 421),
        ((HOST, (b"origin", b"https://evil.example"), BEARER), 403),
        ((HOST, (b"origin", b"http://127.0.0.1:3000"), BEARER), 403),
        ((HOST, BEARER, BEARER), 400),
        ((HOST, BEARER, (b"x-api-key", b"another")), 400),
        ((BEARER,), 400),
    ],
)
async def test_every_route_refuses_what_the_guard_refuses(
    tmp_path: Path, headers: Headers, status: int
) -> None:
    async with open_app(settings_in(tmp_path, DOCUMENT)) as (app, _house):
        await ask(app, "/ready")
        for method, path in walk(app):
            found = (await ask(app, path, method, headers)).status
            reads_no_key = path in OPEN_PATHS | {"/docs", "/openapi.json"} or method == "OPTIONS"
            if reads_no_key and (b"x-api-key", b"another") in headers:
                continue
            assert found == status, f"{method} {path}: {found}"
