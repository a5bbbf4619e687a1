"""The official suite through the gateway: both revisions against every upstream of one era.

Each cell is the gateway with one upstream, the era-adaptive fixture restricted to one era in a process of its
own. What the upstream wrote down shows that only that era was spoken to it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.cells import CELLS, Cell, Running, running
from tests.conformance.era_clients import ModernClient
from tests.conformance.full_coverage import NOT_SCORED, REASONS, REQUIRED
from tests.conformance.official_suite import SuiteRun, run_suite
from tests.conformance.suite_cases import (
    MARKS,
    PROMISED,
    SuiteRuns,
    require_full_pass,
    require_whole_set,
    scenarios_of,
)
from tests.support.source_tree import ROOT

pytestmark = MARKS

_NEVER_CLOSES = (
    "INFO: no stream is closed in mid-call, which the scenario allows. Only a legacy upstream over Streamable "
    "HTTP can close one; a line has no streams, and the modern era cannot resume them."
)
NO_POLLING: Mapping[tuple[str, str], str] = {
    **REASONS,
    ("server-sse-polling", "server-sse-disconnect-resume"): _NEVER_CLOSES,
}
"""The reasons that hold where the upstream cannot close the stream of a call."""


def start_processes(url: str) -> None:
    """Have the processes started whose first answers the suite times, in hundreds of milliseconds.

    A legacy upstream on stdio gets a process for each class of capabilities, and `server-stateless` looks at
    the first frames of two of them: how long Python takes to start is not what it asks.
    """
    classes: tuple[dict[str, Any], ...] = ({}, {"elicitation": {}})
    for capabilities in classes:
        ModernClient(url, capabilities).request("tools/list")


class Cells:
    """Every cell, started when it is first wanted, with its two runs of the suite."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._runs = SuiteRuns()
        self._running: dict[Cell, Running] = {}

    def run(self, cell: Cell, revision: str) -> SuiteRun:
        """The run of a revision in a cell; both revisions meet the same processes."""

        def make() -> SuiteRun:
            url = self.start(cell).url
            if cell == Cell("legacy", "stdio") and revision == "2026-07-28":
                start_processes(url)
            return run_suite(url, revision, self._folder / cell.name)

        return self._runs.get(cell.name, revision, make)

    def start(self, cell: Cell) -> Running:
        """The cell, running."""
        if cell not in self._running:
            started = running(cell, self._folder / cell.name)
            self._running[cell] = self._stack.enter_context(started)
        return self._running[cell]


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cells]:
    with contextlib.ExitStack() as stack:
        yield Cells(tmp_path_factory.mktemp("matrix"), stack)


each_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)


@pytest.mark.parametrize(("revision", "scenario"), scenarios_of(REQUIRED))
@each_cell
def test_a_required_scenario_passes_with_all_its_checks(
    cells: Cells, cell: Cell, revision: str, scenario: str
) -> None:
    require_full_pass(cells.run(cell, revision), scenario, REQUIRED[revision][scenario])


@pytest.mark.parametrize(("revision", "scenario"), scenarios_of(NOT_SCORED))
@each_cell
def test_a_scenario_that_is_not_scored_passes_as_far_as_the_upstream_can(
    cells: Cells, cell: Cell, revision: str, scenario: str
) -> None:
    passed, reasons = NOT_SCORED[revision][scenario], REASONS
    if scenario == "server-sse-polling" and cell != Cell("legacy", "http"):
        passed, reasons = passed - 1, NO_POLLING
    require_full_pass(cells.run(cell, revision), scenario, passed, reasons)


@pytest.mark.parametrize("revision", PROMISED)
@each_cell
def test_the_whole_requirement_set_is_covered(cells: Cells, cell: Cell, revision: str) -> None:
    require_whole_set(cells.run(cell, revision), revision)


@each_cell
def test_the_upstream_saw_nothing_of_the_other_era_but_the_question_whether_it_has_it(
    cells: Cells, cell: Cell
) -> None:
    for revision in PROMISED:
        cells.run(cell, revision)
    started = cells.start(cell)
    other, question = (
        ("modern", "server/discover") if cell.upstream == "legacy" else ("legacy", "initialize")
    )
    assert started.count(other) == {question: 1}
    refused = [one for one in started.seen() if one.refused]
    assert [(one.era, one.method) for one in refused] == [(other, question)]
    spoken = started.count(cell.upstream)
    assert spoken["tools/call"] >= 40
    assert spoken["prompts/get"] >= 9
    assert spoken["resources/read"] >= 8


TRANSPORTS = {"http": "Streamable HTTP", "sse": "HTTP+SSE", "stdio": "stdio"}


def test_the_documented_table_has_every_cell_and_no_other() -> None:
    told = {
        revision: f"{scenarios} of {scenarios} scenarios, {checks} checks"
        for revision, (scenarios, checks) in PROMISED.items()
    }
    row = f"| {told['2025-11-25']} | {told['2026-07-28']} |"
    page = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    section = page.partition("## Through the gateway")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith(("| legacy,", "| modern,"))]
    expected = [f"| {cell.upstream}, {TRANSPORTS[cell.transport]} {row}" for cell in CELLS]
    assert sorted(rows) == sorted(expected)
