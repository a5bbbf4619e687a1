"""The names of the package's root: loaded late, and still there for programs, type checkers and people."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import waygate_mcp
from tests.support.source_tree import ROOT

SOURCE = ROOT / "src" / "waygate_mcp" / "__init__.py"
PUBLIC = [name for name in waygate_mcp.__all__ if name != "__version__"]


def fresh(script: str) -> str:
    """What a script prints in an interpreter that has loaded nothing."""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def declared() -> dict[str, str]:
    """What a type checker reads: name → module it is imported from."""
    found = {}
    for node in ast.parse(SOURCE.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for one in node.body:
                assert isinstance(one, ast.ImportFrom)
                found.update({alias.name: str(one.module) for alias in one.names})
    return found


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_what_a_type_checker_takes_it_for(name: str) -> None:
    home = importlib.import_module(declared()[name])
    assert getattr(waygate_mcp, name) is getattr(home, name)
    assert name in dir(waygate_mcp)


def test_what_is_public_is_declared_and_nothing_else() -> None:
    assert sorted(declared()) == sorted(PUBLIC)
    assert vars(waygate_mcp)["_HOMES"] == declared()


def test_importing_the_root_loads_nothing_but_the_root() -> None:
    heavy = ("pydantic", "fastapi", "msgspec", "structlog", "asyncio", "jsonschema_rs")
    script = (
        "import sys, waygate_mcp; waygate_mcp.__version__; dir(waygate_mcp)\n"
        f"print(*(name for name in {heavy} if name in sys.modules))\n"
        "print(*(name for name in sys.modules if name.startswith('waygate_mcp.')))"
    )
    assert fresh(script).split() == []


def test_a_name_is_loaded_with_its_own_module_and_kept() -> None:
    script = (
        "import sys, waygate_mcp\n"
        "from waygate_mcp import UnknownNameError\n"
        "assert 'UnknownNameError' in vars(waygate_mcp)\n"
        "print(*(name for name in sys.modules if name.startswith('waygate_mcp.')))"
    )
    assert fresh(script).split() == ["waygate_mcp.errors"]


def test_a_star_import_brings_every_name() -> None:
    script = "from waygate_mcp import *\nimport waygate_mcp\nprint(*set(waygate_mcp.__all__) - set(globals()))"
    assert fresh(script).split() == []


def test_a_module_of_the_house_can_still_be_imported_from_the_root() -> None:
    assert fresh("from waygate_mcp import errors; print(errors.__name__)") == "waygate_mcp.errors\n"


def test_a_name_nobody_knows_is_refused_as_ever() -> None:
    with pytest.raises(AttributeError, match="module 'waygate_mcp' has no attribute 'Tolbox'"):
        _ = vars(waygate_mcp)["__getattr__"]("Tolbox")
    assert "ImportError" in fresh(
        "try:\n    from waygate_mcp import Tolbox\nexcept ImportError as e: print(type(e).__name__)"
    )


def test_a_type_checker_knows_the_names_and_no_others(tmp_path: Path) -> None:
    script = "\n".join(
        [
            "from waygate_mcp import *",
            "from waygate_mcp import Context, Tolbox",
            "reveal_type(Toolbox().tool)",
            "reveal_type(Context.elicit)",
        ]
    )
    (tmp_path / "plugin.py").write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", str(tmp_path / "plugin.py")],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    (error,) = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert 'plugin.py:2: error: Module "waygate_mcp" has no attribute "Tolbox"' in error
    revealed = [line for line in done.stdout.splitlines() if "Revealed type" in line]
    assert len(revealed) == 2
    assert "Any" not in revealed[0].partition("def")[0]
