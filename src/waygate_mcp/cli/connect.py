"""`waygate connect`: the client's own configuration for this gateway, printed or written.

Knows what a person wants to paste, and when a key may be shown. Refuses to print or write a key
unless `--with-key` says so: otherwise the client looks it up, or a placeholder stands there.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from waygate_mcp.cli.client_files import as_text, edited, write_beside_backup
from waygate_mcp.cli.clients import CLIENTS, Client, Place, Target, Transport, snippet
from waygate_mcp.cli.gateway_client import Where, read_key
from waygate_mcp.cli.options import ConfigOption, settings_from
from waygate_mcp.cli.output import ExitCode, JsonOption, note, print_json, print_table, say
from waygate_mcp.config.document import DEFAULT_ENDPOINT
from waygate_mcp.config.load import find_document, load_document
from waygate_mcp.config.settings import Settings
from waygate_mcp.config.suggest import nearest
from waygate_mcp.errors import ConfigError


def _complete(incomplete: str) -> list[str]:
    return [word for word in CLIENTS if word.startswith(incomplete)]


def connect(  # noqa: PLR0913, PLR0917 - one argument for each option of the command
    client: Annotated[
        str | None,
        typer.Argument(
            metavar="CLIENT", help="Which one; none lists them.", autocompletion=_complete
        ),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Put it into the client's file.")] = False,
    stdio: Annotated[
        bool, typer.Option("--stdio", help="Let the client start the gateway.")
    ] = False,
    http: Annotated[bool, typer.Option("--http", help="Let it call a running gateway.")] = False,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="What the client calls it.")
    ] = "waygate",
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Default: the one of the settings.")
    ] = None,
    endpoint: Annotated[
        str, typer.Option("--endpoint", metavar="NAME", help="Which of its endpoints.")
    ] = DEFAULT_ENDPOINT,
    with_key: Annotated[
        bool, typer.Option("--with-key", help="Show or write the key itself.")
    ] = False,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", metavar="FILE", help="A file with the key.")
    ] = None,
    path: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="The client's file, if elsewhere.")
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Print a client's own configuration for this gateway, or write it.

    With --write the file is backed up beside itself, everything else in it stays, and a file that
    cannot be parsed is left alone.
    """
    if client is None:
        _list_clients(as_json=json)
        return
    if stdio and http:
        raise typer.BadParameter("--stdio and --http exclude each other")
    chosen = _find(client)
    where = Where(settings_from(config=config), url, endpoint, key_file)
    transport: Transport = "stdio" if stdio else "http" if http else chosen.transports[0]
    target = _target(where, name, config, with_key=with_key)
    try:
        value = snippet(chosen, target, transport)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from None
    place = path or _place(chosen)
    if write:
        _write(chosen, target, transport, place)
        return
    if json:
        print_json({"client": client, "file": place, "transport": transport, "content": value})
        return
    _show(chosen, place, as_text(chosen, value))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(connect)


def _find(word: str) -> Client:
    """Find a client by its word."""
    found = CLIENTS.get(word.lower())
    if found is None:
        hint = nearest(word.lower(), CLIENTS)
        known = f"did you mean {hint!r}?" if hint else f"known: {', '.join(CLIENTS)}"
        raise typer.BadParameter(f"no client is called {word!r}; {known}")
    return found


def _target(where: Where, name: str, config: Path | None, *, with_key: bool) -> Target:
    """Say what the client is to be connected to."""
    key = None
    if with_key:
        key = read_key(where)
        if key is None:
            raise ConfigError(
                "no key is at hand: give --key-file, or set WAYGATE_API_KEY or WAYGATE_API_KEY_FILE",
                path="--with-key",
            )
    settings = where.settings
    needs_key = where.url is not None or _asks_for_keys(settings)
    command = _stdio_command(settings, where.endpoint, config)
    return Target(name, where.address, command, key=key, needs_key=needs_key)


def _asks_for_keys(settings: Settings) -> bool:
    """Tell whether the configured gateway wants keys; one that cannot be read surely does."""
    try:
        return load_document(find_document(settings), settings).auth.takes_keys
    except ConfigError:
        return True


def _stdio_command(settings: Settings, endpoint: str, config: Path | None) -> tuple[str, ...]:
    """Give the command that starts the gateway behind standard input, with absolute paths."""
    beside = Path(sys.executable).with_name("waygate.exe" if os.name == "nt" else "waygate")
    program = str(beside) if beside.exists() else shutil.which("waygate") or "waygate"
    command = [program, "stdio"]
    document = config if config is not None else find_document(settings)
    if document is not None:
        command += ["--config", str(document.expanduser().absolute())]
    if endpoint != DEFAULT_ENDPOINT:
        command += ["--endpoint", endpoint]
    return tuple(command)


def _place(client: Client) -> Path | None:
    """Give the client's file on this machine."""
    return None if client.place is None else place_of(client.place)


def place_of(place: Place) -> Path:
    """Give where a place is on this machine."""
    home = Path.home()
    configuration = {
        "darwin": home / "Library" / "Application Support",
        "win32": Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming"),
    }.get(sys.platform, Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config"))
    folders = {"HOME": home, "CONFIG": configuration, "HERE": Path.cwd()}
    return Path(place.resolve(sys.platform, folders))


def _write(client: Client, target: Target, transport: Transport, place: Path | None) -> None:
    """Put the target into the client's file."""
    if place is None:
        note(f"error: {client.title} keeps no file that can be edited. {client.hint}")
        raise typer.Exit(ExitCode.WRONG_USE)
    old = _read(place)
    new = edited(client, old, target, transport, str(place))
    if new == old:
        say(f"{place}: {target.name} is there already")
        return
    backup = write_beside_backup(place, new, is_secret=target.key is not None)
    say(f"{place}: {target.name} written")
    if backup is not None:
        say(f"{backup}: what was there before")
    note(client.hint)


def _read(place: Path) -> str | None:
    """Read a client's file, None where there is none."""
    try:
        return place.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot be read: {exc}", source=str(place)) from exc


def _show(client: Client, place: Path | None, text: str) -> None:
    """Print the snippet; where it goes is said beside it, not in it."""
    note(f"{client.title}: {place or 'paste it by hand'}")
    sys.stdout.write(text)
    note(client.hint)


def _list_clients(*, as_json: bool) -> None:
    """List the clients that are known."""
    rows: list[tuple[Any, ...]] = [
        (word, one.title, one.transports, _place(one), one.is_checked)
        for word, one in CLIENTS.items()
    ]
    columns = ("client", "name", "transports", "file", "format checked")
    print_table(columns, rows, as_json=as_json)
