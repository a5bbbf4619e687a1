"""`waygate remove`: an upstream taken out of the document."""

from __future__ import annotations

from typing import Annotated

import typer

from waygate_mcp.cli.document_desk import DocumentDesk, upstream_names
from waygate_mcp.cli.options import ConfigOption
from waygate_mcp.cli.output import JsonOption, print_json, say
from waygate_mcp.config.client_block import client_names
from waygate_mcp.config.document_text import drop_entry
from waygate_mcp.config.references import find_references
from waygate_mcp.config.suggest import nearest
from waygate_mcp.config.upstream import UpstreamSection
from waygate_mcp.errors import ConfigError

NameArgument = Annotated[
    str,
    typer.Argument(metavar="NAME", help="What it is called here.", autocompletion=upstream_names),
]


def remove(name: NameArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Take an upstream out of the document.

    The rest of the document stays as it is. Secrets that were kept for it stay in the data folder.
    """
    desk = DocumentDesk(config)
    if desk.is_new:
        raise ConfigError("there is no document", source=str(desk.path))
    document = desk.document()
    theirs = {ours: one for one, ours in client_names(document).items()}
    block, key = ("mcpServers", theirs[name]) if name in theirs else ("upstreams", name)
    if name not in document.upstreams:
        hint = nearest(name, document.upstreams)
        raise typer.BadParameter(
            f"no upstream is called {name!r}" + (f"; did you mean {hint!r}?" if hint else "")
        )
    secrets = _secrets_of(document.upstreams[name])
    desk.write(drop_entry(desk.text, block, key, source=str(desk.path)))
    if json:
        print_json(
            {"document": desk.path, "name": name, "removed": f"{block}.{key}", "secrets": secrets}
        )
    else:
        say(f"{desk.path}: {block}.{key} is taken out")
        for secret in secrets:
            say(f"it referred to the secret {secret}, which is kept")


def _secrets_of(section: UpstreamSection) -> list[str]:
    """Give the secrets a section refers to."""
    texts = [section.url or "", *section.args, *section.headers.values(), *section.env.values()]
    found = [name for text in texts for kind, name in find_references(text) if kind == "secret"]
    return list(dict.fromkeys(found))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(remove)
