"""`docs/compatibility.md`: what the matrix ran, as a page, by upstream revision and the transport behind us."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path

from tests.matrix.cells import FEATURES, TRANSPORTS, WORKS, Cell, all_cells, expected, reason
from tests.support.source_tree import ROOT
from tests.support.strict_wire import REVISIONS

PAGE: Path = ROOT / "docs" / "compatibility.md"
HEAD = """# Which revisions work together

Every client revision works with every upstream revision. This page is written by the test that ran it
(`python -m tests.matrix`), and the suite fails where page and run differ.

What runs: a client of exactly one revision, a whole gateway, an upstream of exactly one revision. Both ends check each
message they receive against the JSON Schema of their own revision, and for members that only another revision gives a
meaning to. The ways in are the application itself for the two HTTP transports and two pipes for standard input and
output; the ways out are loopback sockets and real processes. Streamable HTTP came with 2025-03-26; clients and servers
that negotiate 2024-11-05 use it all the same, and so it is run with that revision too.

Each cell works, or cannot exist for the reason its letter stands for. Where a client cannot be asked, the run also sees
to it that the call ends with an error that names what is missing.

"""


def _letters() -> dict[str, str]:
    """Each reason and its letter, in the order the cells give them."""
    reasons = dict.fromkeys(why for cell in all_cells() if (why := reason(cell)))
    return {why: "abcdefgh"[number] for number, why in enumerate(reasons)}


def section(found: Mapping[Cell, str]) -> str:
    """The section of the cells of one upstream and one transport behind it."""
    letters = {f"cannot exist: {why}": letter for why, letter in _letters().items()}
    first = next(iter(found))
    lines = [
        f"## Upstream {first.upstream}, reached by {first.back}",
        "",
        f"| client | reaches us by | {' | '.join(FEATURES)} |",
        "|" + " --- |" * (len(FEATURES) + 2),
    ]
    for (client, front), cells in groupby(found, key=lambda cell: (cell.client, cell.front)):
        marks = [letters.get(found[cell], found[cell].partition("\n")[0]) for cell in cells]
        lines.append(f"| {client} | {front} | {' | '.join(marks)} |")
    return "\n".join([*lines, "", ""])


def expected_of(upstream: str, back: str) -> dict[Cell, str]:
    """What has to be found of one upstream and one transport behind it."""
    cells = (cell for cell in all_cells() if (cell.upstream, cell.back) == (upstream, back))
    return {cell: expected(cell) for cell in cells}


def page(groups: Iterable[Mapping[Cell, str]]) -> str:
    """The whole page."""
    groups = list(groups)
    found = [text for group in groups for text in group.values()]
    works = found.count(WORKS)
    legend = [f"- **{letter}**: {why}" for why, letter in _letters().items()]
    count = f"{len(found):,} cells: {works:,} work, {len(found) - works:,} cannot exist."
    return (
        HEAD
        + "\n".join([count, "", *legend, "", ""])
        + "\n".join(map(section, groups)).rstrip()
        + "\n"
    )


GROUPS = [(upstream, back) for upstream in REVISIONS for back in TRANSPORTS]
