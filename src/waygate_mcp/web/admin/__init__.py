"""The admin API, `/admin/v1`: one router for each noun.

approvals  definitions of upstreams that wait, and deciding about them
keys     make, list, show, rotate and revoke API keys; the roles there are
audit    questions to the copy of the audit journal
config   the document: show, plan, apply, history, roll back
explain  why somebody may or may not use an entry

A router is a module with `router(house)`; its routes name what they need by `Needs` and answer in the
envelope of all REST routes. Every one must stand in `routers` below.
"""

from __future__ import annotations

from fastapi import APIRouter

from waygate_mcp.runtime.house import House
from waygate_mcp.web.admin import approvals, audit, config, explain, keys
from waygate_mcp.web.guard import Guard

__all__ = ["PREFIX", "routers"]

PREFIX = "/admin/v1"


def routers(house: House[Guard]) -> list[APIRouter]:
    """Give all routers, for one house."""
    return [module.router(house) for module in (approvals, keys, explain, audit, config)]
