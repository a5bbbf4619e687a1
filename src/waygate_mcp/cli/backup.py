"""`waygate backup` and `waygate restore`: a copy of what must last, and the way back.

Knows how they are asked for. How a database is copied is known in `storage.backup`.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from waygate_mcp import __version__
from waygate_mcp.cli.options import settings_from
from waygate_mcp.cli.output import JsonOption, note, print_json, say
from waygate_mcp.config.settings import Settings
from waygate_mcp.runtime.clock import Clock
from waygate_mcp.runtime.opening import open_database
from waygate_mcp.storage.backup import Manifest, back_up, check_backup, default_name, restore

_KEY_IS_ELSEWHERE = (
    "the master key is not in the backup: keep `secret.key` of the data folder, or what is set as "
    "WAYGATE_SECRET_KEY, elsewhere; keys and secrets of the backup are worthless without it"
)


def backup(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="The new file. Default: waygate-TIME.tar, here."),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option("--check", metavar="FILE", help="Check a backup instead of making one."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Copy the database and the data folder into one file, while the server runs.

    The copy is checked before the file appears. The master key is not part of it.
    """
    if check is not None:
        _show(check_backup(check), check, "is sound", as_json=json)
        return
    settings, now = settings_from(), _now()
    target = file or Path(default_name(now))
    manifest = asyncio.run(_back_up(settings, target, now))
    _show(manifest, target, "was written and checked", as_json=json)
    note(_KEY_IS_ELSEWHERE)


def restore_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `waygate backup` wrote.")],
    json: JsonOption = False,
) -> None:
    """Put a backup in place of the database and the data folder. The server must be stopped.

    The whole backup is checked first. A file of SQLite that was there is kept beside the new one.
    """
    settings = settings_from()
    database = open_database(settings)
    manifest = asyncio.run(restore(database, settings.data_dir, file, now=_now()))
    _show(manifest, file, "was restored", as_json=json)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(backup)
    app.command("restore")(restore_command)


async def _back_up(settings: Settings, target: Path, now: datetime) -> Manifest:
    database = open_database(settings)
    await database.open(upgrade_tables=False)
    try:
        return await back_up(database, settings.data_dir, target, now=now, version=__version__)
    finally:
        await database.close()


def _show(manifest: Manifest, file: Path, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"file": str(file), **msgspec.to_builtins(manifest)})
        return
    size = sum(part.size_bytes for part in manifest.parts)
    say(f"{file} {what}")
    say(
        f"{manifest.database}, revision {manifest.revision or 'none'}, of {manifest.made_at}: "
        f"{len(manifest.parts)} files, {size / 1e6:.1f} MB"
    )


def _now() -> datetime:
    return datetime.fromtimestamp(Clock().now(), UTC)
