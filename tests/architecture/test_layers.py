"""The import-linter contract of pyproject.toml can fail, and importing the package stays light."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.source_tree import ROOT

CONTRACT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "importlinter"
]
HEAVY = ("fastapi", "starlette", "sqlalchemy", "uvicorn", "aiohttp", "typer")


def lint(tmp_path: Path, files: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Judge a package of that name, made of `files`, by our own contract."""
    for name, text in {"__init__.py": "", **files}.items():
        path = tmp_path / "waygate_mcp" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for package in (tmp_path / "waygate_mcp").iterdir():
        if package.is_dir():
            (package / "__init__.py").touch()
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", command, "--no-cache", "--config", str(ROOT / "pyproject.toml")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


LAWFUL = {
    "errors.py": "",
    "protocol/ladder.py": "from waygate_mcp import errors",
    "model/call.py": "from waygate_mcp.protocol import ladder",
    "gateway/chain.py": "from waygate_mcp.model import call",
    "upstreams/pool.py": "from waygate_mcp.protocol import ladder",
    "auth/keys.py": "",
    "toolkit/toolbox.py": "",
    "plugins/api.py": "from waygate_mcp.toolkit import toolbox",
    "web/mcp.py": "from waygate_mcp.model import call",
}


def test_a_lawful_house_keeps_the_contract(tmp_path: Path) -> None:
    result = lint(tmp_path, LAWFUL)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    "offence",
    [
        {"protocol/x.py": "from waygate_mcp.model import call"},
        {"gateway/x.py": "from waygate_mcp.web import mcp"},
        {"gateway/x.py": "from waygate_mcp.toolkit import toolbox"},
        {"toolkit/x.py": "from waygate_mcp.plugins import api"},
        {"plugins/x.py": "from waygate_mcp.gateway import chain"},
        {"stdio.py": "from waygate_mcp.web import mcp"},
        {"cli/x.py": "from waygate_mcp import testing", "testing/__init__.py": ""},
        {"lounge/x.py": ""},
        {"lounge.py": ""},
    ],
    ids=[
        "upwards",
        "a room imports a door",
        "a room imports a room",
        "the toolkit imports plugins",
        "plugins import a room",
        "a door imports a door",
        "the command line imports the fakes",
        "a package without a place",
        "a file without a place",
    ],
)
def test_an_offence_breaks_the_contract(tmp_path: Path, offence: dict[str, str]) -> None:
    result = lint(tmp_path, {**LAWFUL, **offence})
    assert result.returncode != 0, result.stdout
    assert re.search(r"[1-9] broken", result.stdout), result.stdout


def test_the_contract_is_exhaustive() -> None:
    (layers,) = [c for c in CONTRACT["contracts"] if c["type"] == "layers"]
    assert layers["exhaustive"] is True
    assert layers["containers"] == ["waygate_mcp"]


def loaded_by(statement: str, names: tuple[str, ...]) -> list[str]:
    """Which of the modules a fresh interpreter has loaded after the statement."""
    script = f"{statement}\nimport sys\nprint(*(name for name in {names!r} if name in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    return result.stdout.split()


def test_importing_the_package_loads_no_web_framework_and_no_database_library() -> None:
    assert loaded_by("import waygate_mcp", HEAVY) == []


def test_a_heavy_import_is_seen() -> None:
    assert loaded_by("import fastapi", HEAVY) == ["fastapi", "starlette"]
