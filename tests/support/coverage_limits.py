"""The least coverage each package must have, as a pytest plugin behind `--coverage-limits`.

Knows the limits of `pyproject.toml` (`tool.waygate.coverage-limits`) and how to ask coverage.py for a package's share
of lines and branches. A package below its limit becomes an error of the run, so that pytest's last line says so.
Measures nothing itself, `--cov` does; `Measuring` says for which tests.
"""

from __future__ import annotations

import io
import tomllib
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import coverage
import pytest

ROOT = Path(__file__).parents[2]


class Measuring:
    """Stops the coverage of this process, and goes on with it; nothing where none is measured.

    To be switched seldom: a thread that lives through it keeps its trace function, which undoes itself later, at
    a moment when another thread may be doing the same.
    """

    def __init__(self) -> None:
        self._stopped: coverage.Coverage | None = None

    def switch(self, on: bool) -> None:
        """Measure from here on, or no longer."""
        if on and self._stopped is not None:
            self._stopped.start()
            self._stopped = None
        elif not on and self._stopped is None and (running := coverage.Coverage.current()):
            running.stop()
            self._stopped = running


@dataclass(frozen=True)
class Shortfall:
    """A package below its limit; `detail` is coverage's own table of the lines missed."""

    package: str
    percent: float
    limit: float
    detail: str

    def __str__(self) -> str:
        head = f"{self.package}: {self.percent:.2f} % covered, limit {self.limit:g} %"
        return f"{head}\n{self.detail}"


def limits(pyproject: Path = ROOT / "pyproject.toml") -> dict[str, float]:
    """Package name to least per cent."""
    table = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    return {
        name: float(limit) for name, limit in table["tool"]["waygate"]["coverage-limits"].items()
    }


def measure(measured: coverage.Coverage, package: str) -> tuple[float, str]:
    """Per cent of lines and branches of `package` that ran, and the table of what did not; 0 if it never ran."""
    table = io.StringIO()
    folder = package.replace(".", "/")
    try:
        percent = measured.report(include=[f"*/{folder}/*", f"*/{folder}.py"], file=table)
    except coverage.exceptions.NoDataError:
        return 0.0, "nothing of it was measured"
    return percent, table.getvalue()


def shortfalls(measured: coverage.Coverage, least: Mapping[str, float]) -> list[Shortfall]:
    """Every package of `least` that is below its limit."""
    found = []
    for package, limit in least.items():
        percent, detail = measure(measured, package)
        if percent < limit:
            found.append(Shortfall(package, percent, limit, detail))
    return found


class CoverageLimits:
    """Reports each shortfall after the last test, once all measurements are combined."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Look after pytest-cov's own wrapper, which stands inside this one, has combined the data."""
        result = yield
        measured = coverage.Coverage(
            data_file=str(ROOT / ".coverage"), config_file=str(ROOT / "pyproject.toml")
        )
        measured.load()
        least = limits()
        for shortfall in shortfalls(measured, least):
            session.config.hook.pytest_runtest_logreport(
                report=pytest.TestReport(
                    nodeid=f"coverage of {shortfall.package}",
                    location=("pyproject.toml", None, f"coverage of {shortfall.package}"),
                    keywords={},
                    outcome="failed",
                    longrepr=str(shortfall),
                    when="teardown",
                )
            )
        for package, limit in least.items():
            self.lines.append(
                f"{package}: {measure(measured, package)[0]:.2f} % (limit {limit:g} %)"
            )
        return result

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what was measured, well or not."""
        terminalreporter.section("coverage of lines and branches")
        for line in self.lines:
            terminalreporter.line(line)
