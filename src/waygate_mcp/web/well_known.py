"""The metadata of this server as an OAuth resource (RFC 9728), open to everybody.

Knows that each endpoint is a resource of its own, with its metadata where its URL says. Strangers learn
whose tokens are taken and not which endpoints there are: any name an endpoint could have has metadata.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse

from waygate_mcp.errors import UnknownNameError
from waygate_mcp.web.access import generation_of
from waygate_mcp.web.resource import METADATA_PATH, endpoint_of_metadata

__all__ = ["add_routes"]

_FRESH = {"cache-control": "public, max-age=300"}


async def protected_resource(request: Request) -> JSONResponse:
    """Say where access tokens for this server, or one of its endpoints, come from."""
    path: str = request.scope["path"]
    resource = generation_of(request).guard.resource
    endpoint = endpoint_of_metadata(path)
    if endpoint is None or not resource.takes_tokens:
        raise UnknownNameError("metadata", path, safe_message="This server takes no access tokens.")
    return JSONResponse(resource.metadata(endpoint), headers=_FRESH)


def add_routes(api: FastAPI) -> None:
    """Add the routes."""
    answers: dict[int | str, dict[str, Any]] = {404: {"description": "No access tokens are taken"}}
    for path in ("", "/mcp", "/servers/{name}/mcp"):
        api.get(
            METADATA_PATH + path,
            tags=["oauth"],
            summary="Where access tokens come from (RFC 9728)",
            responses=answers,
        )(protected_resource)
