"""What every test of the official suite asks of a run, whatever server it was against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.conformance.full_coverage import REASONS, REQUIRED
from tests.conformance.official_suite import SuiteRun, read_requirements, run_suite

Start = Callable[[Path], AbstractContextManager[str]]
"""Starts a server in an empty folder; the context's value is the address of its MCP endpoint."""

PROMISED = {"2025-11-25": (30, 70), "2026-07-28": (37, 120)}
"""Revision → required scenarios and the checks in them, all of which pass."""


class SuiteRuns:
    """The suite's runs, each made once. A failure is told by the first test that wants its run."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], SuiteRun | Exception] = {}
        self._told: set[Exception] = set()

    def get(self, server: str, revision: str, make: Callable[[], SuiteRun]) -> SuiteRun:
        """Give the run of a revision against a server, made by `make` at the first time."""
        key = (server, revision)
        if key not in self._made:
            try:
                self._made[key] = make()
            except Exception as failed:  # noqa: BLE001 - every scenario's test shall tell it
                self._made[key] = failed
        match self._made[key]:
            case SuiteRun() as result:
                return result
            case failure if failure in self._told:
                raise AssertionError("no run; the first test of this server tells why") from None
            case failure:
                self._told.add(failure)
                raise AssertionError(f"no run of {revision} against {server}") from failure


def run_against(start: Start, revision: str, folder: Path) -> SuiteRun:
    """Run the suite against a server that is started for it."""
    with start(folder / "server") as url:
        return run_suite(url, revision, folder)


def scenarios_of(table: Mapping[str, Mapping[str, int]]) -> list[tuple[str, str]]:
    """Revision × scenario."""
    return [(revision, scenario) for revision, names in table.items() for scenario in names]


def require_full_pass(
    run: SuiteRun,
    scenario: str,
    passed: int,
    reasons: Mapping[tuple[str, str], str] = REASONS,
) -> None:
    """Every check passed, or is INFO for a written reason, and none is missing."""
    __tracebackhide__ = True
    checks = run.scenarios.get(scenario)
    assert checks is not None, f"{scenario} did not run\n{run.output[-3000:]}"
    bad = [
        check
        for check in checks
        if check.status != "SUCCESS"
        and not (check.status == "INFO" and (scenario, check.id) in reasons)
    ]
    assert not bad, "\n".join(str(check) for check in bad)
    good = [check.id for check in checks if check.status == "SUCCESS"]
    assert len(good) == passed, (
        f"{scenario} passed {len(good)} checks, {passed} are there to pass; passed: {good}; "
        f"recorded: {[str(check) for check in checks if check.status != 'SUCCESS']}"
    )


def require_whole_set(run: SuiteRun, revision: str) -> None:
    """All the revision requires passed, with as many checks as there are."""
    __tracebackhide__ = True
    scenarios, checks = PROMISED[revision]
    required = read_requirements(revision).required
    assert set(required) == set(REQUIRED[revision]), "the suite's own list has changed"
    assert len(required) == scenarios
    count = run.count(required)
    seen = {status: count[status] for status in ("SUCCESS", "FAILURE", "WARNING", "SKIPPED")}
    assert seen == {"SUCCESS": checks, "FAILURE": 0, "WARNING": 0, "SKIPPED": 0}, "\n".join(
        str(check) for check in run.checks(required) if check.status != "SUCCESS"
    )
    assert run.exit_code == 0, run.output[-3000:]


MARKS = [pytest.mark.peers, pytest.mark.timeout(180)]
