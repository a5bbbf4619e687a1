"""`waygate config …`: how the configuration is written."""

from __future__ import annotations

import typer

from waygate_mcp.cli.output import print_json
from waygate_mcp.config.schema import document_schema


def schema() -> None:
    """Print the JSON Schema of waygate.yaml."""
    print_json(document_schema())


def config() -> None:
    """Show how the configuration is written."""


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True)
    group.callback()(config)
    group.command()(schema)
    app.add_typer(group, name="config")
