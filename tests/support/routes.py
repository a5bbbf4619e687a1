"""Every route of a FastAPI application, those of included routers too.

An included router is one entry without a path in `api.routes`: whoever looks at the entries alone
misses all that it has, without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Route

__all__ = ["FlatRoute", "api_routes", "every_route", "paths"]

FlatRoute = Any
"""A route, or what stands for one of an included router: both have `path` and `methods`."""


def every_route(api: FastAPI) -> Iterator[FlatRoute]:
    """Give every route; one of a kind nobody knows how to look into fails the test."""
    for entry in api.routes:
        inner = getattr(entry, "effective_route_contexts", None)
        for route in [entry] if inner is None else inner():
            assert str(getattr(route, "path", "")).startswith("/"), f"no path: {route!r}"
            yield route


def paths(api: FastAPI) -> set[str]:
    """Give the paths of all routes."""
    return {route.path for route in every_route(api)}


def api_routes(api: FastAPI) -> Sequence[FlatRoute]:
    """Give the routes that are ours: all but those by which the framework shows its own pages."""
    return [
        route
        for route in every_route(api)
        if isinstance(route, APIRoute) or not isinstance(route, Route)
    ]
