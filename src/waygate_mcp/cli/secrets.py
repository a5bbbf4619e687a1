"""`waygate secrets`: keep secrets in the encrypted store, and see where each name comes from.

Knows how a text gets in (standard input, a file, a hidden prompt) and that none ever comes out: no command
prints one, and none takes one as an argument, where other processes could read it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from waygate_mcp.cli.options import ConfigOption, settings_from
from waygate_mcp.cli.output import ExitCode, JsonOption, note, print_json, print_table, say
from waygate_mcp.config.document import Document
from waygate_mcp.config.load import find_document, load_document
from waygate_mcp.config.references import is_secret_name, near_places
from waygate_mcp.config.secrets import MAX_SECRET_BYTES, prepare_private_folder, read_secret_file
from waygate_mcp.config.settings import Settings, read_settings
from waygate_mcp.errors import ConfigError
from waygate_mcp.net.vault import vault_place
from waygate_mcp.runtime.clock import Clock
from waygate_mcp.runtime.secrets import STORE, open_house, open_store, secret_uses
from waygate_mcp.storage.engine import Database, database_url
from waygate_mcp.storage.secrets import SecretStore

T = TypeVar("T")


def secret_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete a name the document refers to; a shell that asks is never told of an error."""
    try:
        settings = read_settings({"config": ctx.params.get("config")})
        known = secret_uses(_document(settings), enabled_only=False)
    except ConfigError:
        return []
    return sorted(name for name in known if name.startswith(incomplete))


def _document(settings: Settings) -> Document:
    return load_document(find_document(settings), settings)


NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="As in `${secret:NAME}`.",
        autocompletion=secret_names,
    ),
]


def set_secret(
    name: NameArgument,
    file: Annotated[
        str | None,
        typer.Option(
            "--file", metavar="F", help="Take the text from this file; `-` is standard input."
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Keep a secret, encrypted, in the database; one of the same name is replaced.

    The text comes from standard input, from a file, or from a hidden prompt on a terminal. White space
    around it is not part of it. A running server that uses it takes it within seconds.
    """
    settings = settings_from(config=config)
    _check_name(name)
    text = _read(file)
    version = asyncio.run(_with_store(settings, lambda store: store.set(name, text)))
    hidden = _near_place(settings, _document(settings), name)
    if json:
        print_json({"name": name, "version": version, "hidden_by": hidden})
        return
    say(f"{name}: kept, version {version}")
    if hidden is not None:
        note(f"warning: it is not used as long as this is there: {hidden}")


def list_secrets(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the secrets that are stored or referred to: versions, sources, and who refers to them.

    No text is shown. `source` is the place that counts; `none` means that a reference cannot be resolved.
    """
    settings = settings_from(config=config)
    document = _document(settings)
    rows = asyncio.run(_rows(settings, document))
    columns = ("name", "source", "version", "updated", "key", "used_by", "problem")
    print_table(columns, rows, as_json=json)


def remove_secret(
    name: NameArgument, config: ConfigOption = None, json: JsonOption = False
) -> None:
    """Forget a secret of the store. Files and variables of that name stay.

    Exit code 1: there is none of this name.
    """
    settings = settings_from(config=config)
    is_gone = asyncio.run(_with_store(settings, lambda store: store.remove(name)))
    users = secret_uses(_document(settings), enabled_only=False).get(name, [])
    if json:
        print_json({"name": name, "removed": is_gone, "used_by": users})
    elif is_gone:
        say(f"{name}: removed from the store")
        for user in users:
            note(f"warning: {user} refers to it")
    else:
        note(f"error: the store has no secret {name}")
    if not is_gone:
        raise typer.Exit(ExitCode.NOT_WELL)


def rewrap(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Wrap every stored secret under the master key in force, after that key was changed.

    Before: put the new key in the place of the old one, and the old one in a file that
    WAYGATE_SECRET_KEY_PREVIOUS_FILE names; servers started so read both. Broken off, run it again. When
    it is done the old key is of no use any more. Exit code 1: some could not be wrapped.
    """
    settings = settings_from(config=config)
    result = asyncio.run(_with_store(settings, lambda store: store.rewrap()))
    if json:
        print_json({"rewrapped": result.count, "problems": result.problems})
    else:
        say(f"wrapped under the key in force: {result.count}")
        for problem in result.problems.values():
            note(f"error: {problem}")
        if not result.problems:
            say("no secret needs the key before it; WAYGATE_SECRET_KEY_PREVIOUS_FILE can go")
    if result.problems:
        raise typer.Exit(ExitCode.NOT_WELL)


def where(name: NameArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show every place in which a secret is looked for, in order, and which of them counts.

    The places after the one that counts are shown too, Vault alone is asked only where none before it
    has the secret. Exit code 1: no place has it.
    """
    settings = settings_from(config=config)
    _check_name(name)
    document = _document(settings)
    rows = asyncio.run(_places(settings, document, name))
    print_table(("place", "where", "has_it", "counts"), rows, as_json=json)
    if not any(row[3] for row in rows):
        raise typer.Exit(ExitCode.NOT_WELL)


def secrets() -> None:
    """Keep secrets in the encrypted store, and see where they come from."""


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True)
    group.callback()(secrets)
    group.command("set")(set_secret)
    group.command("list")(list_secrets)
    group.command("remove")(remove_secret)
    group.command()(rewrap)
    group.command()(where)
    app.add_typer(group, name="secrets")


def _check_name(name: str) -> None:
    if not is_secret_name(name):
        raise typer.BadParameter(
            "a name has up to 128 letters, digits, `_`, `.` and `-`, and begins with a letter or digit",
            param_hint="NAME",
        )


def _read(file: str | None) -> str:
    """Give the text, which never stands among the arguments."""
    if file is not None and file != "-":
        return read_secret_file(Path(file).expanduser(), path="--file")
    if file is None and sys.stdin.isatty():
        text = str(typer.prompt("the secret", hide_input=True, err=True))
    else:
        data = sys.stdin.buffer.read(MAX_SECRET_BYTES + 1)
        if len(data) > MAX_SECRET_BYTES:
            raise typer.BadParameter(f"a secret has at most {MAX_SECRET_BYTES} bytes")
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise typer.BadParameter("a secret is UTF-8 text") from None
    if not text.strip():
        raise typer.BadParameter("there is no text on standard input")
    return text.strip()


async def _with_store(settings: Settings, work: Callable[[SecretStore], Awaitable[T]]) -> T:
    """Work on the store of the configured database, which is made where it is not there."""
    prepare_private_folder(settings.data_dir, path="WAYGATE_DATA_DIR")
    given = settings.db_url.get_secret_value() if settings.db_url is not None else None
    async with Database(database_url(given, settings.data_dir)) as database:
        return await work(open_store(settings, database, Clock().now))


def _near_place(settings: Settings, document: Document, name: str) -> str | None:
    from_document = tuple(map(Path, document.secrets.folders))
    near = near_places(name, data_dir=settings.data_dir, folders=from_document)
    return next((f"{one.source} {one.where}" for one in near if one.has_it), None)


async def _rows(settings: Settings, document: Document) -> list[tuple[object, ...]]:
    uses = secret_uses(document, enabled_only=False)
    async with open_house(settings) as house:
        stored = {one.name: one for one in await house.stored()}
        names = sorted({*uses, *stored})
        known = await house.fetch(names, document.secrets)
    rows: list[tuple[object, ...]] = []
    for name in names:
        one = stored.get(name)
        source = _near_place(settings, document, name)
        if source is None and (one is not None or name in known.texts):
            source = "Vault" if one is None else STORE
        rows.append((
            name,
            source or "none",
            None if one is None else one.version,
            None if one is None else one.updated_at_utc.isoformat(timespec="seconds"),
            None if one is None else ("in force" if one.is_current else "rewrap"),
            uses.get(name, []),
                known.problems.get(name),
        ))  # fmt: skip
    return rows


async def _places(
    settings: Settings, document: Document, name: str
) -> list[tuple[str, str, bool, bool]]:
    async with open_house(settings) as house:
        found = [
            (one.source, one.where, one.has_it) for one in house.places(name, document.secrets)
        ]
        stored = {one.name for one in await house.stored()}
        found.append((STORE, "database", name in stored))
        vault = document.secrets.vault
        if vault is not None:
            is_near = any(has_it for _, _, has_it in found)
            known = None if is_near else await house.fetch([name], document.secrets)
            there = f"{vault.mount}/{'#'.join(vault_place(vault, name))}"
            if known is not None and name in known.problems:
                there = known.problems[name]
            found.append(("Vault", there, known is not None and name in known.texts))
    first = next((index for index, one in enumerate(found) if one[2]), None)
    return [(*one, index == first) for index, one in enumerate(found)]
