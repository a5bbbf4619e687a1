"""The REST door: FastAPI, and what stands around it on every request.

Knows the short list of open routes, the request id, the request log, the metrics and the headers
every answer has. Refuses to know any route's meaning. Wrapped by a plain function, so that nothing
stands between an answer and the client's disconnect.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from waygate_mcp import __version__
from waygate_mcp.config.hosts import is_loopback
from waygate_mcp.errors import ForbiddenError, WaygateError
from waygate_mcp.model.unverified import UnverifiedError
from waygate_mcp.runtime.generation import Generation
from waygate_mcp.runtime.house import House
from waygate_mcp.telemetry.logs import REQUEST_ID, RequestRecord, get_logger
from waygate_mcp.web import admin, execute, health, servers, status, tools, well_known
from waygate_mcp.web.access import with_scopes
from waygate_mcp.web.body import BODY_TIMEOUT_S, read_body
from waygate_mcp.web.guard import STRANGER, Admission, Guard
from waygate_mcp.web.problems import (
    CODES,
    MISSING_PARAMETER,
    Problem,
    Refused,
    describe,
    encode_envelope,
)
from waygate_mcp.web.resource import endpoint_of_metadata

__all__ = ["OPEN_PATHS", "RestDoor", "build_api"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

OPEN_PATHS = frozenset({
    "/",
    "/health",
    "/ready",
    "/.well-known/oauth-protected-resource",
    "/.well-known/oauth-protected-resource/mcp",
    "/.well-known/oauth-protected-resource/servers/{name}/mcp",
})  # fmt: skip
"""The routes that ask for no credential (threat model rule 1)."""

DOCS_PATHS = frozenset({"/docs", "/openapi.json"})
"""Open as well, where they exist: in development, on loopback."""

_SECURITY_HEADERS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
_NO_CONTENT_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_NO_STORE = (b"cache-control", b"no-store")
_JSON = (b"content-type", b"application/json")
_UNKNOWN_ROUTE = "other"
_WITHOUT_BODY = frozenset({"GET", "OPTIONS"})
"""Methods whose body, if there is one, no route reads. Nor does one that strangers may use."""

_log = get_logger("web.rest")


class RestDoor:
    """Everything that is not MCP."""

    def __init__(self, house: House[Guard]) -> None:
        self._house = house
        self._has_docs = not house.settings.is_production and is_loopback(house.settings.host)
        self._open_paths = OPEN_PATHS | DOCS_PATHS if self._has_docs else OPEN_PATHS
        self.api = build_api(house, has_docs=self._has_docs)

    async def __call__(self, scope: Scope, path: str, receive: Receive, send: Send) -> None:
        """Serve one request; `path` is the raw one, and the one the routes are matched against."""
        visit = _Visit(self._house, scope, path, send)
        token = REQUEST_ID.set(None)
        try:
            await self._serve(visit, scope, receive)
        except (Refused, WaygateError) as exc:
            visit.outcome = exc.code
            await visit.fail(describe(exc))
        except Exception as exc:  # noqa: BLE001 - the door: the client gets an answer all the same
            # Without a traceback here: the handler of the application has logged it already.
            visit.outcome = type(exc).__name__
            await visit.fail(Problem(500, CODES[500], WaygateError.default_safe_message))
        finally:
            REQUEST_ID.reset(token)
            visit.record()

    async def _serve(self, visit: _Visit, scope: Scope, receive: Receive) -> None:
        generation = self._house.current()
        try:
            admission = self._admit(visit, generation)
        except UnverifiedError as waits:
            admission = await self._admit_later(visit, generation, waits)
        REQUEST_ID.set(visit.request_id)
        visit.extra = generation.guard.cors_headers(admission.headers.get(b"origin"))
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in admission.headers:
            await visit.preflight(generation.guard.preflight(admission))
            return
        inner = dict(scope)
        # The routes see the path as it came; HEAD is GET whose body the server leaves out.
        inner["path"] = visit.path
        inner["root_path"] = ""
        inner["method"] = "GET" if scope["method"] == "HEAD" else scope["method"]
        if admission.principal is not STRANGER:
            if not _is_call(inner["method"], visit.path):
                counting = generation.limiter.admit(admission.principal)
                if counting is not None:
                    await counting
            if inner["method"] not in _WITHOUT_BODY:
                limit = self._house.settings.max_request_size
                receive = _given(
                    await read_body(receive, limit, BODY_TIMEOUT_S, admission.headers), receive
                )
        inner["state"] = {"admission": admission, "generation": generation}
        visit.inner = inner
        with generation.in_use():
            await self.api(inner, receive, visit.send)

    def _admit(self, visit: _Visit, generation: Generation[Guard]) -> Admission:
        scope, guard = visit.scope, generation.guard
        is_preflight = scope["method"] == "OPTIONS"
        try:
            if not is_preflight and not self._is_open(visit.path, generation):
                admission = guard.admit(scope)
            else:
                admission = guard.admit_open(scope)
                if is_preflight and b"access-control-request-method" not in admission.headers:
                    admission = guard.admit(scope)
        except Refused as refused:
            visit.request_id = refused.request_id
            visit.extra = guard.cors_headers(_header(scope, b"origin"))
            raise
        visit.request_id = admission.request_id
        if admission.principal is STRANGER and not is_preflight:
            admission.principal = guard.recognise(admission.headers)
        visit.principal = admission.principal.id
        return admission

    async def _admit_later(
        self, visit: _Visit, generation: Generation[Guard], unverified: UnverifiedError
    ) -> Admission:
        """Wait until a credential is verified. Open routes never come here."""
        guard = generation.guard
        try:
            admission = await guard.admit_later(visit.scope, unverified)
        except Refused as refused:
            visit.request_id = refused.request_id
            visit.extra = guard.cors_headers(_header(visit.scope, b"origin"))
            raise
        visit.request_id = admission.request_id
        visit.principal = admission.principal.id
        return admission

    def _is_open(self, path: str, generation: Generation[Guard]) -> bool:
        if path == "/metrics":
            return generation.document.server.metrics == "public"
        return path in self._open_paths or endpoint_of_metadata(path) is not None


class _Visit:
    """One request at the REST door, and its record."""

    def __init__(self, house: House[Guard], scope: Scope, path: str, send: Send) -> None:
        self.scope = scope
        self.path = path
        self.inner: Scope = {}
        self.request_id = ""
        self.principal: str | None = None
        self.outcome: str | None = None
        self.extra: tuple[Header, ...] = ()
        self._house = house
        self._send = send
        self._started_s = time.perf_counter()
        self._status = 0

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on, with the headers every answer has."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers: list[Header] = list(message.get("headers", ()))
            if self.path not in DOCS_PATHS or self._status != 200:
                headers.append(_NO_CONTENT_POLICY)
            headers += (
                (b"x-request-id", self.request_id.encode()),
                *_SECURITY_HEADERS,
                *self.extra,
            )
            message = {**message, "headers": headers}
        await self._send(message)

    async def fail(self, problem: Problem) -> None:
        """Answer an error, unless an answer was begun."""
        if self._status:
            return
        body = encode_envelope(problem, self.request_id, self._house.stamp.now())
        headers = [_JSON, _NO_STORE, (b"content-length", b"%d" % len(body)), *problem.headers]
        await self.send(
            {"type": "http.response.start", "status": problem.status, "headers": headers}
        )
        await self.send({"type": "http.response.body", "body": body})

    async def preflight(self, allowed: tuple[Header, ...] | None) -> None:
        """Answer the question of a page whether it may ask."""
        if allowed is None:
            raise Refused(
                403, "preflight_refused", "Pages of that Origin may not call this server."
            )
        self.extra = ()
        await self.send({"type": "http.response.start", "status": 204, "headers": list(allowed)})
        await self.send({"type": "http.response.body", "body": b""})

    def record(self) -> None:
        """Count and log the request."""
        house, scope = self._house, self.scope
        seconds = time.perf_counter() - self._started_s
        route = self.inner.get("route")
        endpoint = getattr(route, "path", _UNKNOWN_ROUTE)
        house.metrics.observe_request(scope["method"], endpoint, self._status, seconds)
        client = scope.get("client")
        house.request_log.write(
            RequestRecord(
                request_id=self.request_id,
                door="http",
                method=scope["method"],
                path=self.path,
                status=self._status or 499,
                duration_ms=round(seconds * 1000, 3),
                outcome=self.outcome,
                principal=self.principal,
                client=client[0] if client else None,
            )
        )


def build_api(house: House[Guard], *, has_docs: bool) -> FastAPI:
    """Build the FastAPI application: its routes, and every error in our envelope."""
    api = FastAPI(
        title="Waygate MCP",
        version=__version__,
        description="The REST side of a gateway for the Model Context Protocol.",
        docs_url="/docs" if has_docs else None,
        redoc_url=None,
        openapi_url="/openapi.json" if has_docs else None,
        redirect_slashes=False,
        swagger_ui_oauth2_redirect_url=None,
    )
    health.add_routes(api, house)
    status.add_routes(api, house)
    tools.add_routes(api)
    execute.add_routes(api, house)
    servers.add_routes(api)
    well_known.add_routes(api)
    for router in admin.routers(house):
        api.include_router(router, prefix=admin.PREFIX)

    def answer(request: Request, problem: Problem) -> Response:
        admission: Admission = request.state.admission
        body = encode_envelope(problem, admission.request_id, house.stamp.now())
        headers = {name.decode(): value.decode() for name, value in problem.headers}
        headers["cache-control"] = "no-store"
        return Response(body, problem.status, headers, media_type="application/json")

    async def on_known(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, WaygateError | Refused)
        problem = describe(exc)
        if isinstance(exc, ForbiddenError):
            problem = with_scopes(problem, request, exc.permission)
        return answer(request, problem)

    async def on_http(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)
        code = CODES.get(exc.status_code, CODES[500 if exc.status_code >= 500 else 400])
        headers = tuple((k.encode(), v.encode()) for k, v in (exc.headers or {}).items())
        return answer(request, Problem(exc.status_code, code, str(exc.detail), None, headers))

    async def on_invalid(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, RequestValidationError)
        return answer(request, _invalid(exc))

    async def on_unknown(request: Request, exc: Exception) -> Response:
        _log.error("request_failed", path=request.url.path, exc_info=exc)
        house.metrics.count_error(WaygateError.code)
        return answer(request, Problem(500, CODES[500], WaygateError.default_safe_message))

    api.add_exception_handler(WaygateError, on_known)
    api.add_exception_handler(Refused, on_known)
    api.add_exception_handler(HTTPException, on_http)
    api.add_exception_handler(RequestValidationError, on_invalid)
    api.add_exception_handler(Exception, on_unknown)
    return api


def _invalid(exc: RequestValidationError) -> Problem:
    """Word what a request's parameters or body got wrong, without showing their values."""
    faults = [
        {"where": ".".join(str(part) for part in fault["loc"]), "problem": fault["msg"]}
        for fault in exc.errors()
    ]
    is_missing = all(fault["type"] == "missing" for fault in exc.errors())
    code = MISSING_PARAMETER if is_missing else CODES[400]
    return Problem(400, code, "The request is not valid.", faults)


def _is_call(method: str, path: str) -> bool:
    """Tell whether a request is counted where every call is."""
    return method == "POST" and path in execute.EXECUTE_PATHS


def _given(body: bytes, rest: Receive) -> Receive:
    """Give what hands out a body that was read already, and then whatever comes after it."""
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return parts.pop() if parts else await rest()

    return receive


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key == name), None)
