"""`waygate upstreams`: the upstreams of a running gateway or of the document, and trying them.

Knows how a running gateway is asked for them (`GET /mcp/servers`) and how they are shown.
"""

from __future__ import annotations

import asyncio
import json as jsonlib
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from waygate_mcp.cli.approvals import approve, diff, reject
from waygate_mcp.cli.client_commands import KeyFileOption, UrlOption, where_from
from waygate_mcp.cli.document_desk import DocumentDesk, upstream_names
from waygate_mcp.cli.gateway_client import Where, read_key
from waygate_mcp.cli.options import ConfigOption
from waygate_mcp.cli.output import ExitCode, JsonOption, note, print_json, print_table, say
from waygate_mcp.cli.probe import print_probe, probe_as_json, probe_upstreams, progress
from waygate_mcp.config.client_block import client_names
from waygate_mcp.config.suggest import nearest
from waygate_mcp.config.upstream import UpstreamSection
from waygate_mcp.errors import ConfigError, UpstreamProtocolError, UpstreamUnavailableError
from waygate_mcp.net.aiohttp_client import AiohttpTransport, parse_origin
from waygate_mcp.net.http import HttpExchange, read_body
from waygate_mcp.telemetry.redaction import Redactor

PATH = "/mcp/servers"
_MAX_BYTES = 16 * 1024 * 1024
_WITHIN_S = 10.0
_PAGE = 100
_MAX_PAGES = 100
_RUNNING = (
    "name",
    "state",
    "transport",
    "eras",
    "revision",
    "latency_s",
    "in_flight",
    "held",
    "last_error",
)
_OFFLINE = ("name", "enabled", "transport", "what", "era", "sessions", "stands at")


def list_upstreams(
    config: ConfigOption = None,
    url: UrlOption = None,
    key_file: KeyFileOption = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Read the document and ask no gateway.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """List the upstreams of a running gateway with their health.

    Exit code 3: no gateway answers.
    """
    if offline:
        _list_document(config, as_json=json)
        return
    where = where_from(config, url, key_file=key_file)
    servers = asyncio.run(_ask(where))
    if json:
        print_json(servers)
    elif servers:
        print_table(_RUNNING, [[_shown(one.get(key)) for key in _RUNNING] for one in servers])
    else:
        note("no upstreams")


def try_upstreams(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME…]",
            help="Which; none means all that are enabled.",
            autocompletion=upstream_names,
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Open upstreams of the document in this process and read their lists.

    Exit code 1: one of them is not well.
    """
    desk = DocumentDesk(config)
    document = desk.document()
    sections: Mapping[str, UpstreamSection] = document.enabled_upstreams()
    if names:
        for name in names:
            if name not in document.upstreams:
                hint = nearest(name, document.upstreams)
                more = f"; did you mean {hint!r}?" if hint else ""
                raise typer.BadParameter(f"no upstream is called {name!r}{more}")
        sections = {name: document.upstreams[name] for name in names}
    probes = probe_upstreams(sections, desk.folder, desk.settings, progress(len(sections)))
    if json:
        print_json([probe_as_json(probe) for probe in probes])
    for probe in () if json else probes:
        print_probe(probe)
    if not probes and not json:
        say("no upstream is enabled")
    if not all(probe.is_well for probe in probes):
        raise typer.Exit(ExitCode.NOT_WELL)


def upstreams() -> None:
    """List the upstreams of a gateway, try them, and approve their definitions."""


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True)
    group.callback()(upstreams)
    group.command("list")(list_upstreams)
    group.command("test")(try_upstreams)
    group.command("diff")(diff)
    group.command("approve")(approve)
    group.command("reject")(reject)
    app.add_typer(group, name="upstreams")


def _list_document(config: Any, *, as_json: bool) -> None:
    desk = DocumentDesk(config)
    document = desk.document()
    theirs = {ours: f"mcpServers.{name}" for name, ours in client_names(document).items()}
    rows = [
        (
            name,
            section.enabled,
            "http" if section.url is not None else "stdio",
            Redactor().text(section.url or " ".join((section.command or "", *section.args))),
            section.era,
            section.sessions,
            theirs.get(name, f"upstreams.{name}"),
        )
        for name, section in document.upstreams.items()
    ]
    if rows or as_json:
        print_table(_OFFLINE, rows, as_json=as_json)
    else:
        note("no upstreams")


async def _ask(where: Where) -> list[dict[str, Any]]:
    """Ask the gateway for its upstreams.

    Raises:
        UpstreamUnavailableError: none answers.
        UpstreamProtocolError: what answers is no gateway of ours.
        ConfigError: it wants another key.
    """
    origin, _ = parse_origin(where.address)
    key = await asyncio.to_thread(read_key, where)
    headers = [] if key is None else [("authorization", f"Bearer {key}")]
    name = f"the gateway at {origin}"
    try:
        async with (
            asyncio.timeout(_WITHIN_S),
            AiohttpTransport(origin, name, headers=headers) as transport,
        ):
            return await _all_pages(name, transport)
    except TimeoutError:
        raise UpstreamUnavailableError(name, f"did not answer within {_WITHIN_S:.0f} s") from None
    except UpstreamUnavailableError as exc:
        raise UpstreamUnavailableError(name, f"{exc}; --offline reads the document") from exc


async def _all_pages(name: str, exchange: HttpExchange) -> list[dict[str, Any]]:
    """Read page after page until nothing is missing, or one is empty."""
    found: list[dict[str, Any]] = []
    for number in range(1, _MAX_PAGES + 1):
        path = f"{PATH}?page={number}&limit={_PAGE}"
        async with exchange.request("GET", path, [("accept", "application/json")]) as response:
            body = await read_body(response, _MAX_BYTES)
        if response.status in (401, 403):
            raise ConfigError(
                f"{name} wants another key: give --key-file FILE, or set WAYGATE_API_KEY",
                path="key",
            )
        servers, total = _servers(name, response.status, body)
        found += servers
        if not servers or len(found) >= total:
            break
    return found


def _servers(name: str, status: int, body: bytes) -> tuple[list[dict[str, Any]], int]:
    """Read one page: its servers, and how many there are in all."""
    try:
        value: Any = jsonlib.loads(body)
    except (ValueError, RecursionError):
        value = None
    servers = value.get("servers") if isinstance(value, dict) else None
    total = value.get("total") if isinstance(value, dict) else None
    if (
        status != 200
        or not isinstance(servers, list)
        or not isinstance(total, int)
        or not all(isinstance(one, dict) for one in servers)
    ):
        raise UpstreamProtocolError(
            name, f"answers {status} to GET {PATH}, and no list of upstreams"
        )
    return servers, total


def _shown(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else (value if value != "" else None)
