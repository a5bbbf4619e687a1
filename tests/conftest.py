"""Fixtures and options of the whole suite: no setting of the machine leaks in, unit tests open no sockets."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from tests.support.coverage_limits import CoverageLimits, Measuring

pytest_plugins = ["pytester"]

TESTS = Path(__file__).parent
QUICK = ("unit", "architecture")
MEASURED = ("unit", "contracts", "properties")
MEASURING = Measuring()

# How fast this machine is at the moment says nothing about the code; CI gets the same examples every time.
settings.register_profile(
    "house",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("house")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--coverage-limits",
        action="store_true",
        help="fail where a package is below its limit in pyproject.toml (needs --cov)",
    )


def pytest_configure(config: pytest.Config) -> None:
    is_worker = hasattr(config, "workerinput")
    if config.getoption("--coverage-limits") and not is_worker:
        config.pluginmanager.register(CoverageLimits(), "coverage-limits")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Eleven thousand tests stay until the end: no collection of garbage need walk through them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def _is_measured(item: pytest.Item) -> bool:
    return item.path.relative_to(TESTS).parts[0] in MEASURED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts programs comes first, so that the processes end together: by files of a second each.

    Coverage is measured where code is called directly. It slows Python down to two thirds, and whole gateways
    show one line in a hundred that the others have not shown.
    """
    items.sort(
        key=lambda item: (_is_measured(item), item.path.relative_to(TESTS).parts[0] in QUICK)
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Coverage starts once, before the first test that is measured: by the order above, none follows that is not."""
    MEASURING.switch(_is_measured(item))


def pytest_make_parametrize_id(val: object) -> str | None:
    """A key that is made anew in each process cannot name a test: parallel processes agree on the names of tests."""
    return "a-key" if isinstance(val, str) and val.startswith("wg_") and len(val) > 40 else None


@pytest.fixture(scope="session", autouse=True)
def _away_from_the_clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The clone may hold a `.env` and a `waygate.yaml` of the gateway somebody runs from it."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("cwd"))
    yield
    os.chdir(before)


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own gateway settings never change a result."""
    for name in [name for name in os.environ if name.startswith("WAYGATE_")]:
        if name != "WAYGATE_FUZZ_SECONDS":
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_sockets_in_unit_tests(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unit tests reach nothing outside their process (an event loop's own socket pair is not outside)."""
    if "unit" not in request.path.relative_to(request.config.rootpath).parts[:2]:
        return

    def refuse(*_: object, **__: object) -> NoReturn:
        pytest.fail("a unit test used a socket; it belongs to tests/integration")

    for name in ("connect", "connect_ex", "bind"):
        monkeypatch.setattr(socket.socket, name, refuse)
