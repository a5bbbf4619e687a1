"""Pages of the project as material for tests: their code blocks by heading, their tables, their words in code type.

Knows as much Markdown as our pages use. Refuses to run anything.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.source_tree import ROOT, files_in_git

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: the heading it stands under, its language, its text."""

    heading: str
    language: str
    text: str


@dataclass(frozen=True)
class Page:
    """One page; `name` is its path from the repository's root."""

    name: str

    @property
    def text(self) -> str:
        """The whole page."""
        return (ROOT / self.name).read_text(encoding="utf-8")

    def blocks(self) -> Iterator[Block]:
        """Every fenced block in order."""
        text = self.text
        for match in _BLOCK.finditer(text):
            above = re.findall(r"^#+ (.+)$", _BLOCK.sub("", text[: match.start()]), re.MULTILINE)
            yield Block(above[-1] if above else "", match[1], match[2])

    def commands(self, heading: str) -> list[str]:
        """The lines of the `sh` blocks under a heading.

        Raises:
            LookupError: there are none; the page was changed and its test was not.
        """
        found = [
            line
            for block in self.blocks()
            if block.heading == heading and block.language == "sh"
            for line in block.text.splitlines()
        ]
        if not found:
            raise LookupError(f"{self.name} has no commands under {heading!r}")
        return found

    def block(self, language: str) -> str:
        """The text of the page's only block in this language."""
        (text,) = [block.text for block in self.blocks() if block.language == language]
        return text

    def rows(self, first_column: str) -> list[list[str]]:
        """The cells of the table whose first column has this title, without its head."""
        lines = iter(self.text.splitlines())
        if not any(line.startswith(f"| {first_column} |") for line in lines):
            raise LookupError(f"{self.name} has no table of {first_column!r}")
        next(lines)
        rows = []
        for line in lines:
            if not line.startswith("|"):
                break
            rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
        return rows

    def words_in_code_type(self) -> list[str]:
        """What stands between single backticks, blocks aside."""
        return re.findall(r"`([^`\n]+)`", _BLOCK.sub("", self.text))


README = Page("README.md")
INSTALLATION = Page("docs/installation.md")
CONTAINER_SECURITY = Page("docs/CONTAINER_SECURITY.md")


def fresh_clone(folder: Path) -> Path:
    """Copy what a commit of the present state would hold: no environment, no settings, no caches."""
    for path in files_in_git():
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target, follow_symlinks=False)
    return folder
