"""`waygate resources`: list the resources of a gateway and their templates, and read them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from waygate_mcp.cli.client_commands import (
    EndpointOption,
    InProcessOption,
    KeyFileOption,
    LogLevelOption,
    SaveOption,
    TimeoutOption,
    UrlOption,
    call_and_show,
    decode,
    first_line,
    print_raw,
    run_with,
    show_list,
    where_from,
)
from waygate_mcp.cli.gateway_client import Gateway
from waygate_mcp.cli.options import ConfigOption
from waygate_mcp.cli.output import ExitCode, JsonOption
from waygate_mcp.cli.rendering import Output
from waygate_mcp.config.document import DEFAULT_ENDPOINT
from waygate_mcp.model.catalog import Kind


def list_resources(
    config: ConfigOption = None,
    url: UrlOption = None,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
    key_file: KeyFileOption = None,
    in_process: InProcessOption = False,
    json: JsonOption = False,
) -> None:
    """List the resources: their URIs, types, names."""
    where = where_from(config, url, endpoint, key_file, in_process)
    columns = ("uri", "type", "name", "description")
    show_list(where, Kind.RESOURCE, columns, _row, as_json=json)


def list_templates(
    config: ConfigOption = None,
    url: UrlOption = None,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
    key_file: KeyFileOption = None,
    in_process: InProcessOption = False,
    json: JsonOption = False,
) -> None:
    """List the templates of URIs that can be read."""
    where = where_from(config, url, endpoint, key_file, in_process)
    columns = ("template", "type", "name", "description")
    show_list(where, Kind.TEMPLATE, columns, _row, as_json=json)


def _row(definition: dict[str, Any]) -> tuple[object, ...]:
    uri = definition.get("uri") or definition.get("uriTemplate")
    return uri, definition.get("mimeType"), definition.get("name"), first_line(definition)


def read_resource(  # noqa: PLR0913, PLR0917 - one argument for each option of the command
    uri: Annotated[str, typer.Argument(metavar="URI", help="The resource.")],
    config: ConfigOption = None,
    url: UrlOption = None,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
    key_file: KeyFileOption = None,
    in_process: InProcessOption = False,
    timeout: TimeoutOption = 300.0,
    save: SaveOption = None,
    log: LogLevelOption = "info",
    json: JsonOption = False,
) -> None:
    """Read a resource and print its text; bytes are named, and kept by --save."""
    where = where_from(config, url, endpoint, key_file, in_process, timeout)

    async def work(gateway: Gateway) -> int:
        reply = await call_and_show(gateway, where, "resources/read", {"uri": uri}, log)
        if json:
            print_raw(reply)
        else:
            Output(save, uri.rpartition("/")[2]).show_contents(decode(reply.result))
        return ExitCode.DONE

    run_with(where, work)


def resources() -> None:
    """List and read the resources of a gateway."""


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True)
    group.callback()(resources)
    group.command("list")(list_resources)
    group.command("templates")(list_templates)
    group.command("read")(read_resource)
    app.add_typer(group, name="resources")
