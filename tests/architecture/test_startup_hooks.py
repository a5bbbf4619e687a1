"""No dependency of the gateway runs code just because Python starts (threat model rule 45).

A `.pth` file with an `import` line, `sitecustomize` or `usercustomize` runs in every process of the environment,
before any of our code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

from tests.support.source_tree import ROOT

# Tools of development that hook themselves into start-up; none of them is installed where the gateway serves.
KNOWN = {
    "coverage": "measures processes that tests start",
    "virtualenv": "comes with pre-commit; patches what makes environments",
}


def normal(name: str) -> str:
    """A distribution's name as lock files spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def hooks(distribution: Distribution) -> list[str]:
    """Files of the distribution that run at start-up."""
    found = []
    for file in distribution.files or []:
        if file.name in ("sitecustomize.py", "usercustomize.py"):
            found.append(str(file))
        elif file.suffix == ".pth" and len(file.parts) == 1:
            text = Path(str(distribution.locate_file(file))).read_text(encoding="utf-8")
            if runs_code(text):
                found.append(str(file))
    return found


def runs_code(pth: str) -> bool:
    """Whether a `.pth` file holds more than folders."""
    return any(re.match(r"import[ \t]", line) for line in pth.splitlines())


def hooked(found: Iterable[Distribution]) -> dict[str, list[str]]:
    """Distribution to its hooks, where it has any."""
    return {normal(each.name): here for each in found if (here := hooks(each))}


def test_nothing_that_serves_runs_code_when_python_starts() -> None:
    lock = (ROOT / "requirements" / "runtime.lock").read_text(encoding="utf-8")
    serving = set(re.findall(r"^([a-z0-9][a-z0-9.-]*)==", lock, re.MULTILINE)) | {"waygate-mcp"}
    assert not hooked(each for each in distributions() if normal(each.name) in serving)


def test_every_hook_of_the_tools_is_known() -> None:
    assert set(hooked(distributions())) <= set(KNOWN)


def test_a_hook_is_found(tmp_path: Path) -> None:
    metadata = tmp_path / "sample-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: Sample\nVersion: 1\n")
    (metadata / "RECORD").write_text("a.pth,,\nb.pth,,\nsitecustomize.py,,\n")
    (tmp_path / "a.pth").write_text("import os; os.environ\n")
    (tmp_path / "b.pth").write_text("../src\n")
    assert hooked(distributions(path=[str(tmp_path)])) == {"sample": ["a.pth", "sitecustomize.py"]}
