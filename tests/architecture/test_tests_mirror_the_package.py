"""`tests/unit` mirrors `src/waygate_mcp` file for file, and unit tests wait for nothing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support.source_tree import ROOT, Module, dotted_name, modules, type_of_function

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
    """Lines that wait for real time to pass: `time.sleep`, and `asyncio.sleep` of anything but nought.

    Under `@virtual_time` (tests/support/virtual_time.py) the clock jumps, so that `asyncio.sleep` waits for nothing.
    """
    tree = ast.parse(text)
    virtual: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, type_of_function) and any(
            dotted_name(mark).endswith("virtual_time") for mark in node.decorator_list
        ):
            virtual.update(ast.walk(node))
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = dotted_name(node.func)
        yields_only = [constant_text(each) for each in node.args] == ["0"]
        if name in ("time.sleep", "sleep") or (
            name == "asyncio.sleep" and not yields_only and node not in virtual
        ):
            lines.append(node.lineno)
    return lines


def constant_text(node: ast.expr) -> str:
    """A constant's text, and the empty string for any other expression."""
    return repr(node.value) if isinstance(node, ast.Constant) else ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("time.sleep(0.1)", [1]),
        ("\nawait asyncio.sleep(0.01)", [2]),
        ("await asyncio.sleep(0)", []),
        ("await clock.sleep(5)", []),
        ("@virtual_time\nasync def test():\n    await asyncio.sleep(5)", []),
        ("@virtual_time\nasync def test():\n    time.sleep(5)", [3]),
        ("async def test():\n    await asyncio.sleep(5)", [2]),
    ],
)
def test_a_sleep_in_a_test_is_found(text: str, expected: list[int]) -> None:
    assert sleeps(text) == expected


def test_no_unit_test_sleeps() -> None:
    offences = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted(UNIT.rglob("*.py"))
        for line in sleeps(path.read_text(encoding="utf-8"))
    ]
    assert not offences, "inject a clock or await an event instead"
