"""`tests/unit` mirrors `src/waygate_mcp` file for file, and unit tests wait for nothing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support.source_tree import ROOT, Module, dotted_name, modules

UNIT = ROOT / "tests" / "unit"


def has_something_to_run(module: Module) -> bool:
    """Whether any function has a body: a module of data or of Protocols has nothing a unit test could run."""
    for function in module.functions():
        body = [
            statement
            for statement in function.body
            if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
            and not isinstance(statement, ast.Pass)
        ]
        if body:
            return True
    return False


def place_of_test(module: Module, is_package: bool) -> Path | None:
    """Where the module's unit test lies; None for a package's own file, which is a map and not code."""
    if is_package:
        return None
    folders = module.name.split(".")[1:]
    return Path(*folders[:-1], f"test_{folders[-1].removeprefix('_')}.py")


def missing_and_strays(
    found: list[Module], packages: set[str], tests: set[Path]
) -> tuple[set[Path], set[Path]]:
    """Tests that should be there, and tests whose module is gone."""
    wanted, allowed = set(), set()
    for module in found:
        place = place_of_test(module, module.name in packages)
        if place is None or module.name.endswith("__main__"):
            continue
        allowed.add(place)
        if has_something_to_run(module):
            wanted.add(place)
    return wanted - tests, tests - allowed


def test_every_module_with_something_to_run_has_its_test_and_every_test_its_module() -> None:
    found = modules()
    packages = {
        ".".join(path.parent.relative_to(ROOT / "src").parts)
        for path in (ROOT / "src").rglob("__init__.py")
    }
    tests = {path.relative_to(UNIT) for path in UNIT.rglob("test_*.py")}
    missing, strays = missing_and_strays(found, packages, tests)
    assert not missing, f"no unit test at {sorted(map(str, missing))}"
    assert not strays, f"no module for {sorted(map(str, strays))}"


def test_a_missing_test_and_a_stray_one_are_both_found() -> None:
    found = [
        Module("waygate_mcp.web", "def f(): return 1"),
        Module("waygate_mcp.web.app", "def f(): return 1"),
        Module("waygate_mcp.web.words", "WORDS = 1"),
    ]
    tests = {Path("web/test_gone.py"), Path("web/test_words.py")}
    missing, strays = missing_and_strays(found, {"waygate_mcp.web"}, tests)
    assert missing == {Path("web/test_app.py")}
    assert strays == {Path("web/test_gone.py")}


def test_a_protocol_class_is_nothing_to_run() -> None:
    text = 'class Port:\n    async def call(self) -> int:\n        """Answer."""\n        ...\n'
    assert not has_something_to_run(Module("waygate_mcp.model.ports", text))
    assert has_something_to_run(Module("waygate_mcp.model.ports", text.replace("...", "return 1")))


def sleeps(text: str) -> list[int]:
    """Lines that wait for real time to pass: `time.sleep`, and `asyncio.sleep` of anything but nought."""
    lines = []
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Call) and dotted_name(node.func).endswith("sleep")):
            continue
        if dotted_name(node.func) not in ("time.sleep", "asyncio.sleep", "sleep"):
            continue
        yields_only = (
            len(node.args) == 1
            and isinstance(node.args[0], ast.Constant)
            and node.args[0].value == 0
        )
        if not yields_only:
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("time.sleep(0.1)", [1]),
        ("\nawait asyncio.sleep(0.01)", [2]),
        ("await asyncio.sleep(0)", []),
        ("await clock.sleep(5)", []),
    ],
)
def test_a_sleep_in_a_test_is_found(text: str, expected: list[int]) -> None:
    assert sleeps(f"{text}") == expected


def test_no_unit_test_sleeps() -> None:
    offences = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted(UNIT.rglob("*.py"))
        for line in sleeps(path.read_text(encoding="utf-8"))
    ]
    assert not offences, "inject a clock or await an event instead"
