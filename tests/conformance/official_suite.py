"""Runs the official conformance suite against an address and reads what it recorded.

Knows the suite's command line, its requirement files and its `checks.json`. Refuses to judge: a run is
data, the tests say what must hold. One run executes a revision's whole requirement set, the scenarios
that are not scored included.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.peers.paths import CONFORMANCE, NODE, require_peers

_RUN_WITHIN_S = 100.0
_SCENARIO_WITHIN_MS = 30_000
_FOLDER = re.compile(r"^server-(?P<scenario>.+)-\d{4}-\d\d-\d\dT[\d-]+Z$")
_DETAILS_SHOWN = 1500


@dataclass(frozen=True)
class Check:
    """One thing the suite looked at. `status` is SUCCESS, FAILURE, WARNING, SKIPPED or INFO."""

    scenario: str
    id: str
    status: str
    raw: Mapping[str, Any]

    def __str__(self) -> str:
        reason = self.raw.get("errorMessage") or self.raw.get("description", "")
        details = json.dumps(self.raw.get("details", {}), ensure_ascii=False)
        return (
            f"{self.status} {self.scenario} / {self.id}: {reason}\n    {details[:_DETAILS_SHOWN]}"
        )


@dataclass(frozen=True)
class Requirements:
    """What a revision's frozen set names: scenarios that count, and scenarios that only run."""

    required: tuple[str, ...]
    not_scored: Mapping[str, str]


@dataclass(frozen=True)
class SuiteRun:
    """What one run recorded: scenario → its checks in order; `output` is what it printed."""

    revision: str
    scenarios: Mapping[str, tuple[Check, ...]]
    exit_code: int
    output: str
    seconds: float

    def checks(self, scenarios: Iterable[str]) -> list[Check]:
        """All checks of these scenarios."""
        return [check for name in scenarios for check in self.scenarios.get(name, ())]

    def count(self, scenarios: Iterable[str]) -> Counter[str]:
        """How many checks of these scenarios ended in which status."""
        return Counter(check.status for check in self.checks(scenarios))


def read_requirements(revision: str) -> Requirements:
    """The server part of the set that the pinned suite ships for `revision`."""
    require_peers()
    text = (CONFORMANCE / "requirements" / f"{revision}.yaml").read_text(encoding="utf-8")
    whole = YAML(typ="safe").load(text)
    only_run = {
        entry["scenario"]: str(entry["reason"])
        for entry in whole["not_scored"]
        if entry["leg"] == "server"
    }
    return Requirements(tuple(whole["server"]), only_run)


def run_suite(url: str, revision: str, folder: Path) -> SuiteRun:
    """Run the whole requirement set of `revision` against the MCP endpoint `url`.

    Raises:
        subprocess.TimeoutExpired: it did not end in time.
    """
    require_peers()
    results = folder / revision
    command = [str(NODE), str(CONFORMANCE / "dist" / "index.js"), "server", "--url", url]
    options = ["--requirements", revision, "-o", str(results)]
    started = time.monotonic()
    done = subprocess.run(
        [*command, *options, "--timeout", str(_SCENARIO_WITHIN_MS)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=_RUN_WITHIN_S,
        check=False,
    )
    seconds = time.monotonic() - started
    return SuiteRun(revision, _read_checks(results), done.returncode, done.stdout, seconds)


def run_scenario(url: str, revision: str, scenario: str, folder: Path) -> tuple[Check, ...]:
    """Run one scenario, whether `revision` has it or not (extensions stand on no revision's list).

    Raises:
        subprocess.TimeoutExpired: it did not end in time.
    """
    require_peers()
    command = [str(NODE), str(CONFORMANCE / "dist" / "index.js"), "server", "--url", url, "--force"]
    options = ["--scenario", scenario, "--spec-version", revision, "-o", str(folder)]
    done = subprocess.run(
        [*command, *options, "--timeout", str(_SCENARIO_WITHIN_MS)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=_RUN_WITHIN_S,
        check=False,
    )
    checks = _read_checks(folder).get(scenario)
    assert checks is not None, f"{scenario} did not run\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return checks


def _read_checks(results: Path) -> dict[str, tuple[Check, ...]]:
    scenarios: dict[str, tuple[Check, ...]] = {}
    for file in sorted(results.glob("*/checks.json")):
        match = _FOLDER.match(file.parent.name)
        assert match, f"the suite names its folders differently now: {file.parent.name}"
        name = match["scenario"]
        scenarios[name] = tuple(
            Check(name, entry["id"], entry["status"], entry)
            for entry in json.loads(file.read_text(encoding="utf-8"))
        )
    return scenarios
