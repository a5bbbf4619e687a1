"""structlog is loaded without rich, and rich stays loadable."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from waygate_mcp.telemetry import plain_structlog
from waygate_mcp.telemetry.plain_structlog import hidden


def test_a_hidden_module_cannot_be_imported_meanwhile_and_can_afterwards() -> None:
    sys.modules.pop("colorsys", None)
    with hidden("colorsys"), pytest.raises(ImportError):
        importlib.import_module("colorsys")
    assert importlib.import_module("colorsys").__name__ == "colorsys"


def test_a_module_that_is_loaded_already_is_left_alone() -> None:
    with hidden("json"):
        assert importlib.import_module("json") is sys.modules["json"]
    assert "json" in sys.modules


def test_structlog_loads_without_rich_and_rich_stays_loadable() -> None:
    # In a process of its own, and without the package around the module: here all is loaded already.
    script = (
        "import runpy, sys\n"
        "runpy.run_path(sys.argv[1])\n"
        "assert 'structlog' in sys.modules\n"
        "assert not [name for name in sys.modules if name.partition('.')[0] == 'rich']\n"
        "import rich.table\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, plain_structlog.__file__],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
