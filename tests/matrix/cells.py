"""The cells of the matrix, made from revisions, transports on each side and features: none is picked by hand.

A cell that cannot exist says why, by the first rule that applies; every other cell has to work.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from tests.support.strict_wire import MODERN, REVISIONS

STREAMABLE, OLD, STDIO = "Streamable HTTP", "HTTP+SSE", "stdio"
TRANSPORTS = (STREAMABLE, OLD, STDIO)
FEATURES = (
    "call", "error", "progress", "cancel", "two-round question", "url question", "sampling", "roots", "subscribe",
    "list change", "pages", "unknown fields kept", "log level", "completion",
)  # fmt: skip
WORKS = "works"


class Cell(NamedTuple):
    """One client, one upstream, how each is reached, and what they do."""

    client: str
    upstream: str
    front: str
    back: str
    feature: str


# Feature → the first revision that has it, and what it is called there, where that is not the first of all.
_SINCE = {
    "two-round question": ("2025-06-18", "elicitation"),
    "url question": ("2025-11-25", "elicitation by URL"),
}


def reason(cell: Cell) -> str:
    """Why a cell cannot exist; nothing where it can."""
    if cell.client == MODERN and cell.front == OLD:
        return f"the client speaks {MODERN}, of which HTTP+SSE is no transport"
    if cell.upstream == MODERN and cell.back == OLD:
        return f"the upstream speaks {MODERN}, of which HTTP+SSE is no transport"
    since, what = _SINCE.get(cell.feature, ("", ""))
    if cell.upstream < since:
        return f"{what} came with {since}: an upstream of an older revision has no way to ask"
    if cell.client < since:
        return (
            f"{what} came with {since}: a client of an older revision cannot be asked; "
            "the call ends with an error that says so"
        )
    return ""


def is_refused(cell: Cell) -> bool:
    """Whether the upstream can ask and the client cannot be asked, so that an error has to say so."""
    since, _ = _SINCE.get(cell.feature, ("", ""))
    return cell.client < since <= cell.upstream and not _lacks_transport(cell)


def _lacks_transport(cell: Cell) -> bool:
    return MODERN in (
        cell.client if cell.front == OLD else "",
        cell.upstream if cell.back == OLD else "",
    )


def all_cells() -> Iterator[Cell]:
    """Every cell, those that cannot exist included."""
    for parts in itertools.product(REVISIONS, REVISIONS, TRANSPORTS, TRANSPORTS, FEATURES):
        yield Cell(*parts)


def expected(cell: Cell) -> str:
    """What the page says of a cell."""
    why = reason(cell)
    return f"cannot exist: {why}" if why else WORKS
