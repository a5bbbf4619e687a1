"""The document on a desk: read, changed as text, checked, put back.

Knows that a change is refused where `waygate check` would refuse the result, and that nothing is written then.
What `waygate add`, `remove` and `import` share.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from waygate_mcp.cli.init import DOCUMENT
from waygate_mcp.cli.options import settings_from
from waygate_mcp.config.document import Document
from waygate_mcp.config.load import (
    FILE_NAME,
    check_document,
    find_document,
    load_document,
    parse_document,
)
from waygate_mcp.config.settings import Settings, read_settings
from waygate_mcp.config.upstream import UpstreamSection
from waygate_mcp.config.yaml_text import MAX_BYTES
from waygate_mcp.errors import ConfigError, ConfigProblem
from waygate_mcp.importers.files import keep_beside, read_text, write_whole
from waygate_mcp.runtime.upstreams import resolve_upstreams
from waygate_mcp.upstreams.environment import resolve_program

__all__ = ["DocumentDesk", "upstream_names"]


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

    def write(self, text: str, *, keeps_old: bool = False) -> Path | None:
        """Put a new text in the document's place; with `keeps_old`, give where the old one is kept.

        Raises:
            ConfigError: `waygate check` would refuse it, somebody else changed the document meanwhile,
                or it cannot be written. The document is as it was then.
        """
        self._check(text)
        there = read_text(self.path, limit_bytes=MAX_BYTES)
        if there != (None if self.is_new else self.text):
            raise ConfigError("was changed meanwhile; do it again", source=str(self.path))
        backup = keep_beside(self.path) if keeps_old and not self.is_new else None
        write_whole(self.path, text)
        self.text, self.is_new = text, False
        return backup

    def faults(self, name: str, section: UpstreamSection) -> tuple[ConfigProblem, ...]:
        """Say what keeps an upstream from being opened, as far as that is known without opening it."""
        try:
            configs = resolve_upstreams(
                {name: section}, self.folder, data_dir=self.settings.data_dir
            )
            if (command := configs[name].command) is not None:
                resolve_program(command)
        except ConfigError as exc:
            return exc.problems
        return ()

    def _check(self, text: str) -> None:
        """Refuse what `waygate check` refuses, by its own way."""
        source = str(self.path)
        parse_document(text.encode(), self.settings, source=source)
        with tempfile.TemporaryDirectory(prefix="waygate-") as folder:
            draft = Path(folder) / FILE_NAME
            draft.write_text(text, encoding="utf-8", newline="")
            try:
                document = check_document(draft, self.settings)
            except ConfigError as exc:
                raise ConfigError(problems=exc.problems, source=source) from None
        problems = [
            problem
            for name, section in document.enabled_upstreams().items()
            for problem in self.faults(name, section)
        ]
        if problems:
            raise ConfigError(problems=problems, source=source)


def upstream_names(incomplete: str) -> list[str]:
    """Complete the name of an upstream of the document; a shell that asks is never told of an error."""
    try:
        settings = read_settings()
        names = load_document(find_document(settings), settings).upstreams
    except ConfigError:
        return []
    return [name for name in names if name.startswith(incomplete)]
