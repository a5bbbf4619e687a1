"""The tools of an endpoint over REST: `/mcp/tools` as MCP defines them, `/mcp/commands` for people.

Knows how a tool's schema is read as a list of parameters. Refuses to know where tools come from, and
shows what the caller may see and nothing else: it asks the same catalog that MCP clients do.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import msgspec
from fastapi import Depends, FastAPI, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from waygate_mcp.config.document import DEFAULT_ENDPOINT
from waygate_mcp.errors import UnknownNameError
from waygate_mcp.gateway.catalog import Catalog
from waygate_mcp.gateway.endpoint import Endpoint
from waygate_mcp.model.catalog import Kind, Viewer
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES
from waygate_mcp.protocol.versions import MODERN
from waygate_mcp.web.access import FAILURES, Needs, admission_of, generation_of
from waygate_mcp.web.paging import Limit, Page, PageNumber, cut

__all__ = ["Command", "EndpointName", "Parameter", "add_routes", "endpoint_named"]

LIST = Needs("tools:list")
MAX_PAGES = 1_000

EndpointName = Annotated[
    str, Query(max_length=63, description="The endpoint whose tools are meant.")
]


class ToolList(Page):
    """One page of tools."""

    endpoint: str
    tools: list[dict[str, Any]] = Field(
        description="Definitions as MCP clients get them (2026-07-28 server/tools)."
    )


class Parameter(BaseModel):
    """One argument of a command, as far as a list can say it; the schema has the last word."""

    name: str
    type: str = Field(description="JSON types joined by `|`; `any` where the schema does not say.")
    required: bool
    description: str = ""
    default: Any = None
    choices: list[Any] | None = None


class Command(BaseModel):
    """One tool, as something to be done."""

    name: str
    description: str
    provider: str = Field(description="The plugin or upstream that does it.")
    parameters: list[Parameter]


class CommandList(Page):
    """One page of commands."""

    endpoint: str
    commands: list[Command]


async def tools(
    request: Request,
    response: Response,
    page: PageNumber = 1,
    limit: Limit = 10,
    endpoint: EndpointName = DEFAULT_ENDPOINT,
) -> ToolList:
    """List the tools of an endpoint, as this caller sees them."""
    found = await _definitions(endpoint_named(request, endpoint).catalog, _viewer(request))
    shown = cut(found, page, limit, request, response)
    return ToolList(endpoint=endpoint, tools=shown, total=len(found), page=page, limit=limit)


async def commands(
    request: Request,
    response: Response,
    page: PageNumber = 1,
    limit: Limit = 10,
    endpoint: EndpointName = DEFAULT_ENDPOINT,
) -> CommandList:
    """List what can be done at an endpoint, with the parameters of each."""
    catalog, viewer = endpoint_named(request, endpoint).catalog, _viewer(request)
    found = await _definitions(catalog, viewer)
    shown = cut(found, page, limit, request, response)
    listed = []
    for definition in shown:
        provider = await _provider(catalog, definition["name"], viewer)
        listed.append(
            Command(
                name=definition["name"],
                description=str(definition.get("description") or ""),
                provider=provider,
                parameters=parameters_of(definition.get("inputSchema")),
            )
        )
    return CommandList(endpoint=endpoint, commands=listed, total=len(found), page=page, limit=limit)


def add_routes(api: FastAPI) -> None:
    """Add the routes of this module with their descriptions."""
    add = partial(api.add_api_route, tags=["tools"], responses={**FAILURES})
    needs = [Depends(LIST)]
    add("/mcp/tools", tools, dependencies=needs, summary="The tools of an endpoint")
    add(
        "/mcp/commands",
        commands,
        dependencies=needs,
        summary="What can be done, with its parameters",
    )


def parameters_of(schema: Any) -> list[Parameter]:
    """Read the top level of an input schema; what is no object of properties has no parameters."""
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(properties, Mapping):
        return []
    required = schema.get("required")
    wanted = set(map(str, required)) if isinstance(required, list) else set()
    return [
        _parameter(str(name), each if isinstance(each, Mapping) else {}, str(name) in wanted)
        for name, each in properties.items()
    ]


def _parameter(name: str, schema: Mapping[str, Any], is_required: bool) -> Parameter:
    choices = schema.get("enum")
    description = schema.get("description")
    return Parameter(
        name=name,
        type=_type_of(schema),
        required=is_required,
        description=description if isinstance(description, str) else "",
        default=schema.get("default"),
        choices=choices if isinstance(choices, list) else None,
    )


def _type_of(schema: Mapping[str, Any]) -> str:
    """Give the JSON types a schema names, alternatives of one level included."""
    kinds = schema.get("type")
    found = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
    for branch in ("anyOf", "oneOf"):
        parts = schema.get(branch)
        for each in parts if isinstance(parts, list) else []:
            if isinstance(each, Mapping) and isinstance(each.get("type"), str):
                found.append(each["type"])
    return "|".join(dict.fromkeys(str(kind) for kind in found)) or "any"


def _viewer(request: Request) -> Viewer:
    return Viewer(admission_of(request).principal, NO_CAPABILITIES)


def endpoint_named(request: Request, name: str) -> Endpoint:
    """Give an endpoint.

    Raises:
        UnknownNameError: there is none of that name for this caller.
    """
    found = generation_of(request).gateway.endpoints.get(name)
    if found is None or not admission_of(request).principal.may_enter(name):
        raise UnknownNameError("endpoint", name)
    return found


async def _definitions(catalog: Catalog, viewer: Viewer) -> list[dict[str, Any]]:
    """Give the definitions of all tools, in the order of MCP's list."""
    definitions: list[dict[str, Any]] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        reply = await catalog.page(Kind.TOOL, cursor, viewer, MODERN)
        read = msgspec.json.decode(reply.result)
        definitions.extend(read["tools"])
        cursor = read.get("nextCursor")
        if cursor is None:
            break
    return definitions


async def _provider(catalog: Catalog, name: str, viewer: Viewer) -> str:
    """Give who does it; nobody, where it vanished meanwhile."""
    try:
        return (await catalog.find(Kind.TOOL, name, viewer)).provider.name
    except UnknownNameError:
        return ""
