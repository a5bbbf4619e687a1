"""`waygate explain`: why a key may use a tool of a running gateway, or may not."""

from __future__ import annotations

import asyncio
from typing import Annotated
from urllib.parse import urlencode

import typer

from waygate_mcp.cli.client_commands import KeyFileOption, UrlOption, where_from
from waygate_mcp.cli.options import ConfigOption
from waygate_mcp.cli.output import ExitCode, JsonOption, print_json, say
from waygate_mcp.cli.rest_client import ask_json

PATH = "/admin/v1/explain"


def explain(  # noqa: PLR0913, PLR0917 - one argument for each option of the command
    key: Annotated[str, typer.Argument(metavar="KEY", help="The public id of a key.")],
    name: Annotated[str, typer.Argument(metavar="TOOL", help="A public name, or a URI.")],
    kind: Annotated[str, typer.Option(help="tool, prompt or resource.")] = "tool",
    endpoint: Annotated[str, typer.Option(help="The endpoint it is about.")] = "default",
    config: ConfigOption = None,
    url: UrlOption = None,
    key_file: KeyFileOption = None,
    json: JsonOption = False,
) -> None:
    """Say why a key may use a tool, or may not.

    Names the rule that lets it or refuses it, and why the tool is missing from the key's lists. Asks a
    running gateway with the key you use it by. Exit code 1: it may not; 3: no gateway answers.
    """
    where = where_from(config, url, key_file=key_file)
    asked = {
        "key": key.removeprefix("wg_").partition("_")[0],
        "name": name,
        "kind": kind,
        "endpoint": endpoint,
    }
    told = asyncio.run(ask_json(where, f"{PATH}?{urlencode(asked)}"))
    if json:
        print_json(told)
    else:
        verdict = "allowed" if told["allowed"] else "refused"
        say(f"{verdict}: {kind} {name} at {endpoint}, for the key {asked['key']}")
        for rule in told["rules"]:
            say(f"  {rule}")
        for role in told.get("shadow", ()):
            say(f"  The role {role} in shadow would refuse it; it is not in force.")
    if not told["allowed"]:
        raise typer.Exit(ExitCode.NOT_WELL)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain")(explain)
