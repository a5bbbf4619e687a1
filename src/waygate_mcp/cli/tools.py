"""`waygate tools`: list the tools of a gateway, and call them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from waygate_mcp.cli.arguments import ArgumentsError
from waygate_mcp.cli.client_commands import (
    EndpointOption,
    InProcessOption,
    KeyFileOption,
    LogLevelOption,
    SaveOption,
    TimeoutOption,
    UrlOption,
    arguments_from,
    call_and_show,
    decode,
    find_entry,
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
from waygate_mcp.config.suggest import nearest
from waygate_mcp.model.catalog import Kind

_SCALARS = 5


def list_tools(
    config: ConfigOption = None,
    url: UrlOption = None,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
    key_file: KeyFileOption = None,
    in_process: InProcessOption = False,
    json: JsonOption = False,
) -> None:
    """List the tools: names, arguments, what they do."""
    where = where_from(config, url, endpoint, key_file, in_process)
    show_list(where, Kind.TOOL, ("name", "arguments", "description"), _row, as_json=json)


def _row(definition: dict[str, Any]) -> tuple[object, ...]:
    return definition.get("name"), _arguments(definition.get("inputSchema")), first_line(definition)


def _arguments(schema: Any) -> str:
    """Give the arguments in short: `name count?`."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return ""
    required = schema.get("required") or ()
    names = [name if name in required else f"{name}?" for name in properties]
    more = f" +{len(names) - _SCALARS}" if len(names) > _SCALARS else ""
    return " ".join(names[:_SCALARS]) + more


def call_tool(  # noqa: PLR0913, PLR0917 - one argument for each option of the command
    name: Annotated[str, typer.Argument(metavar="NAME", help="The tool.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[JSON | - | KEY=VALUE…]",
            help="A JSON object, `-` for JSON on standard input, or pairs read by the tool's schema.",
        ),
    ] = None,
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
    """Call a tool and print its result.

    Exit code 1: the tool said that it failed. Questions of the tool are asked here, on a terminal.
    """
    where = where_from(config, url, endpoint, key_file, in_process, timeout)

    async def work(gateway: Gateway) -> int:
        entry = find_entry(entries := await gateway.entries(Kind.TOOL), name)
        if entry is None:
            hint = nearest(name, [one.name for one in entries])
            raise ArgumentsError(
                f"there is no tool {name!r}" + (f"; did you mean {hint!r}?" if hint else "")
            )
        schema = decode(entry.definition).get("inputSchema") or {}
        params = {"name": name, "arguments": arguments_from(arguments or (), schema)}
        reply = await call_and_show(gateway, where, "tools/call", params, log)
        if json:
            print_raw(reply)
        else:
            Output(save, name).show_tool_result(decode(reply.result))
        return ExitCode.NOT_WELL if reply.is_error else ExitCode.DONE

    run_with(where, work)


def tools() -> None:
    """List and call the tools of a gateway."""


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True)
    group.callback()(tools)
    group.command("list")(list_tools)
    group.command("call")(call_tool)
    app.add_typer(group, name="tools")
