"""`waygate audit`: read, verify and export the journal, of this installation or of a copied folder.

Knows folders, keys and heads. Works whether or not a server runs, and writes nothing. A key is never made
here: one that was made now would verify nothing.
"""

from __future__ import annotations

import asyncio
import importlib
import json as jsonlib
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer

from waygate_mcp import __version__
from waygate_mcp.audit.files import FOLDER, Head
from waygate_mcp.audit.keys import AuditKeys
from waygate_mcp.audit.reading import Filters, Follower, as_cef, parse, records
from waygate_mcp.audit.verify import Report, verify
from waygate_mcp.cli.options import settings_from
from waygate_mcp.cli.output import ExitCode, JsonOption, note, print_json, print_table, say
from waygate_mcp.config.secrets import KEY_FILE, load_or_create_secret_key, read_secret_file
from waygate_mcp.config.settings import Settings
from waygate_mcp.errors import ConfigError, StorageError

_FOLLOW_S = 0.25
_AT_ONCE = 1000
_MAX_HEAD_FILE_BYTES = 16 * 1024 * 1024
_COLUMNS = ("what", "place", "sequence", "message")

FolderArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FOLDER]", help="A copy of the journal's folder. Default: the one of this server."
    ),
]
KindOption = Annotated[
    str | None,
    typer.Option(help="start, outcome, refusal, administration or lifecycle."),
]
PrincipalOption = Annotated[str | None, typer.Option(help="The id of who called.")]
EndpointOption = Annotated[str | None, typer.Option(help="The endpoint's name.")]
MethodOption = Annotated[str | None, typer.Option(help="The method, as tools/call.")]
NameOption = Annotated[str | None, typer.Option(help="The public name or the action.")]
OutcomeOption = Annotated[str | None, typer.Option(help="How it ended, as ok or forbidden.")]
RequestOption = Annotated[str | None, typer.Option(help="The request's id.")]
SinceOption = Annotated[
    str | None, typer.Option(help="From this time on, as 2026-07-28T12:00:00Z.")
]
UntilOption = Annotated[str | None, typer.Option(help="Before this time.")]


def tail(  # noqa: PLR0913, PLR0917 - one argument for each option of the command
    folder: FolderArgument = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is recorded from now on.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=100_000, help="How many of the last records.")
    ] = 20,
    kind: KindOption = None,
    principal: PrincipalOption = None,
    endpoint: EndpointOption = None,
    method: MethodOption = None,
    name: NameOption = None,
    outcome: OutcomeOption = None,
    request_id: RequestOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    json: JsonOption = False,
) -> None:
    """Show the last records."""
    where = _folder(folder)
    filters = Filters(kind, principal, endpoint, method, name, outcome, request_id, since, until)
    follower = Follower(where)
    if follow:
        follower.skip()
    show = _print_line if json else _print_record
    last = deque((record for record, _ in records(where, filters)), maxlen=lines)
    for record in sorted(last, key=lambda one: str(one.get("at", ""))):
        show(record)
    while follow:
        fresh = [one for line in follower.read(_AT_ONCE) if (one := parse(line)) is not None]
        for one in filter(filters.wants, fresh):
            show(one)
        sys.stdout.flush()
        if not fresh:
            time.sleep(_FOLLOW_S)


def verify_folder(
    folder: FolderArgument = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The master key. Default: WAYGATE_SECRET_KEY, WAYGATE_SECRET_KEY_FILE, or secret.key in "
            "the data folder.",
        ),
    ] = None,
    heads: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Heads kept elsewhere (`waygate audit heads`), so that a cut tail is found. Without "
            "FOLDER and FILE those in the database are taken.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Find every record that was changed, removed, added, reordered or cut off.

    Exit code 1: the journal is not as it was written.
    """
    settings = settings_from()
    keys = AuditKeys(_master(settings, key_file))
    where = _folder(folder, settings)
    if not where.is_dir():
        raise typer.BadParameter(f"there is no folder {where}")
    anchors = _heads_in_file(heads) if heads is not None else []
    if heads is None and folder is None:
        anchors = _heads_in_database(settings)
    report = verify(where, keys, anchors, None if json else _progress())
    _print_report(report, where, as_json=json)
    if not report.is_whole:
        raise typer.Exit(ExitCode.NOT_WELL)


def export(  # noqa: PLR0913, PLR0917 - one argument for each option of the command
    folder: FolderArgument = None,
    format: Annotated[  # noqa: A002 - the option's own name
        Literal["jsonl", "cef"],
        typer.Option(help="`jsonl`: the lines as they are. `cef`: ArcSight's event format."),
    ] = "jsonl",
    kind: KindOption = None,
    principal: PrincipalOption = None,
    endpoint: EndpointOption = None,
    method: MethodOption = None,
    name: NameOption = None,
    outcome: OutcomeOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
) -> None:
    """Print records for other tools, on standard output."""
    filters = Filters(kind, principal, endpoint, method, name, outcome, since=since, until=until)
    write = sys.stdout.buffer.write
    for record, line in records(_folder(folder), filters):
        write(line if format == "jsonl" else f"{as_cef(record, __version__)}\n".encode())
    sys.stdout.flush()


def print_heads() -> None:
    """Print how far each chain is, signed, to be kept where nobody who can reach this server can."""
    for head in _heads_in_database(settings_from()):
        sys.stdout.write(f"{msgspec.json.encode(head).decode()}\n")


def audit() -> None:
    """Read, verify and export the audit journal."""


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True)
    group.callback()(audit)
    group.command("tail")(tail)
    group.command("verify")(verify_folder)
    group.command("export")(export)
    group.command("heads")(print_heads)
    app.add_typer(group, name="audit")


def _folder(given: Path | None, settings: Settings | None = None) -> Path:
    return given if given is not None else (settings or settings_from()).data_dir / FOLDER


def _master(settings: Settings, key_file: Path | None) -> bytes:
    """Give the master key that is there.

    Raises:
        ConfigError: there is none, or it cannot be used.
    """
    if key_file is not None:
        return read_secret_file(key_file, path="--key-file").encode()
    is_given = settings.secret_key is not None or settings.secret_key_file is not None
    if not is_given and not (settings.data_dir / KEY_FILE).exists():
        raise ConfigError(
            f"there is no key: {settings.data_dir / KEY_FILE} does not exist; give --key-file, "
            "WAYGATE_SECRET_KEY or WAYGATE_SECRET_KEY_FILE",
            path="WAYGATE_SECRET_KEY",
        )
    return load_or_create_secret_key(settings)


def _heads_in_file(path: Path) -> list[Head]:
    try:
        with path.open("rb") as handle:
            data = handle.read(_MAX_HEAD_FILE_BYTES)
        return [msgspec.json.decode(line, type=Head) for line in data.splitlines() if line.strip()]
    except OSError as exc:
        raise typer.BadParameter(f"cannot read {path}: {exc.strerror}") from None
    except msgspec.DecodeError as exc:
        raise typer.BadParameter(f"{path} does not hold heads: {exc}") from None


def _heads_in_database(settings: Settings) -> list[Head]:
    given = settings.db_url.get_secret_value() if settings.db_url is not None else None
    # Loaded here: most commands need no database, and its library is half of their time.
    engine = importlib.import_module("waygate_mcp.storage.engine")
    audit_log = importlib.import_module("waygate_mcp.storage.audit_log")
    database = engine.Database(engine.database_url(given, settings.data_dir))
    if database.path is not None and not database.path.exists():
        note("warning: there is no database, so no anchored heads: a tail cut off may stay unseen")
        return []

    async def ask() -> list[dict[str, Any]]:
        await database.open(upgrade_tables=False)
        try:
            heads: list[dict[str, Any]] = await audit_log.AuditLog(database).heads()
            return heads
        finally:
            await database.close()

    try:
        return [msgspec.convert(head, Head) for head in asyncio.run(ask())]
    except StorageError as exc:
        note(f"warning: no anchored heads from the database: {exc}")
        return []


def _progress() -> Callable[[int], None] | None:
    if not sys.stderr.isatty():
        return None
    return lambda count: note(f"{count:,} records")


def _print_report(report: Report, where: Path, *, as_json: bool) -> None:
    if as_json:
        found = [msgspec.to_builtins(finding) for finding in report.findings]
        print_json(
            {
                "folder": str(where),
                "whole": report.is_whole,
                "records": report.records,
                "chains": report.chains,
                "findings": found,
                "more": report.more,
            }
        )
        return
    if report.findings:
        rows = [[one.what, one.place, one.sequence or "", one.message] for one in report.findings]
        print_table(_COLUMNS, rows)
    if report.more:
        say(f"and {report.more} more")
    verdict = "whole" if report.is_whole else "NOT as it was written"
    say(f"{report.records} records in {report.chains} chains: {verdict}")


def _print_line(record: Mapping[str, Any]) -> None:
    sys.stdout.write(f"{jsonlib.dumps(record, ensure_ascii=False, separators=(',', ':'))}\n")


def _print_record(record: Mapping[str, Any]) -> None:
    parts = [str(record.get(key, "")) for key in ("at", "kind", "principal", "method", "name")]
    if record.get("outcome"):
        parts.append(f"→ {record['outcome']}")
    if record.get("duration_ms") is not None:
        parts.append(f"{record['duration_ms']} ms")
    if record.get("details"):
        parts.append(jsonlib.dumps(record["details"], ensure_ascii=False))
    say("  ".join(part for part in parts if part))
