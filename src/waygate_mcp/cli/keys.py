"""`waygate keys`: API keys, in the database the settings name.

Works whether or not a server runs: one that does takes over each change within a second. Knows options
and how keys are shown; the rules are `auth.key_desk`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from waygate_mcp.auth.key_desk import KeyDesk, parse_span
from waygate_mcp.auth.key_text import KeyHash
from waygate_mcp.cli.document_desk import DocumentDesk
from waygate_mcp.cli.options import ConfigOption
from waygate_mcp.cli.output import JsonOption, note, print_json, print_table, say
from waygate_mcp.config.roles import roles_of
from waygate_mcp.config.secrets import load_or_create_secret_key
from waygate_mcp.errors import ConfigError, ConfigProblem, InvalidArgumentsError, WaygateError
from waygate_mcp.model.keys import StoredKey
from waygate_mcp.model.permissions import BUILTIN_ROLES, Narrowing
from waygate_mcp.model.principal import LOCAL
from waygate_mcp.runtime.clock import Clock
from waygate_mcp.runtime.command_trail import command_trail
from waygate_mcp.runtime.opening import open_database
from waygate_mcp.storage.api_keys import ApiKeys

_COLUMNS = ("id", "name", "state", "roles", "expires", "last used")
T = TypeVar("T")


def _role_names(ctx: typer.Context, incomplete: str) -> list[str]:
    try:
        roles = list(roles_of(DocumentDesk(ctx.params.get("config")).document().roles))
    except WaygateError:  # a document that is not valid is no reason to complete nothing
        roles = list(BUILTIN_ROLES)
    return [role for role in roles if role.startswith(incomplete)]


Id = Annotated[str, typer.Argument(metavar="ID", help="The public id: what stands after wg_.")]
Patterns = list[str] | None


def create(  # noqa: PLR0913, PLR0917 - one argument for each option of the command
    name: Annotated[str, typer.Argument(help="What people call it.")],
    role: Annotated[
        list[str],
        typer.Option("--role", help="A role; again for more.", autocompletion=_role_names),
    ],
    endpoint: Annotated[
        Patterns, typer.Option(help="Only this endpoint (`*` stands for any text); again for more.")
    ] = None,
    upstream: Annotated[
        Patterns, typer.Option(help="Only this upstream or plugin; again for more.")
    ] = None,
    only: Annotated[
        Patterns, typer.Option(metavar="NAME", help="Only this name or URI; again for more.")
    ] = None,
    limit: Annotated[
        Patterns, typer.Option(metavar="RATE", help="A rate of its own, such as 100/minute.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="SPAN", help="When it ends, such as 90d. Default: never.")
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Make a key. Its text is printed once, and kept nowhere."""
    narrowing = Narrowing(*(tuple(one) if one else ("*",) for one in (endpoint, upstream, only)))
    span = None if expires is None else parse_span(expires)

    async def make(desk: KeyDesk) -> tuple[StoredKey, str]:
        return await desk.create(
            LOCAL, name, role, narrowing=narrowing, limits=limit or (), expires_in=span
        )

    _print_new(*_with_desk(config, make), as_json=json)


def list_keys(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List all keys, revoked and expired ones too."""
    keys, now = _with_desk(config, _list)
    if json:
        print_json([_as_json(key, now) for key in keys])
    elif keys:
        print_table(_COLUMNS, [_row(key, now) for key in keys])
    else:
        note("no keys but the bootstrap key")


def show(id: Id, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show one key."""

    async def find(desk: KeyDesk) -> tuple[StoredKey, datetime]:
        return await desk.show(_id_in(id)), desk.now()

    key, now = _with_desk(config, find)
    _print_one(_as_json(key, now), as_json=json)


def rotate(
    id: Id,
    overlap: Annotated[
        str, typer.Option(metavar="SPAN", help="How long the old text stays good; 30d at most.")
    ] = "24h",
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Give a key a new text, printed once. The old one stays good for the overlap."""
    span = parse_span(overlap)

    async def turn(desk: KeyDesk) -> tuple[StoredKey, str]:
        return await desk.rotate(LOCAL, _id_in(id), span)

    _print_new(*_with_desk(config, turn), as_json=json)


def revoke(id: Id, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Take a key back. Every server refuses it within two seconds; what it holds open ends in five."""

    async def take(desk: KeyDesk) -> tuple[StoredKey, datetime]:
        return await desk.revoke(LOCAL, _id_in(id)), desk.now()

    key, now = _with_desk(config, take)
    if json:
        print_json(_as_json(key, now))
    else:
        note(f"{key.id} ({key.name}) is revoked")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="Make, list, rotate and revoke API keys.", no_args_is_help=True, rich_markup_mode=None
    )
    group.command("create")(create)
    group.command("list")(list_keys)
    group.command("show")(show)
    group.command("rotate")(rotate)
    group.command("revoke")(revoke)
    app.add_typer(group, name="keys")


async def _list(desk: KeyDesk) -> tuple[list[StoredKey], datetime]:
    return await desk.list(), desk.now()


def _with_desk(config: Path | None, do: Callable[[KeyDesk], Awaitable[T]]) -> T:
    async def run() -> T:
        async with _desk(config) as desk:
            try:
                return await do(desk)
            except InvalidArgumentsError as exc:
                problems = [ConfigProblem("arguments", one) for one in exc.details]
                raise ConfigError(problems=problems) from None

    return asyncio.run(run())


@asynccontextmanager
async def _desk(config: Path | None) -> AsyncIterator[KeyDesk]:
    documents = DocumentDesk(config)
    settings, document = documents.settings, documents.document()
    master = load_or_create_secret_key(settings)
    async with (
        open_database(settings) as database,
        command_trail(settings, master, database) as trail,
    ):
        yield KeyDesk(
            ApiKeys(database),
            KeyHash(master),
            roles_of(document.roles),
            Clock().now,
            trail if document.audit.enabled else None,
        )


def _id_in(text: str) -> str:
    """Give the public id of what was typed: that, or it with `wg_`. A whole key is not repeated."""
    return text.removeprefix("wg_").partition("_")[0]


def _print_new(key: StoredKey, text: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"id": key.id, "name": key.name, "roles": list(key.roles), "key": text})
        return
    note(f"{key.id} ({key.name}): this is shown once, and kept nowhere")
    say(text)


def _print_one(shown: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(shown)
        return
    for name, value in shown.items():
        text = ", ".join(value) if isinstance(value, list) else value
        say(f"{name + ':':<16} {'–' if text in (None, '') else text}")


def _as_json(key: StoredKey, now: datetime) -> dict[str, Any]:
    def at(moment: datetime | None) -> str | None:
        return None if moment is None else moment.isoformat()

    return {
        "id": key.id,
        "name": key.name,
        "state": key.state(now),
        "roles": list(key.roles),
        "endpoints": list(key.narrowing.endpoints),
        "upstreams": list(key.narrowing.upstreams),
        "names": list(key.narrowing.names),
        "limits": list(key.limits),
        "created_at": at(key.created_at),
        "created_by": key.created_by,
        "expires_at": at(key.expires_at),
        "revoked_at": at(key.revoked_at),
        "last_used_at": at(key.last_used_at),
        "previous_until": at(key.previous_until) if key.state(now) == "rotating" else None,
    }


def _row(key: StoredKey, now: datetime) -> list[str]:
    def day(moment: datetime | None) -> str:
        return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}"

    roles = ", ".join(key.roles)
    return [key.id, key.name, key.state(now), roles, day(key.expires_at), day(key.last_used_at)]
