"""The official suite's scenarios of the tasks extension, against an upstream that has tasks and through the gateway.

No revision scores them: they are for whoever has the extension, as the gateway has where an upstream does. The
upstream is tests/peers/modern_tasks.py, on the official SDK. What passes there passes through the gateway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.full_coverage import TASKS
from tests.conformance.official_suite import Check, read_requirements, run_scenario
from tests.integration.gateway_process import serving
from tests.integration.test_tasks import server

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]

REVISION = "2026-07-28"
SKIPPED_BY_THE_SUITE = {"tasks-status-notifications"}
DIRECTLY_FAILING: Mapping[str, str] = {
    "sep-2663-server-rejects-mismatched-mcp-name-on-tasks-get": (
        "the SDK's server does not compare `Mcp-Name` with the parameters of an extension's methods"
    )
}
"""Check → why the upstream itself fails it."""

Checks = Callable[[str], tuple[Check, ...]]


@dataclass(frozen=True)
class Addresses:
    """The upstream by itself, and the gateway before it."""

    upstream: str
    gateway: str


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    folder = tmp_path_factory.mktemp("tasks")
    with server("jobs") as port:
        url = f"http://127.0.0.1:{port}/mcp"
        document = {"version": 1, "auth": {"mode": "none"}, "upstreams": {"jobs": {"url": url}}}
        with serving(folder, document, key=None) as gateway:
            yield Addresses(url, gateway.url)


def test_every_scenario_about_tasks_is_in_the_table() -> None:
    known = {name for name in read_requirements(REVISION).not_scored if name.startswith("tasks-")}
    assert known == set(TASKS) | SKIPPED_BY_THE_SUITE
    assert sum(TASKS.values()) == 44


@pytest.mark.parametrize("scenario", TASKS)
def test_a_scenario_passes_through_the_gateway_with_all_its_checks(
    addresses: Addresses, scenario: str, tmp_path: Path
) -> None:
    checks = run_scenario(addresses.gateway, REVISION, scenario, tmp_path)
    bad = [str(check) for check in checks if check.status != "SUCCESS"]
    assert not bad, "\n".join(bad)
    assert len(checks) == TASKS[scenario]


@pytest.mark.parametrize("scenario", TASKS)
def test_the_upstream_by_itself_passes_no_more(
    addresses: Addresses, scenario: str, tmp_path: Path
) -> None:
    """Else a failure through the gateway could be the fixture's, and a pass could mean nothing."""
    checks = run_scenario(addresses.upstream, REVISION, scenario, tmp_path)
    bad = {check.id for check in checks if check.status != "SUCCESS"}
    assert bad <= set(DIRECTLY_FAILING)
    assert len(checks) == TASKS[scenario]
