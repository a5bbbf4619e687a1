"""`waygate add`: what is written, what is refused, what is warned about. Real upstreams: tests/integration."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from waygate_mcp.cli import add as module
from waygate_mcp.cli.init import DOCUMENT
from waygate_mcp.cli.main import app, load_command
from waygate_mcp.cli.probe import Probe
from waygate_mcp.config.document import Document
from waygate_mcp.config.load import load_document
from waygate_mcp.config.settings import Settings
from waygate_mcp.config.upstream import UpstreamSection

runner = CliRunner()
FILE = Path("waygate.yaml")
URL = "https://example.org/mcp"


@pytest.fixture(autouse=True)
def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Work in a folder of its own; upstreams called `down` do not answer, all others do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WAYGATE_DATA_DIR", str(tmp_path / "data"))
    names: list[str] = []

    def probe(sections: Mapping[str, UpstreamSection], *_: Any) -> list[Probe]:
        names.extend(sections)
        return [Probe(name, problem="is down" if name == "down" else "") for name in sections]

    monkeypatch.setattr(module, "probe_upstreams", probe)
    return names


def add(*words: str, stdin: str | None = None) -> Result:
    return runner.invoke(app, ["add", *words], input=stdin)


def written() -> Document:
    return load_document(FILE, Settings())


def test_a_url_is_added_to_a_first_document_and_tried(tried: list[str]) -> None:
    result = add("gh", URL)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("waygate.yaml: created with the upstream gh\n")
    assert FILE.read_text() == DOCUMENT.replace(
        "upstreams: {}", f"upstreams:\n  gh:\n    url: {URL}"
    )
    assert tried == ["gh"]


def test_a_program_is_added_with_all_its_options() -> None:
    FILE.write_text("# mine\nversion: 1\n")
    Path("sub").mkdir()
    result = add(
        "fs", "--env", "A=b=c", "--era", "legacy", "--sessions", "shared", "--cwd", "sub", "--sandbox",
        "none", "--", "sh", "-c", "--weird arg",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("waygate.yaml: has the upstream fs\n")
    assert FILE.read_text().startswith("# mine\nversion: 1\n\nupstreams:\n  fs:\n")
    section = written().upstreams["fs"]
    assert (section.command, section.args, section.env) == (
        "sh",
        ("-c", "--weird arg"),
        {"A": "b=c"},
    )
    assert (section.era, section.sessions, section.cwd, section.sandbox) == (
        "legacy", "shared", "sub", "none",
    )  # fmt: skip


def test_options_of_http_are_taken(tried: list[str]) -> None:
    result = add(
        "gh", URL, "--header", "X-A:  b: c ", "--network", "private", "--http", "sse", "--disabled"
    )
    assert result.exit_code == 0, result.output
    section = written().upstreams["gh"]
    assert (section.headers, section.network, section.http, section.enabled) == (
        {"X-A": "b: c"}, "private", "sse", False,
    )  # fmt: skip
    assert tried == [], "one that is switched off is not tried"


def test_paths_are_those_of_the_command_line(tmp_path: Path) -> None:
    program = tmp_path / "run.sh"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for folder in ("elsewhere", "sub"):
        (tmp_path / folder).mkdir()
    result = add("a", "-c", "elsewhere/my.yaml", "--cwd", "sub", "--no-test", "--", "./run.sh")
    assert result.exit_code == 0, result.output
    section = load_document(Path("elsewhere/my.yaml"), Settings()).upstreams["a"]
    assert section.command == str(program)
    assert section.cwd == str(tmp_path / "sub")


def test_one_that_does_not_answer_stays_and_the_exit_code_says_so() -> None:
    result = add("down", URL)
    assert result.exit_code == 1
    assert "down: not well: is down" in result.stdout
    assert "waygate remove down" in result.stderr
    assert "down" in written().upstreams


def test_json_holds_the_test() -> None:
    shown = json.loads(add("gh", URL, "--json").stdout)
    assert (shown["document"], shown["name"], shown["test"]["well"]) == ("waygate.yaml", "gh", True)
    result = add("down", URL, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["test"]["problem"] == "is down"
    assert json.loads(add("two", URL, "--json", "--no-test").stdout)["test"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("GitHub", URL), "upstreams.GitHub: expected 1 to 63 of `a-z 0-9 _ -`"),
        (("a", "https://u:p@x"), "upstreams.a.url: must hold no user name"),
        (("a", URL, "--era", "old"), "upstreams.a.era: expected auto or legacy or modern"),
        (("a", URL, "--env", "A=b"), "upstreams.a: `env` belongs to `command`"),
        (("a", URL, "--header", "A=b"), "--header is written NAME:VALUE"),
        (("a", "--env", "=b", "--", "sh"), "--env is written NAME=VALUE"),
        (("a", URL, "and-more"), "one URL is enough"),
        (("a", "--", "no-such-program"), "upstreams.a.command: there is no such program"),
        (("a", URL, "--header", "A: ${env:NOT_SET}"), "variable 'NOT_SET' is not set"),
        (("hello", URL), "a plugin is called hello"),
        (("there", URL), "an upstream is called there already; --force replaces it"),
        (("their-s", URL), "their-s stands below `mcpServers`"),
        (("a",), "Missing argument"),
    ],
)
def test_what_would_not_be_valid_is_refused_and_nothing_is_written(
    words: tuple[str, ...], message: str, tried: list[str]
) -> None:
    text = f"""\
plugins: {{hello: {{use: waygate_mcp.plugins.builtin.hello}}}}
upstreams: {{there: {{url: {URL}}}}}
mcpServers: {{Their S: {{url: {URL}}}}}
"""
    FILE.write_text(text)
    result = add(*words)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert FILE.read_text() == text
    assert tried == []


def test_force_replaces_one_and_leaves_the_others() -> None:
    FILE.write_text(f"upstreams:\n  a:\n    url: {URL}  # old\n  b:\n    url: {URL}  # stays\n")
    assert add("a", "https://example.org/new", "--force").exit_code == 0
    assert FILE.read_text() == (
        f"upstreams:\n  a:\n    url: https://example.org/new\n  b:\n    url: {URL}  # stays\n"
    )


def test_a_literal_secret_is_warned_about_with_the_mend() -> None:
    result = add("gh", URL, "--header", "Authorization: Bearer abc", "--header", "X-A: b")
    assert result.exit_code == 0
    (warning,) = [line for line in result.stderr.splitlines() if line.startswith("warning")]
    assert "headers.Authorization looks like a secret" in warning
    assert "`--secret-header Authorization` keeps it in the data folder" in warning
    assert "${secret:gh.Authorization}" in warning
    result = add("fs", "--env", "TOKEN=abc", "--env", "T2=${secret:gh.x}", "--no-test", "--", "sh")
    assert result.exit_code == 2, "a secret that is not there is refused"
    result = add("fs", "--env", "TOKEN=abc", "--no-test", "--", "sh")
    assert "`--secret-env TOKEN`" in result.stderr


def test_a_secret_is_asked_for_and_kept_in_the_data_folder(tmp_path: Path) -> None:
    result = add(
        "gh", URL, "--secret-header", "Authorization", "--secret-header", "X-Key", stdin="abc\nk1\n"
    )
    assert result.exit_code == 0, result.output
    assert written().upstreams["gh"].headers == {
        "Authorization": "Bearer ${secret:gh.Authorization}",
        "X-Key": "${secret:gh.X-Key}",
    }
    kept = tmp_path / "data" / "secrets" / "gh.Authorization"
    assert (kept.read_text(), stat.S_IMODE(kept.stat().st_mode)) == ("abc\n", 0o600)
    assert "abc" not in FILE.read_text() + result.output
    result = add("gh", URL, "--force", "--secret-header", "authorization", stdin="Basic eHg=\n")
    assert result.exit_code == 0, result.output
    assert written().upstreams["gh"].headers == {
        "authorization": "Basic ${secret:gh.authorization}"
    }
    result = add("fs", "--secret-env", "KEY", "--no-test", "--", "sh", stdin="k\n")
    assert written().upstreams["fs"].env == {"KEY": "${secret:fs.KEY}"}


def test_without_a_line_there_is_no_secret_and_a_refused_one_is_not_kept(tmp_path: Path) -> None:
    result = add("gh", URL, "--secret-header", "X-Key", stdin="")
    assert result.exit_code == 2
    assert "no line on standard input for X-Key of gh" in result.stderr
    result = add("G", URL, "--secret-header", "X-Key", stdin="abc\n")
    assert result.exit_code == 2
    assert not list((tmp_path / "data" / "secrets").iterdir())


def test_on_a_terminal_it_is_asked_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def prompt(text: str, **how: Any) -> str:
        seen.append((text, how["hide_input"]))
        return " k "

    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(typer, "prompt", prompt)
    assert module._ask("X of gh") == "k"
    assert seen == [("X of gh", True)]


def test_the_page_names_every_option() -> None:
    page = (Path(__file__).parents[3] / "docs" / "importing.md").read_text(encoding="utf-8")
    section = page.partition("## `waygate add`")[2].partition("\n## ")[0]
    options = {
        option for one in load_command("add").params for option in one.opts if "--" in option
    }
    shown = set(re.findall(r"--[a-z][a-z-]+", section))
    assert shown == options - {"--config", "--json", "--help"}
