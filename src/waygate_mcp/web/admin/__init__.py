"""The admin API, `/admin/v1`: one router for each noun.

approvals  definitions of upstreams that wait, and deciding about them
audit      questions to the copy of the audit journal
config     the document: show, plan, apply, history, roll back
endpoints  what each endpoint binds, shows and hides
explain    why somebody may or may not use an entry
keys       make, list, show, rotate and revoke API keys; the roles there are
upstreams  what the document says of each, how it is, switching one on or off

A router is a module with `router(house)`; its routes name what they need by `Needs` and answer in the
envelope of all REST routes. Every one must stand in `routers` below.
"""

from __future__ import annotations

from fastapi import APIRouter

from waygate_mcp.runtime.house import House
from waygate_mcp.web.admin import approvals, audit, config, endpoints, explain, keys, upstreams
from waygate_mcp.web.guard import Guard

__all__ = ["PREFIX", "routers"]

PREFIX = "/admin/v1"


def routers(house: House[Guard]) -> list[APIRouter]:
    """Give all routers, for one house."""
    nouns = (approvals, keys, explain, audit, config, upstreams, endpoints)
    return [noun.router(house) for noun in nouns]
