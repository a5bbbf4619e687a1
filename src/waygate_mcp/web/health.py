"""How the server is: `/`, `/health`, `/ready`, `/metrics`. Everything here was measured just now.

Knows the checks and what they mean. Refuses to show names and figures to strangers: they learn the
state of each check and nothing more.

    unhealthy   it cannot do its work: restart it          /health answers 503
    degraded    it works, and somebody should look          200
    healthy                                                 200
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from fastapi import FastAPI
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from waygate_mcp import __version__
from waygate_mcp.errors import ForbiddenError, StorageError
from waygate_mcp.policy.redis_counters import RedisCounters
from waygate_mcp.runtime.foundation import Foundation
from waygate_mcp.runtime.house import House
from waygate_mcp.runtime.peers import Peers
from waygate_mcp.web.guard import Admission, Guard

__all__ = ["add_routes"]

State = Literal["healthy", "degraded", "unhealthy"]
Check = dict[str, Any]

SLOW_LOOP_S = 0.5
STUCK_LOOP_S = 5.0
DISK_TIMEOUT_S = 2.0
DATABASE_TIMEOUT_S = 2.0
DISK_KEPT_S = 5.0
"""Seconds a measurement of disk or database is shown again, so that probes are no load."""

_WORST: Mapping[str, int] = {"healthy": 0, "degraded": 1, "unhealthy": 2}


class Greeting(BaseModel):
    """What this server is."""

    service: str = Field(examples=["waygate-mcp"])
    version: str
    status: str = Field(description="`ready`, or `draining` when it is about to stop.")
    description: str
    documentation: str | None = Field(description="Where the API is described, if it is here.")


class Health(BaseModel):
    """How this server is, measured."""

    status: State
    checks: dict[str, dict[str, Any]]
    version: str
    uptime_seconds: float
    timestamp: str


class Readiness(BaseModel):
    """Whether new work is welcome."""

    ready: bool
    reason: str | None = None


class Disk:
    """Writes and reads back a small file, now and then."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._until_s = float("-inf")
        self._last: Check = {}

    async def check(self, now_s: float) -> Check:
        """Give the state of the data folder, measured at most every few seconds."""
        if now_s >= self._until_s:
            try:
                async with asyncio.timeout(DISK_TIMEOUT_S):
                    self._last = await asyncio.to_thread(_try_disk, self._folder)
            except TimeoutError:
                self._last = {"status": "unhealthy", "error": "the disk does not answer"}
            self._until_s = now_s + DISK_KEPT_S
        return self._last


class DatabaseState:
    """Asks the database for nothing, now and then."""

    def __init__(self, foundation: Foundation) -> None:
        self._foundation = foundation
        self._until_s = float("-inf")
        self._last: Check = {}

    async def check(self, now_s: float) -> Check:
        """Give its state, measured at most every few seconds.

        Never unhealthy: calls do not need it, and another start would not mend it.
        """
        if now_s >= self._until_s:
            self._last = await self._ask()
            self._until_s = now_s + DISK_KEPT_S
        writer = self._foundation.writer
        found = {**self._last, "records_waiting": len(writer)}
        if writer.outage is not None:
            found |= {"status": "degraded", "error": writer.outage}
        return found

    async def _ask(self) -> Check:
        database = self._foundation.database
        kind = "sqlite" if database.is_sqlite else "postgresql"
        try:
            async with asyncio.timeout(DATABASE_TIMEOUT_S):
                await database.ping()
        except (StorageError, TimeoutError) as exc:
            reason = str(exc) or "no answer in time"
            return {"status": "degraded", "kind": kind, "error": reason}
        return {"status": "healthy", "kind": kind}


class HealthRoutes:
    """The routes of this module, for one house."""

    def __init__(self, house: House[Guard]) -> None:
        self._house = house
        self._disk = Disk(house.settings.data_dir)
        self._database = DatabaseState(house.foundation)

    async def root(self, request: Request) -> Greeting:
        """Say what this server is."""
        return Greeting(
            service="waygate-mcp",
            version=__version__,
            status="ready" if self._house.is_ready else "draining",
            description="A gateway for the Model Context Protocol; MCP is served at /mcp.",
            documentation=request.app.docs_url,
        )

    async def health(self, request: Request) -> Response:
        """Measure. Callers with `diagnostics:read` see names and figures as well."""
        house = self._house
        admission: Admission = request.state.admission
        checks = await self.checks()
        status = max((check["status"] for check in checks.values()), key=_WORST.__getitem__)
        if not admission.principal.may("diagnostics:read"):
            checks = {name: {"status": check["status"]} for name, check in checks.items()}
        body = {
            "status": status,
            "checks": checks,
            "version": __version__,
            "uptime_seconds": round(house.uptime_s, 3),
            "timestamp": house.stamp.now(),
        }
        return _json(body, 503 if status == "unhealthy" else 200)

    async def checks(self) -> dict[str, Check]:
        """Make every check: its name, and a mapping with `status` and what was measured."""
        house = self._house
        optional = {} if house.peers is None else {"workers": _check_workers(house.peers)}
        counters = house.foundation.counters
        if isinstance(counters, RedisCounters):
            optional["cache"] = _check_redis(counters)
        return {
            **optional,
            "database": await self._database.check(house.clock.monotonic()),
            "filesystem": await self._disk.check(house.clock.monotonic()),
            "plugins": _check_plugins(house),
            "upstreams": _check_upstreams(house),
            "event_loop": _check_loop(house),
            "configuration": _check_configuration(house),
            "audit": _check_audit(house),
        }

    async def ready(self) -> Response:
        """Say whether new work is welcome."""
        if self._house.is_ready:
            return _json({"ready": True})
        return _json({"ready": False, "reason": "the server is stopping"}, 503)

    async def metrics(self, request: Request) -> Response:
        """Give the numbers for Prometheus.

        Raises:
            ForbiddenError: they are not public, and the caller lacks `metrics:read`.
        """
        admission: Admission = request.state.admission
        is_public = self._house.current().document.server.metrics == "public"
        if not is_public and not admission.principal.may("metrics:read"):
            raise ForbiddenError(permission="metrics:read")
        accept = admission.headers.get(b"accept", b"").decode("latin-1")
        text, content_type = self._house.metrics.render(accept)
        return Response(text, headers={"content-type": content_type, "cache-control": "no-store"})


def _check_redis(counters: RedisCounters) -> Check:
    """Never unhealthy: rates hold without it, only smaller."""
    if counters.is_up:
        return {"status": "healthy", "kind": "redis", "processes": counters.processes}
    return {"status": "degraded", "kind": "redis", "error": counters.problem}


def add_routes(api: FastAPI, house: House[Guard]) -> None:
    """Add the routes of this module with their descriptions."""
    routes = HealthRoutes(house)
    api.add_api_route("/", routes.root, response_model=Greeting, summary="What this server is")
    api.add_api_route(
        "/health",
        routes.health,
        response_model=Health,
        summary="How this server is, measured",
        responses={503: {"model": Health, "description": "Unhealthy"}},
    )
    api.add_api_route(
        "/ready",
        routes.ready,
        response_model=Readiness,
        summary="Whether new work is welcome",
        responses={503: {"model": Readiness, "description": "Not ready"}},
    )
    api.add_api_route(
        "/metrics",
        routes.metrics,
        response_class=Response,
        summary="Numbers for Prometheus",
        responses={200: {"content": {"text/plain": {}}, "description": "Prometheus text"}},
    )


def _json(body: Mapping[str, Any], status: int = 200) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


def _check_plugins(house: House[Guard]) -> Check:
    """Compare what the document wants with what is open."""
    generation = house.current()
    wanted = set(generation.document.enabled_plugins())
    opened = {each.name for each in generation.providers if each.name not in generation.upstreams}
    missing = sorted(wanted - opened)
    return {
        "status": "degraded" if missing else "healthy",
        "opened": sorted(opened),
        "missing": missing,
    }


def _check_upstreams(house: House[Guard]) -> Check:
    """Say which upstreams do not answer, and why; the gateway serves all others."""
    statuses = [upstream.status for upstream in house.current().upstreams.values()]
    is_well = all(status.state in ("ready", "opening") for status in statuses)
    return {
        "status": "healthy" if is_well else "degraded",
        "states": {status.name: status.state for status in statuses},
        "errors": {status.name: status.last_error for status in statuses if status.last_error},
    }


def _check_workers(peers: Peers) -> Check:
    """Say which workers nobody listens for; the others serve meanwhile, and the parent replaces them."""
    missing = peers.missing()
    status = "degraded" if missing else "healthy"
    return {"status": status, "count": peers.place.count, "missing": missing}


def _check_loop(house: House[Guard]) -> Check:
    lag_s = house.pulse.worst_lag_s
    status = "healthy" if lag_s < SLOW_LOOP_S else "degraded"
    if lag_s >= STUCK_LOOP_S:
        status = "unhealthy"
    return {"status": status, "lag_ms": round(lag_s * 1000, 1)}


def _check_configuration(house: House[Guard]) -> Check:
    """Say whether the last reload worked; the old configuration serves where it did not."""
    last = house.reloader.last
    is_stale = last is not None and not last.is_done
    check: Check = {
        "status": "degraded" if is_stale else "healthy",
        "generation": house.current().number,
    }
    if last is not None and is_stale:
        check["problems"] = list(last.problems)
    return check


def _check_audit(house: House[Guard]) -> Check:
    """Say whether calls can be recorded; while they cannot, they are refused."""
    if not house.current().document.audit.enabled:
        return {"status": "healthy", "enabled": False}
    audit = house.foundation.audit
    check: Check = {
        "status": "healthy" if audit.journal.problem is None else "unhealthy",
        "chain": audit.journal.chain,
        "records": audit.journal.tip.sequence,
        "behind": audit.behind,
    }
    return check if audit.journal.problem is None else {**check, "error": audit.journal.problem}


def _try_disk(folder: Path) -> Check:
    """Write, read back and remove one small file."""
    path = folder / f".health-{os.getpid()}"
    text = secrets.token_bytes(16)
    try:
        path.write_bytes(text)
        is_same = path.read_bytes() == text
        path.unlink()
    except OSError as exc:
        return {"status": "unhealthy", "error": exc.strerror or "cannot write"}
    if not is_same:
        return {"status": "unhealthy", "error": "what was written is not what was read"}
    return {"status": "healthy"}
