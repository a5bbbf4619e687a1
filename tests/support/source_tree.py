"""The package's own source as syntax trees, for tests that judge code instead of running it.

Knows where the sources lie and how to parse them; knows no rule. Nothing is imported, so a broken module is still read.
"""

from __future__ import annotations

import ast
import functools
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"

type_of_function = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Module:
    """One source file: `name` is dotted (`waygate_mcp.web.mcp`; a package's own file has the package's name)."""

    name: str
    text: str

    @functools.cached_property
    def tree(self) -> ast.Module:
        """The parsed text."""
        return ast.parse(self.text)

    @functools.cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """All there is in the tree, walked through once for all rules."""
        return tuple(ast.walk(self.tree))

    def is_within(self, *prefixes: str) -> bool:
        """Whether this is one of the modules or lies in one of the packages named (without `waygate_mcp.`)."""
        local = self.name.partition(".")[2]
        return any(local == prefix or local.startswith(f"{prefix}.") for prefix in prefixes)

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Every function and method, nested ones too."""
        for node in self.nodes:
            if isinstance(node, type_of_function):
                yield node

    def imports(self) -> Iterator[tuple[str, int]]:
        """Dotted names imported and their lines; `from a import b` counts as `a` and as `a.b`."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield alias.name, node.lineno
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module, node.lineno
                for alias in node.names:
                    yield f"{node.module}.{alias.name}", node.lineno

    def calls(self) -> Iterator[tuple[str, int]]:
        """Dotted names called and their lines. Import aliases are resolved: after `from time import time`, `time()`
        is `time.time`. A method of what is no name, such as `f().g()`, is `().g`.
        """
        meaning = self._meaning_of_names()
        for node in self.nodes:
            if not isinstance(node, ast.Call):
                continue
            if dotted := dotted_name(node.func):
                first, dot, rest = dotted.partition(".")
                yield meaning.get(first, first) + dot + rest, node.lineno
            elif isinstance(node.func, ast.Attribute):
                yield f"().{node.func.attr}", node.lineno

    def _meaning_of_names(self) -> dict[str, str]:
        """What each imported name stands for."""
        meaning: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                meaning |= {alias.asname: alias.name for alias in node.names if alias.asname}
            elif isinstance(node, ast.ImportFrom) and node.module:
                meaning |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
        return meaning


def dotted_name(node: ast.expr) -> str:
    """`a.b.c` for such an expression, and the empty string for any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted_name(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


def modules(source: Path = SOURCE) -> list[Module]:
    """Every module below `source`, in order of name."""
    found = []
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, path.read_text(encoding="utf-8")))
    return found


_NOT_OURS = {".git", ".venv", ".peers", "node_modules", "__pycache__"}


@functools.cache
def files_in_git(root: Path = ROOT) -> tuple[Path, ...]:
    """Files that a commit holds or would hold. Without git (an unpacked archive): all but what tools leave behind."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={root}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode == 0:
        names = [root / name for name in listed.stdout.split("\0") if name]
        return tuple(path for path in names if path.is_file())
    found = []
    for folder, below, names_here in os.walk(root):
        below[:] = [name for name in below if name not in _NOT_OURS and not name.endswith("_cache")]
        found += [Path(folder, name) for name in names_here]
    return tuple(sorted(found))
