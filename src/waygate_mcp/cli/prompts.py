"""`waygate prompts`: list the prompts of a gateway, and get them."""

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


def list_prompts(
    config: ConfigOption = None,
    url: UrlOption = None,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
    key_file: KeyFileOption = None,
    in_process: InProcessOption = False,
    json: JsonOption = False,
) -> None:
    """List the prompts: names, arguments, what they are for."""
    where = where_from(config, url, endpoint, key_file, in_process)
    show_list(where, Kind.PROMPT, ("name", "arguments", "description"), _row, as_json=json)


def _row(definition: dict[str, Any]) -> tuple[object, ...]:
    arguments = [one for one in definition.get("arguments") or () if isinstance(one, dict)]
    names = [f"{one.get('name')}{'' if one.get('required') else '?'}" for one in arguments]
    return definition.get("name"), " ".join(names), first_line(definition)


def get_prompt(  # noqa: PLR0913, PLR0917 - one argument for each option of the command
    name: Annotated[str, typer.Argument(metavar="NAME", help="The prompt.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[JSON | - | KEY=VALUE…]",
            help="A JSON object, `-` for JSON on standard input, or pairs.",
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
    """Get a prompt and print its messages."""
    where = where_from(config, url, endpoint, key_file, in_process, timeout)

    async def work(gateway: Gateway) -> int:
        entry = find_entry(entries := await gateway.entries(Kind.PROMPT), name)
        if entry is None:
            hint = nearest(name, [one.name for one in entries])
            raise ArgumentsError(
                f"there is no prompt {name!r}" + (f"; did you mean {hint!r}?" if hint else "")
            )
        params = {
            "name": name,
            "arguments": arguments_from(arguments or (), _schema(entry.definition)),
        }
        reply = await call_and_show(gateway, where, "prompts/get", params, log)
        if json:
            print_raw(reply)
        else:
            Output(save, name).show_prompt(decode(reply.result))
        return ExitCode.DONE

    run_with(where, work)


def _schema(definition: bytes) -> dict[str, Any]:
    """Give a prompt's arguments as a schema: they are text, all of them."""
    arguments = [one for one in decode(definition).get("arguments") or () if isinstance(one, dict)]
    properties = {str(one.get("name")): {"type": "string"} for one in arguments}
    return {"properties": properties, "additionalProperties": False}


def prompts() -> None:
    """List and get the prompts of a gateway."""


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True)
    group.callback()(prompts)
    group.command("list")(list_prompts)
    group.command("get")(get_prompt)
    app.add_typer(group, name="prompts")
