from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from tests.support.house import BEARER, HOST, Answer, ask, open_house, scope_of, settings_in
from waygate_mcp.errors import InvalidArgumentsError, RateLimitedError
from waygate_mcp.runtime.house import House
from waygate_mcp.telemetry.logs import REQUEST_ID, RequestRecord
from waygate_mcp.web.guard import Guard
from waygate_mcp.web.problems import Refused
from waygate_mcp.web.rest import OPEN_PATHS, RestDoor

WEB = "https://web.example.org"


class Door:
    """The REST door of a house, and what it recorded."""

    def __init__(self, house: House[Guard]) -> None:
        self.house = house
        self.rest = RestDoor(house)
        self.records: list[RequestRecord] = []
        house.request_log.write = self.records.append  # type: ignore[method-assign,assignment]  # the test reads

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.rest(scope, scope["raw_path"].decode("latin-1"), receive, send)

    async def ask(self, path: str, method: str = "GET", *headers: tuple[bytes, bytes]) -> Answer:
        return await ask(self, path, method, (HOST, *headers))


@asynccontextmanager
async def open_door(
    folder: Path, document: dict[str, Any] | None = None, **more: Any
) -> AsyncIterator[Door]:
    async with open_house(settings_in(folder, document or {}, **more)) as house:
        yield Door(house)


def add_routes(door: Door) -> None:
    """Routes that fail in every way a route can."""

    async def known() -> None:
        raise InvalidArgumentsError(["text: expected a string"])

    async def refused() -> None:
        raise Refused(415, "unsupported", "JSON only.")

    async def limited() -> None:
        raise RateLimitedError(3)

    async def unknown() -> None:
        assert REQUEST_ID.get() is not None
        raise ZeroDivisionError("a secret of ours")

    async def teapot() -> None:
        raise HTTPException(418, "a teapot", {"x-tea": "green"})

    async def typed(number: int) -> int:
        return number

    for route in (known, refused, limited, unknown, teapot, typed):
        door.rest.api.add_api_route(f"/test/{route.__name__}", route, methods=["GET"])


def error_of(answer: Answer) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"code", "message", "details", "timestamp", "request_id"}
    assert error["request_id"] == answer.header("x-request-id")
    assert answer.header("cache-control") == "no-store"
    return error


async def test_open_routes_are_one_short_list() -> None:
    metadata = "/.well-known/oauth-protected-resource"
    of_endpoints = [f"{metadata}/mcp", f"{metadata}/servers/{{name}}/mcp"]
    assert sorted(OPEN_PATHS) == ["/", metadata, *of_endpoints, "/health", "/ready"]


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
async def test_an_open_route_answers_a_stranger(tmp_path: Path, path: str) -> None:
    async with open_door(tmp_path) as door:
        # Where no access tokens are taken there is nothing to say of them, which is no secret.
        expected = 404 if path.startswith("/.well-known/") else 200
        assert (await door.ask(path)).status == expected


@pytest.mark.parametrize(
    "path", ["/nope", "/metrics", "/health/", "/%68ealth", "//health", "/ready/x"]
)
async def test_all_else_asks_for_a_credential_first(tmp_path: Path, path: str) -> None:
    async with open_door(tmp_path) as door:
        answer = await door.ask(path)
        assert answer.status == 401
        assert error_of(answer)["code"] == "UNAUTHORIZED"
        assert answer.header("www-authenticate") == 'Bearer realm="waygate"'


async def test_an_unknown_path_is_404_in_our_envelope(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        for path in ("/nope", "/%68ealth", "/health/", "//"):
            answer = await door.ask(path, "GET", BEARER)
            assert answer.status == 404
            assert error_of(answer)["code"] == "NOT_FOUND"


async def test_a_wrong_method_is_405_and_names_the_right_ones(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        answer = await door.ask("/metrics", "POST", BEARER)
        assert answer.status == 405
        assert error_of(answer)["code"] == "METHOD_NOT_ALLOWED"
        assert answer.header("allow") == "GET"


async def test_options_that_is_no_preflight_needs_a_credential(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        assert (await door.ask("/health", "OPTIONS")).status == 401
        assert (await door.ask("/health", "OPTIONS", BEARER)).status == 405


async def test_head_is_get_for_the_routes(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        assert (await door.ask("/ready", "HEAD")).status == 200
        assert door.records[-1].method == "HEAD"


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("known", 400, "INVALID_REQUEST"),
        ("refused", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("limited", 429, "RATE_LIMITED"),
        ("unknown", 500, "INTERNAL_ERROR"),
        ("teapot", 418, "INVALID_REQUEST"),
        ("typed", 400, "MISSING_PARAMETER"),
        ("typed?number=what-was-sent", 400, "INVALID_REQUEST"),
    ],
)
async def test_every_failure_of_a_route_has_our_envelope(
    tmp_path: Path, name: str, status: int, code: str
) -> None:
    async with open_door(tmp_path) as door:
        add_routes(door)
        answer = await door.ask(f"/test/{name}", "GET", BEARER)
        assert (answer.status, error_of(answer)["code"]) == (status, code)
        assert b"secret of ours" not in answer.body
        assert b"what-was-sent" not in answer.body
        assert door.records[-1].status == status


async def test_a_failing_route_keeps_its_own_headers(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        add_routes(door)
        assert (await door.ask("/test/limited", "GET", BEARER)).header("retry-after") == "3"
        assert (await door.ask("/test/teapot", "GET", BEARER)).header("x-tea") == "green"


async def test_every_answer_has_request_id_and_security_headers(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        for path in ("/", "/nope"):
            answer = await door.ask(path, "GET", (b"x-request-id", b"mine-1"))
            assert answer.header("x-request-id") == "mine-1"
            assert answer.header("x-content-type-options") == "nosniff"
            assert answer.header("x-frame-options") == "DENY"
            assert answer.header("referrer-policy") == "no-referrer"
            assert "default-src 'none'" in (answer.header("content-security-policy") or "")


async def test_the_id_of_a_request_does_not_outlive_it(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        await door.ask("/")
        assert REQUEST_ID.get() is None


async def test_every_request_is_logged_and_counted_by_its_route(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        await door.ask("/ready?token=secret", "GET", BEARER)
        await door.ask("/nope")
        ready, nope = door.records
        assert (ready.path, ready.status, ready.principal) == ("/ready", 200, "key:bootstrap")
        assert (nope.path, nope.status, nope.outcome) == ("/nope", 401, "unauthenticated")
        assert (ready.door, ready.client) == ("http", "127.0.0.1")
        text = door.house.metrics.render()[0].decode()
        assert 'waygate_requests_total{endpoint="/ready",method="GET",status="200"} 1.0' in text
        assert 'waygate_requests_total{endpoint="other",method="GET",status="401"} 1.0' in text
        assert 'waygate_auth_failures_total{reason="missing"} 1.0' in text


async def test_a_request_nobody_answered_is_recorded_as_such(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:

        async def silent(_scope: Any, _receive: Any, _send: Any) -> None:
            """A client that is gone gets nothing."""

        door.rest.api = silent  # type: ignore[assignment]  # stands for a route that gives up
        scope = scope_of("/") | {"client": None}
        await door(scope, None, None)
        assert door.records[-1].status == 499


# --- CORS

CORS: dict[str, Any] = {"server": {"cors_origins": [WEB]}}
ORIGIN = (b"origin", WEB.encode())
ASKS = (b"access-control-request-method", b"GET")


async def test_a_listed_page_reads_our_answers_and_refusals(tmp_path: Path) -> None:
    async with open_door(tmp_path, CORS) as door:
        for path in ("/", "/nope"):
            answer = await door.ask(path, "GET", ORIGIN)
            assert answer.header("access-control-allow-origin") == WEB
            assert answer.header("vary") == "Origin"


async def test_a_preflight_needs_no_credential(tmp_path: Path) -> None:
    async with open_door(tmp_path, CORS) as door:
        answer = await door.ask("/metrics", "OPTIONS", ORIGIN, ASKS)
        assert answer.status == 204
        assert answer.header("access-control-allow-origin") == WEB
        assert answer.header("vary") == (
            "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
        )


async def test_a_preflight_of_another_page_is_refused(tmp_path: Path) -> None:
    document = {"server": {"cors_origins": [WEB], "allowed_origins": ["https://app.example"]}}
    async with open_door(tmp_path, document) as door:
        foreign = (b"origin", b"https://evil.example")
        assert (await door.ask("/metrics", "OPTIONS", foreign, ASKS)).status == 403
        merely_allowed = (b"origin", b"https://app.example")
        assert (await door.ask("/metrics", "OPTIONS", merely_allowed, ASKS)).status == 403


# --- documentation


async def test_the_description_is_open_in_development_on_loopback(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        assert (await door.ask("/openapi.json")).json()["info"]["title"] == "Waygate MCP"
        docs = await door.ask("/docs")
        assert docs.status == 200
        assert docs.header("content-security-policy") is None


@pytest.mark.parametrize("more", [{"env": "production"}, {"host": "0.0.0.0"}])
async def test_elsewhere_there_is_no_description(tmp_path: Path, more: dict[str, Any]) -> None:
    async with open_door(tmp_path, None, **more) as door:
        for path in ("/docs", "/openapi.json", "/redoc"):
            assert (await door.ask(path)).status == 401
            assert (await door.ask(path, "GET", BEARER)).status == 404


async def test_public_metrics_are_open_and_only_then(tmp_path: Path) -> None:
    async with open_door(tmp_path, {"server": {"metrics": "public"}}) as door:
        assert (await door.ask("/metrics")).status == 200
