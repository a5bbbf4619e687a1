"""The document on a desk: read, changed as text, checked, put back.

Knows that a change is refused where it would make the document one that `waygate check` refuses, and that nothing is
written then.
What `waygate add`, `remove` and `import` share.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

import typer

from waygate_mcp.cli.init import DOCUMENT
from waygate_mcp.cli.options import settings_from
from waygate_mcp.config.document import Document
from waygate_mcp.config.files import alone_in, keep_beside, read_text, write_whole
from waygate_mcp.config.load import (
    FILE_NAME,
    find_document,
    load_document,
    parse_document,
)
from waygate_mcp.config.secret_sources import SecretsSection
from waygate_mcp.config.settings import Settings, read_settings
from waygate_mcp.config.upstream import UpstreamSection
from waygate_mcp.config.yaml_text import MAX_BYTES
from waygate_mcp.errors import ConfigError, ConfigProblem
from waygate_mcp.runtime.secrets import fetch_for_command, secret_uses
from waygate_mcp.runtime.upstreams import examine_upstreams

__all__ = ["DocumentDesk", "secret_sources", "upstream_names"]


class DocumentDesk:
    """One document. `text` is what stands in it, or in a first one where there is none (`is_new`)."""

    def __init__(self, config: Path | None) -> None:
        self.settings: Settings = settings_from(config=config)
        self.path: Path = find_document(self.settings) or Path(FILE_NAME)
        found = read_text(self.path, limit_bytes=MAX_BYTES)
        self.is_new = found is None
        self.text: str = DOCUMENT if found is None else found

    @property
    def folder(self) -> Path:
        """Where the document's relative paths begin."""
        return self.path.absolute().parent

    def document(self) -> Document:
        """Give what the text says.

        Raises:
            ConfigError: it is not valid.
        """
        return parse_document(self.text.encode(), self.settings, source=str(self.path))

    def write(
        self, text: str, *, touched: Iterable[str] = (), keeps_old: bool = False
    ) -> Path | None:
        """Put a new text in the document's place; with `keeps_old`, give where the old one is kept.

        `touched` are the upstreams that are new in it: what keeps them from being opened is refused as
        well. Of others only what the text itself says counts, so that one that is broken already does not
        stand in the way of mending it.

        Raises:
            ConfigError: the text is not valid, somebody else changed the document meanwhile, or it
                cannot be written. The document is as it was then.
        """
        source = str(self.path)
        document = parse_document(text.encode(), self.settings, source=source)
        problems = [
            problem
            for name in touched
            if (section := document.enabled_upstreams().get(name)) is not None
            for problem in self.faults(name, section)
        ]
        if problems:
            raise ConfigError(problems=problems, source=source)
        with alone_in(Path(os.path.realpath(self.path)).parent):
            there = read_text(self.path, limit_bytes=MAX_BYTES)
            if there != (None if self.is_new else self.text):
                raise ConfigError("was changed meanwhile; do it again", source=source)
            backup = keep_beside(self.path) if keeps_old and not self.is_new else None
            write_whole(self.path, text)
        self.text, self.is_new = text, False
        return backup

    def faults(self, name: str, section: UpstreamSection) -> tuple[ConfigProblem, ...]:
        """Say what keeps an upstream from being opened, as far as that is known without opening it."""
        document = Document().model_copy(update={"upstreams": {name: section}})
        wanted, sources = secret_uses(document), secret_sources(self.settings)
        known = asyncio.run(fetch_for_command(self.settings, wanted, sources))
        return tuple(examine_upstreams(document, self.folder, self.settings.data_dir, known))


def secret_sources(settings: Settings) -> SecretsSection:
    """Give where the document in its place says that secrets are; the default where it is not valid."""
    try:
        return load_document(find_document(settings), settings).secrets
    except ConfigError:
        return SecretsSection()


def upstream_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of an upstream of the document; a shell that asks is never told of an error."""
    try:
        settings = read_settings({"config": ctx.params.get("config")})
        names = load_document(find_document(settings), settings).upstreams
    except ConfigError:
        return []
    return [name for name in names if name.startswith(incomplete)]
