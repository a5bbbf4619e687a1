"""`waygate db`: is the database up to date, and what is in it?

Knows how its state is shown. Opens the configured database itself, whether or not a server runs.
"""

from __future__ import annotations

import asyncio

import typer

from waygate_mcp.cli.options import settings_from
from waygate_mcp.cli.output import ExitCode, JsonOption, note, print_json, print_table, say
from waygate_mcp.runtime.opening import open_database
from waygate_mcp.storage.engine import Database, DatabaseState


def status(json: JsonOption = False) -> None:
    """Show where the database is, at which revision its tables are, and how many rows they have.

    Exit code 0: up to date. 1: there is none yet, it is older, newer, or does not answer.
    """
    database = open_database(settings_from())
    if database.path is not None and not database.path.exists():
        if json:
            print_json({"database": str(database.path), "revision": None, "is_current": False})
        note("there is no database yet; `waygate serve` or `waygate db upgrade` makes it")
        raise typer.Exit(ExitCode.NOT_WELL)
    found = asyncio.run(_state(database))
    if json:
        print_json(
            {
                "database": found.place,
                "kind": found.kind,
                "revision": found.revision,
                "newest": found.newest,
                "is_current": found.is_current,
                "size_bytes": found.size_bytes,
                "rows": found.rows,
            }
        )
    else:
        say(f"database: {found.place} ({found.kind}, {found.size_bytes / 1e6:.1f} MB)")
        say(f"revision: {found.revision or 'none'}, newest: {found.newest}")
        if found.rows:
            print_table(("table", "rows"), list(found.rows.items()))
    if not found.is_current:
        note("not up to date; `waygate db upgrade` mends it")
        raise typer.Exit(ExitCode.NOT_WELL)


def upgrade() -> None:
    """Bring the tables up to date; a server does the same when it starts."""
    database = open_database(settings_from())
    if asyncio.run(_upgrade(database)):
        say("the tables were brought up to date")
    else:
        say("nothing to do: the tables are up to date")


def db() -> None:
    """Look after the database."""


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True)
    group.callback()(db)
    group.command()(status)
    group.command()(upgrade)
    app.add_typer(group, name="db")


async def _state(database: Database) -> DatabaseState:
    await database.open(upgrade_tables=False)
    try:
        return await database.state()
    finally:
        await database.close()


async def _upgrade(database: Database) -> bool:
    await database.open(upgrade_tables=False)
    try:
        return await database.upgrade()
    finally:
        await database.close()
