"""What the project declares agrees with its code: dependencies with imports, `.env.example` with the settings."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import packages_distributions

from tests.support.source_tree import ROOT, Module, modules
from waygate_mcp.config.settings import PREFIX, Settings


def declared() -> set[str]:
    """Distributions that the package depends on, by normal name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {normal(re.split(r"[^A-Za-z0-9._-]", line)[0]) for line in project["dependencies"]}


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def undeclared(found: list[Module], known: set[str]) -> list[str]:
    """Imports of libraries that only happen to be installed because another library wants them."""
    makers = packages_distributions()
    wrong = []
    for module in found:
        for name, line in module.imports():
            library = name.partition(".")[0]
            if library in sys.stdlib_module_names or library == "waygate_mcp":
                continue
            if not {normal(maker) for maker in makers.get(library, [])} & known:
                wrong.append(
                    f"{module.name}:{line} imports {library}, which pyproject.toml does not name"
                )
    return wrong


def test_every_library_imported_is_a_declared_dependency() -> None:
    assert not undeclared(modules(), declared())


def test_an_undeclared_library_is_found() -> None:
    assert undeclared([Module("waygate_mcp.x", "import multidict")], declared())
    assert not undeclared([Module("waygate_mcp.x", "import msgspec, json")], declared())


def test_the_example_of_settings_names_every_setting_and_no_other() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    named = re.findall(rf"^#?({PREFIX}[A-Z_]+)=", example, re.MULTILINE)
    assert sorted(named) == sorted(PREFIX + field.upper() for field in Settings.model_fields)


def test_the_example_of_settings_changes_nothing() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    active = [line for line in example.splitlines() if line and not line.startswith("#")]
    assert active == []


def test_there_are_few_settings() -> None:
    assert len(Settings.model_fields) < 25
