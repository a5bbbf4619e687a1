"""What a commit may hold: no path of a machine, no secret, no host of a package registry, locks with hashes."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.source_tree import ROOT, files_in_git

# Written with classes of one character, so that this file does not match itself.
PATTERNS: dict[str, re.Pattern[str]] = {
    # `you`, `me`, `x` and `waygate` stand for anybody's home; the image has one user of that name.
    "a path of somebody's machine": re.compile(
        r"(?<![\w.$}/-])/(?:work|root)/[\w.-]+|/(?:home|Users)/(?!you\b|waygate\b|me\b|x\b)\w+|[C]:\\Users\\(?!you\b|me\b)\w+"
    ),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY[-]----\s*\n\s*[A-Za-z0-9+/]{20}"),
    "a credential": re.compile(
        r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{60}|AKIA(?![0-9A-Z]*EXAMPLE)[0-9A-Z]{16}|sk-[A-Za-z0-9_-]{40}|xox[bp]-[\w-]{20})"
    ),
    "a host of a package registry": re.compile(
        r"pypi[.]org|files[.]pythonhosted|registry[.]npmjs|proxy[.]golang|crates[.]io",
        re.IGNORECASE,
    ),
    "a word about who wrote it": re.compile(
        r"co-authored[-]by|generated (?:with|by) (?:claude|chatgpt|copilot|an? (?:ai|llm))|sub[-]?agent[s]?\b"
        r"|as an ai (?:language )?model",
        re.IGNORECASE,
    ),
    "a conflict marker": re.compile(r"^(?:<{7} |>{7} )", re.MULTILINE),
}
SIZE_LIMIT_BYTES = 1_000_000


def offences(text: str) -> Iterator[str]:
    """What the text holds that no commit may hold."""
    for what, pattern in PATTERNS.items():
        for match in pattern.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield f"{line}: {what}: {match.group(0)[:60]!r}"


def text_of(path: Path) -> str | None:
    """The file's text; None for pictures and other bytes."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def test_no_file_holds_what_a_commit_may_not_hold() -> None:
    found = []
    for path in files_in_git():
        if path == Path(__file__):
            continue
        text = text_of(path)
        found += [f"{path.relative_to(ROOT)}:{offence}" for offence in offences(text or "")]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "see /work" + "/shared/x",
        "cd /root" + "/project",
        "/home" + "/jane/project",
        "-----BEGIN EC PRIVATE KEY-----\n" + "MHcCAQEEIAbcdefghijklmnopq",
        "token: ghp" + "_" + "a" * 36,
        "--index-url https://pypi" + ".org/simple",
        "Co-authored" + "-by: someone",
        "x\n<<<<<<" + "< HEAD\n",
    ],
)
def test_an_offending_text_is_found(text: str) -> None:
    assert list(offences(text))


@pytest.mark.parametrize(
    "text",
    [
        "cd /home/you/project",
        "the workload is at rest",
        "USER 1000:1000 and /app/data",
        "/".join(("$HOME", "work", "x")),
        "an agent asks the gateway",
        "/".join(("https://example.com", "work", "x")),
    ],
)
def test_an_innocent_text_passes(text: str) -> None:
    assert not list(offences(text))


def test_no_file_is_too_large_for_a_review() -> None:
    large = [path for path in files_in_git() if path.stat().st_size > SIZE_LIMIT_BYTES]
    assert not large


def pins(lock: str) -> dict[str, int]:
    """Package name to number of hashes in a lock file's text."""
    found: dict[str, int] = {}
    name = ""
    for line in lock.splitlines():
        if match := re.match(r"([a-z0-9][a-z0-9.-]*)==\S+", line):
            name = match.group(1)
            found[name] = 0
        elif "--hash=sha256:" in line:
            found[name] += 1
    return found


def normal(requirement: str) -> str:
    """The package's name in a requirement, as lock files spell it."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name.group(0)).lower()


def locks() -> dict[str, str]:
    """Lock file name to its text."""
    return {
        path.name: path.read_text(encoding="utf-8")
        for path in (ROOT / "requirements").glob("*.lock")
    }


def test_every_locked_package_has_hashes_and_no_lock_names_a_host() -> None:
    assert set(locks()) >= {"runtime.lock", "build.lock", "dev.lock"}
    for name, text in locks().items():
        assert pins(text), name
        assert not [package for package, hashes in pins(text).items() if not hashes], name
        assert not re.search(r"https?:|--(?:extra-)?index|--find-links", text), name


def test_every_dependency_of_the_project_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    wanted = {
        "runtime.lock": project["project"]["dependencies"],
        "build.lock": groups["build"],
        "dev.lock": [*project["project"]["dependencies"], *groups["build"], *groups["dev"]],
    }
    for lock, requirements in wanted.items():
        names = {
            normal(requirement) for requirement in requirements if isinstance(requirement, str)
        }
        missing = names - set(pins(locks()[lock]))
        assert not missing, f"{lock} lacks {sorted(missing)}; run scripts/lock.sh"


def test_the_tests_run_with_the_versions_that_serve() -> None:
    def versions(text: str) -> set[str]:
        return set(re.findall(r"^[a-z0-9][a-z0-9.-]*==[^\s;\\]+", text, re.MULTILINE))

    text = locks()
    assert versions(text["runtime.lock"]) <= versions(text["dev.lock"])
    assert versions(text["build.lock"]) <= versions(text["dev.lock"])


def test_a_pin_without_hash_is_found() -> None:
    assert pins("a==1 \\\n    --hash=sha256:00\nb==2\n") == {"a": 1, "b": 0}


def test_decision_records_have_numbers_of_their_own() -> None:
    names = [path.name for path in (ROOT / "docs" / "decisions").glob("*.md")]
    numbers = [name[:4] for name in names if re.match(r"\d{4}-[a-z0-9-]+\.md$", name)]
    assert len(numbers) == len(set(numbers))
    assert set(names) - {name for name in names if re.match(r"\d{4}-", name)} <= {"README.md"}


def test_make_has_at_most_twelve_targets_and_says_what_each_does() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z][a-z-]*):(?!=)(.*)$", text, re.MULTILINE)
    assert 0 < len(targets) <= 12
    assert [name for name, rest in targets if "## " not in rest] == []


def dead_links(page: Path) -> list[str]:
    """Relative links of a Markdown page that lead to no file; addresses on the web are not asked."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    return [each for each in targets if "://" not in each and not (page.parent / each).exists()]


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = [path for path in files_in_git() if path.suffix == ".md"]
    assert pages
    dead = {str(page.relative_to(ROOT)): found for page in pages if (found := dead_links(page))}
    assert not dead


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[a](gone.md) [b](page.md#part) [c](https://example.com/x) `[d](x.md)`")
    assert dead_links(page) == ["gone.md"]
