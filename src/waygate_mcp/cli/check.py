"""`waygate check`: is the configuration valid?

Knows how to show what `config` found. Nothing is started and nothing is written. Secrets that lie neither
in the environment nor in a file are looked for where they are kept.
"""

from __future__ import annotations

import asyncio

import typer

from waygate_mcp.cli.options import ConfigOption
from waygate_mcp.cli.output import ExitCode, JsonOption, note, print_json, problems_as_json, say
from waygate_mcp.config.client_block import document_notes
from waygate_mcp.config.document import Document
from waygate_mcp.config.load import check_document, find_document
from waygate_mcp.config.quarantine import quarantine_notes
from waygate_mcp.config.references import KnownSecrets
from waygate_mcp.config.settings import Settings, read_settings, unknown_variables
from waygate_mcp.errors import ConfigError
from waygate_mcp.runtime.secrets import fetch_for_command, secret_uses
from waygate_mcp.runtime.upstreams import examine_upstreams


def check(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Validate the configuration and name what is wrong with it.

    Exit code 0: valid. 2: not valid; every problem is listed with its place and path.
    """
    warnings = unknown_variables()
    source = None
    try:
        settings = read_settings({"config": config})
        source = find_document(settings)
        document = check_document(
            source, settings, examine_upstreams, lambda one: _secrets(settings, one)
        )
    except ConfigError as exc:
        if not json:
            _warn(warnings)
            raise
        problems = problems_as_json(exc)
        print_json({"valid": False, "source": source, "problems": problems, "warnings": warnings})
        raise typer.Exit(ExitCode.WRONG_USE) from None
    modes = {name: document.quarantine_of(name) for name in document.enabled_upstreams()}
    warnings = (*warnings, *document_notes(document), *quarantine_notes(modes))
    if json:
        print_json({"valid": True, "source": source, "problems": [], "warnings": warnings})
        return
    _warn(warnings)
    plugins, upstreams = len(document.enabled_plugins()), len(document.enabled_upstreams())
    say(f"{source or 'no document, the built-in default'}: valid")
    say(
        f"plugins enabled: {plugins}, upstreams enabled: {upstreams}, "
        f"endpoints: {len(document.endpoints)}, auth: {document.auth.mode}"
    )


def _secrets(settings: Settings, document: Document) -> KnownSecrets:
    wanted = secret_uses(document)
    return asyncio.run(fetch_for_command(settings, wanted, document.secrets))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(check)


def _warn(warnings: tuple[str, ...]) -> None:
    for warning in warnings:
        note(f"warning: {warning}")
