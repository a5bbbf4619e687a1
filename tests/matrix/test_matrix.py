"""Five client revisions, five upstream revisions, three transports on each side, fourteen features: protocol.md 11."""

from __future__ import annotations

import pytest

from tests.matrix.cells import FEATURES, TRANSPORTS, all_cells, expected, is_refused, reason
from tests.matrix.features import FEATURE_RUNS
from tests.matrix.page import GROUPS, PAGE, expected_of, page, section
from tests.matrix.running import run_group
from tests.support.strict_wire import REVISIONS


@pytest.mark.parametrize(("upstream", "back"), GROUPS)
async def test_every_client_works_with_every_upstream_as_the_page_says(
    upstream: str, back: str
) -> None:
    group = await run_group(upstream, back)
    table = section(group.found)
    print(table)
    assert group.broken == []
    assert f"{table.rstrip()}\n" in PAGE.read_text(encoding="utf-8")
    assert group.refused == sum(is_refused(cell) for cell in group.found)


def test_the_page_holds_every_cell_and_nothing_else() -> None:
    """Written anew by `python -m tests.matrix`."""
    assert PAGE.read_text(encoding="utf-8") == page(expected_of(*group) for group in GROUPS)


def test_the_cells_are_all_there_are() -> None:
    cells = list(all_cells())
    assert len(cells) == len(set(cells)) == 5 * 5 * 3 * 3 * 14
    assert set(FEATURES) == set(FEATURE_RUNS)
    assert {(cell.upstream, cell.back) for cell in cells} == set(GROUPS)
    assert {cell.client for cell in cells} == set(REVISIONS)
    assert {cell.front for cell in cells} == set(TRANSPORTS)


def test_no_cell_is_left_out_without_need() -> None:
    """A reason is about the one transport a revision lacks, or about questions older revisions lack."""
    for cell in all_cells():
        lacks_transport = ("2026-07-28", "HTTP+SSE") in (
            (cell.client, cell.front), (cell.upstream, cell.back),
        )  # fmt: skip
        oldest = min(cell.client, cell.upstream)
        lacks_question = (cell.feature == "two-round question" and oldest < "2025-06-18") or (
            cell.feature == "url question" and oldest < "2025-11-25"
        )
        assert bool(reason(cell)) == (lacks_transport or lacks_question), cell
        assert expected(cell) == (f"cannot exist: {reason(cell)}" if reason(cell) else "works")
