"""The official conformance suite against our server, every scenario a test of its own.

`SERVERS` says how each server under test is started; a further way to serve the same fixture (an upstream
behind the gateway, say) is one more line there. `WAYGATE_CONFORMANCE_URL` runs the same tests against a
server that already listens, which is how this harness itself is checked against a reference.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.conformance.full_coverage import NOT_SCORED, REASONS, REQUIRED
from tests.conformance.official_suite import SuiteRun, read_requirements, run_suite
from tests.integration.gateway_process import EVERYTHING, serving

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]

Start = Callable[[Path], AbstractContextManager[str]]
"""Starts a server in an empty folder; the context's value is the address of its MCP endpoint."""

OPEN: Mapping[str, object] = {**EVERYTHING, "auth": {"mode": "none"}}
"""The suite sends no Authorization header, so keys are off (which needs loopback)."""


@contextlib.contextmanager
def local_plugin(folder: Path) -> Iterator[str]:
    """The gateway with the fixture as a Python plugin."""
    with serving(folder, OPEN, key=None) as gateway:
        yield gateway.url


@contextlib.contextmanager
def two_workers(folder: Path) -> Iterator[str]:
    """The same by two processes; the suite keeps connections, and has no say in which of them takes one."""
    with serving(folder, OPEN, key=None, arguments=("--workers", "2")) as gateway:
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
    """The suite's run for a server and a revision; each is made once, each with a fresh server."""
    made: dict[tuple[str, str], SuiteRun | Exception] = {}
    told: set[Exception] = set()

    def run(server: str, revision: str) -> SuiteRun:
        if (server, revision) not in made:
            folder = tmp_path_factory.mktemp(f"{server}-{revision}")
            try:
                with SERVERS[server](folder / "server") as url:
                    made[server, revision] = run_suite(url, revision, folder)
            except Exception as failed:  # noqa: BLE001 - every scenario's test shall tell it
                made[server, revision] = failed
        match made[server, revision]:
            case SuiteRun() as result:
                return result
            case failure if failure in told:
                raise AssertionError("no run; the first test of this server tells why") from None
            case failure:
                told.add(failure)
                raise AssertionError(f"no run of {revision} against {server}") from failure

    return run


def cases(table: Mapping[str, Mapping[str, int]]) -> list[tuple[str, str, str]]:
    """Server × revision × scenario."""
    return [
        (server, revision, scenario)
        for server in SERVERS
        for revision, scenarios in table.items()
        for scenario in scenarios
    ]


def require_full_pass(run: SuiteRun, scenario: str, passed: int) -> None:
    """Every check passed, or is INFO for a written reason, and none is missing."""
    __tracebackhide__ = True
    checks = run.scenarios.get(scenario)
    assert checks is not None, f"{scenario} did not run\n{run.output[-3000:]}"
    bad = [
        check
        for check in checks
        if check.status != "SUCCESS"
        and not (check.status == "INFO" and (scenario, check.id) in REASONS)
    ]
    assert not bad, "\n".join(str(check) for check in bad)
    good = [check.id for check in checks if check.status == "SUCCESS"]
    assert len(good) == passed, (
        f"{scenario} passed {len(good)} checks, {passed} are there to pass; passed: {good}; "
        f"recorded: {[str(check) for check in checks if check.status != 'SUCCESS']}"
    )


@pytest.mark.parametrize(("server", "revision", "scenario"), cases(REQUIRED))
def test_a_required_scenario_passes_with_all_its_checks(
    runs: Runs, server: str, revision: str, scenario: str
) -> None:
    require_full_pass(runs(server, revision), scenario, REQUIRED[revision][scenario])


@pytest.mark.parametrize(("server", "revision", "scenario"), cases(NOT_SCORED))
def test_a_scenario_that_is_not_scored_passes_all_the_same(
    runs: Runs, server: str, revision: str, scenario: str
) -> None:
    require_full_pass(runs(server, revision), scenario, NOT_SCORED[revision][scenario])


@pytest.mark.parametrize(
    ("revision", "scenarios", "checks"), [("2025-11-25", 30, 70), ("2026-07-28", 37, 120)]
)
@pytest.mark.parametrize("server", SERVERS)
def test_the_whole_requirement_set_is_covered(
    runs: Runs, server: str, revision: str, scenarios: int, checks: int
) -> None:
    required = read_requirements(revision).required
    run = runs(server, revision)
    assert set(required) == set(REQUIRED[revision]), "the suite's own list has changed"
    assert len(required) == scenarios
    count = run.count(required)
    assert (count["SUCCESS"], count["FAILURE"], count["WARNING"], count["SKIPPED"]) == (
        checks,
        0,
        0,
        0,
    ), "\n".join(str(check) for check in run.checks(required) if check.status != "SUCCESS")
    assert run.exit_code == 0, run.output[-3000:]


def test_the_table_of_full_coverage_adds_up() -> None:
    """The figures of the tables are the ones the project promises: 70 and 120 checks."""
    assert {revision: sum(table.values()) for revision, table in REQUIRED.items()} == {
        "2025-11-25": 70,
        "2026-07-28": 120,
    }
