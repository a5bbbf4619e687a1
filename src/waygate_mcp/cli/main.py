"""The command `waygate`: which commands there are, and where an error becomes an exit code.

Knows the name, the module and one line of help for each command. A module is loaded only when its
command runs, so that `waygate --help` is quick. Each module has `register(app)`, which adds its
command or group under the name it has here.
"""

from __future__ import annotations

import gc
import importlib
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from waygate_mcp import __version__
from waygate_mcp.config.suggest import nearest
from waygate_mcp.errors import WaygateError

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("init", "Write a commented waygate.yaml, the data folder and the secret key."),
    "check": ("check", "Validate the configuration and name what is wrong with it."),
    "serve": ("serve", "Run the server until a signal ends it."),
    "stdio": ("stdio", "Run the gateway on standard input and output."),
    "add": ("add", "Add an MCP server to the document, and try it."),
    "remove": ("remove", "Take an upstream out of the document."),
    "import": ("import_", "Take over the MCP servers of a desktop client or an editor."),
    "upstreams": (
        "upstreams",
        "List the upstreams of a gateway, try them, and approve their definitions.",
    ),
    "tools": ("tools", "List and call the tools of a gateway."),
    "resources": ("resources", "List and read the resources of a gateway."),
    "prompts": ("prompts", "List and get the prompts of a gateway."),
    "keys": ("keys", "Make, list, rotate and revoke API keys."),
    "explain": ("explain", "Say why a key may use a tool, or may not."),
    "plugins": ("plugins", "List, write and check plugins."),
    "secrets": ("secrets", "Keep secrets in the encrypted store, and see where they come from."),
    "db": ("db", "Look after the database."),
    "backup": (
        "backup",
        "Copy the database and the data folder into one file, while the server runs.",
    ),
    "restore": (
        "backup",
        "Put a backup in place of the database and the data folder. The server must be stopped.",
    ),
    "connect": ("connect", "Print a client's own configuration for this gateway, or write it."),
    "audit": ("audit", "Read, verify and export the audit journal."),
    "config": ("config", "Show how the configuration is written."),
}
"""Name → module of `waygate_mcp.cli`, and the first line of its help. A test compares the two."""


class CommandGroup(TyperGroup):
    """All commands; each is loaded when it is asked to run."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # typer's own
        """Give the names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]  # typer's own
        """Give a command that knows its name and help only: enough for the list of commands."""
        if cmd_name not in COMMANDS:
            return None
        return TyperCommand(name=cmd_name, help=COMMANDS[cmd_name][1])

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]  # typer's own
        """Give the command that is to run, loaded."""
        if args and args[0] not in COMMANDS and (hint := nearest(args[0], COMMANDS)):
            ctx.fail(f"No such command '{args[0]}'. Did you mean '{hint}'?")
        name, found, rest = super().resolve_command(ctx, args)
        return name, found if found is None or name is None else load_command(name), rest

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # typer's own
        """Run the command, and say what went wrong in words and by the exit code."""
        try:
            return super().invoke(ctx)
        except WaygateError as exc:
            output = importlib.import_module("waygate_mcp.cli.output")
            output.print_error(exc)
            raise typer.Exit(output.exit_code_of(exc)) from None


def load_command(name: str) -> Any:
    """Import the module of a command and give the command itself."""
    gc.disable()  # what is loaded stays: walking through it again and again took a tenth of a start
    try:
        module = importlib.import_module(f"waygate_mcp.cli.{COMMANDS[name][0]}")
    finally:
        gc.freeze()
        gc.enable()
    app = typer.Typer(rich_markup_mode=None)
    # A callback makes it a group even where the module has a single command.
    app.callback()(lambda: None)
    module.register(app)
    return get_group(app).commands[name]


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"waygate {__version__}\n")
        raise typer.Exit


app = typer.Typer(
    name="waygate",
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def waygate(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Waygate MCP: a framework, a gateway and an operated service for the Model Context Protocol."""
