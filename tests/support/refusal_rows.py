"""The rows of `docs/protocol-errors.md`, for the tests that send an example for each."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.support.source_tree import ROOT

PAGE = ROOT / "docs" / "protocol-errors.md"


@dataclass(frozen=True)
class Row:
    """One refusal: `code` and `words` are empty where the answer has no body."""

    name: str
    status: int
    code: str
    words: str

    def fits(self, message: str) -> bool:
        """Whether these are its words, with anything for each `…`."""
        pattern = ".+".join(re.escape(part) for part in self.words.split("…"))
        return re.fullmatch(pattern, message, re.DOTALL) is not None


def tables() -> list[list[list[str]]]:
    """Every table of the page: rows of cells, without the head."""
    found: list[list[list[str]]] = [[]]
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| "):
            found[-1].append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [table[2:] for table in found if table]


def refusals() -> dict[str, Row]:
    """The rows with a name of their own, in order."""
    named = [row for table in tables() for row in table if re.fullmatch(r"[a-z0-9-]+", row[0])]
    rows = [Row(row[0], int(row[1]), row[2], row[3]) for row in named if not row[0].startswith("-")]
    assert len({row.name for row in rows}) == len(rows), "a row stands twice"
    return {row.name: row for row in rows}
