"""`waygate init`: what a first start needs.

Knows the text of a first document. Never overwrites: what is there stays, and is said to stay.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from waygate_mcp.cli.options import settings_from
from waygate_mcp.cli.output import JsonOption, print_json, say
from waygate_mcp.config.load import FILE_NAME
from waygate_mcp.config.secrets import (
    KEY_FILE,
    load_or_create_secret_key,
    prepare_private_folder,
)
from waygate_mcp.config.settings import Settings
from waygate_mcp.errors import ConfigError

DOCUMENT = """\
# The document of Waygate MCP: what is served, and to whom.
# `waygate check` validates it. All keys: docs/configuration.md.
version: 1

server:
  # Under which URL clients reach this server, when it stands behind a proxy:
  # public_url: https://mcp.example.org
  # Web pages that may call (any other Origin is refused):
  # cors_origins: ["https://app.example.org"]
  # /metrics asks for a key; `public` opens it:
  metrics: protected

auth:
  # Every call carries a key. `none` asks nobody, and only works on loopback.
  mode: keys

# What answers calls: a module, a file (`./file.py`), either with `:attribute`, or an entry point.
plugins:
  hello:
    use: waygate_mcp.plugins.builtin.hello
  # weather:
  #   use: my_package.weather
  #   config:
  #     api_key: ${env:WEATHER_API_KEY}   # or ${secret:NAME}, ${file:PATH}

# MCP servers that are served here; `waygate add NAME URL` and `waygate import FILE` write them.
upstreams: {}

# Catalogs by name: `default` is served at /mcp, the others at /servers/NAME/mcp.
endpoints:
  default:
    bind: ["*"]
  # weather-only:
  #   bind: [weather]
  #   tools: {deny: ["*delete*"]}
"""

Step = tuple[str, Path | None, str]
"""What it is, where it lies, and what was done: created, kept, or given from outside."""


def init(
    folder: Annotated[
        Path | None,
        typer.Option("--dir", metavar="D", help="Folder for waygate.yaml; the current one."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write a commented waygate.yaml, the data folder and the secret key.

    Nothing that is there already is changed.
    """
    settings = settings_from()
    document = _document_path(folder, settings)
    steps = [_write_document(document), *_prepare_data(settings)]
    if json:
        print_json([{"what": what, "path": path, "result": done} for what, path, done in steps])
        return
    for what, path, done in steps:
        say(f"{what}: {done}" if path is None else f"{what}: {done} ({path})")
    say(f"next: waygate serve -c {document}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(init)


def _document_path(folder: Path | None, settings: Settings) -> Path:
    if folder is not None:
        return folder / FILE_NAME
    return settings.config or Path(FILE_NAME)


def _write_document(path: Path) -> Step:
    if path.is_symlink() or path.exists():
        return "document", path, "kept"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as handle:
            handle.write(DOCUMENT)
    except OSError as exc:
        raise ConfigError(f"cannot write the document {path}: {exc.strerror}") from exc
    return "document", path, "created"


def _prepare_data(settings: Settings) -> list[Step]:
    folder = settings.data_dir
    was_there = folder.exists()
    prepare_private_folder(folder, path="WAYGATE_DATA_DIR")
    steps: list[Step] = [("data folder", folder, "kept" if was_there else "created")]
    if settings.secret_key is not None or settings.secret_key_file is not None:
        load_or_create_secret_key(settings)
        return [*steps, ("secret key", settings.secret_key_file, "given from outside")]
    key = folder / KEY_FILE
    had_key = key.exists()
    load_or_create_secret_key(settings)
    return [*steps, ("secret key", key, "kept" if had_key else "created")]
