"""The official conformance suite against our server, every scenario a test of its own.

`SERVERS` says how each server under test is started. `WAYGATE_CONFORMANCE_URL` runs the same tests against a
server that already listens, which is how this harness itself is checked against a reference. The fixture
behind the gateway is in `test_matrix_*.py`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.conformance.full_coverage import NOT_SCORED, REQUIRED
from tests.conformance.official_suite import SuiteRun
from tests.conformance.suite_cases import (
    MARKS,
    PROMISED,
    Start,
    SuiteRuns,
    require_full_pass,
    require_whole_set,
    run_against,
    scenarios_of,
)
from tests.integration.gateway_process import EVERYTHING, serving

pytestmark = MARKS

OPEN: Mapping[str, object] = {**EVERYTHING, "auth": {"mode": "none"}}
"""The suite sends no Authorization header, so keys are off (which needs loopback)."""


@contextlib.contextmanager
def local_plugin(folder: Path) -> Iterator[str]:
    """The gateway with the fixture as a Python plugin."""
    with serving(folder, OPEN, key=None) as gateway:
        yield gateway.url


@contextlib.contextmanager
def two_workers(folder: Path) -> Iterator[str]:
    """The same by two processes; the suite keeps connections, and has no say in which of them takes one.

    The tool a scenario adds is in the one worker's plugin that was asked to, so the list leaves it out.
    """
    document = {**OPEN, "endpoints": {"default": {"tools": {"deny": ["test_dynamic_tool"]}}}}
    with serving(folder, document, key=None, arguments=("--workers", "2")) as gateway:
        yield gateway.url


OUTSIDE = os.environ.get("WAYGATE_CONFORMANCE_URL", "")  # read now: tests see a cleaned environment

SERVERS: Mapping[str, Start] = (
    {"outside": lambda _folder: contextlib.nullcontext(OUTSIDE)}
    if OUTSIDE
    else {"local_plugin": local_plugin, "two_workers": two_workers}
)

Runs = Callable[[str, str], SuiteRun]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The suite's run for a server and a revision, each with a fresh server."""
    made = SuiteRuns()

    def run(server: str, revision: str) -> SuiteRun:
        def make() -> SuiteRun:
            folder = tmp_path_factory.mktemp(f"{server}-{revision}")
            return run_against(SERVERS[server], revision, folder)

        return made.get(server, revision, make)

    return run


@pytest.mark.parametrize(("revision", "scenario"), scenarios_of(REQUIRED))
@pytest.mark.parametrize("server", SERVERS)
def test_a_required_scenario_passes_with_all_its_checks(
    runs: Runs, server: str, revision: str, scenario: str
) -> None:
    require_full_pass(runs(server, revision), scenario, REQUIRED[revision][scenario])


@pytest.mark.parametrize(("revision", "scenario"), scenarios_of(NOT_SCORED))
@pytest.mark.parametrize("server", SERVERS)
def test_a_scenario_that_is_not_scored_passes_all_the_same(
    runs: Runs, server: str, revision: str, scenario: str
) -> None:
    require_full_pass(runs(server, revision), scenario, NOT_SCORED[revision][scenario])


@pytest.mark.parametrize("revision", PROMISED)
@pytest.mark.parametrize("server", SERVERS)
def test_the_whole_requirement_set_is_covered(runs: Runs, server: str, revision: str) -> None:
    require_whole_set(runs(server, revision), revision)


def test_the_table_of_full_coverage_adds_up() -> None:
    """The figures of the tables are the ones the project promises: 70 and 120 checks."""
    assert {
        revision: (len(table), sum(table.values())) for revision, table in REQUIRED.items()
    } == PROMISED
