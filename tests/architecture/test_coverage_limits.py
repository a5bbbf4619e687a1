"""The plugin behind `--coverage-limits` sees a package below its limit, and one that never ran."""

from __future__ import annotations

import sys
from pathlib import Path

import coverage
import pytest

from tests.support import coverage_limits


@pytest.fixture
def measured(tmp_path: Path) -> coverage.Coverage:
    """What coverage.py knows of a package whose one module ran by half: three lines of four, one branch of two."""
    package = tmp_path / "sample"
    package.mkdir()
    module = package / "half.py"
    module.write_text("def f(x):\n    if x:\n        return 1\n    return 2\n", encoding="utf-8")
    data_file = tmp_path / ".coverage"
    data = coverage.CoverageData(basename=str(data_file))
    data.add_arcs({str(module): [(-1, 1), (1, -1), (-1, 2), (2, 3), (3, -1)]})
    data.write()
    found = coverage.Coverage(data_file=str(data_file), branch=True, config_file=False)
    found.load()
    return found


def test_a_package_below_its_limit_is_reported_with_the_lines_missed(
    measured: coverage.Coverage,
) -> None:
    (shortfall,) = coverage_limits.shortfalls(measured, {"sample": 90})
    assert shortfall.package == "sample"
    assert shortfall.percent == pytest.approx(100 * 4 / 6)
    assert "half.py" in str(shortfall)


def test_a_package_at_its_limit_passes(measured: coverage.Coverage) -> None:
    assert coverage_limits.shortfalls(measured, {"sample": 66}) == []


def test_a_package_that_never_ran_counts_as_nought(measured: coverage.Coverage) -> None:
    (shortfall,) = coverage_limits.shortfalls(measured, {"absent": 1})
    assert shortfall.percent == 0


def test_the_limits_are_those_the_project_promises() -> None:
    assert coverage_limits.limits()["waygate_mcp"] >= 90
    assert coverage_limits.limits()["waygate_mcp.protocol"] == 100


def test_a_shortfall_is_an_error_of_the_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        conftest="""
        from tests.support import coverage_limits
        coverage_limits.ROOT = __import__("pathlib").Path.cwd()
        coverage_limits.limits = lambda: {"sample": 100}
        def pytest_configure(config):
            config.pluginmanager.register(coverage_limits.CoverageLimits())
        """,
        sample="def f(x):\n    return 1 if x else 2\ndef g():\n    return 3\n",
        test_it="import sample\ndef test_f():\n    assert sample.f(1) == 1\n",
    )
    pytester.makepyprojecttoml("[tool.coverage.run]\nbranch = true\n")
    root = str(coverage_limits.ROOT)
    result = pytester.run(
        sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r}); import pytest; sys.exit(pytest.main())",
        "--cov=sample", "--cov-report=", timeout=60,
    )  # fmt: skip
    result.stdout.fnmatch_lines(["*sample: * (limit 100 %)*", "*1 passed, 1 error*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
