"""The command `waygate`: its list of commands, its errors, its quickness."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from waygate_mcp import __version__
from waygate_mcp.cli import main
from waygate_mcp.cli.main import COMMANDS, app, load_command
from waygate_mcp.errors import ConfigError, StorageError, UpstreamUnavailableError, WaygateError

runner = CliRunner()


def test_the_help_lists_every_command() -> None:
    result = runner.invoke(app, ["--help"])
    assert result.exit_code == 0
    for name, (_, text) in COMMANDS.items():
        assert name in result.output
        assert text.split()[0] in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_and_says_what_the_list_says(name: str) -> None:
    command = load_command(name)
    assert command.name == name
    assert command.help.split("\n")[0] == COMMANDS[name][1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_of_its_own(name: str) -> None:
    result = runner.invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert COMMANDS[name][1].split(".")[0][:40] in result.output


def test_the_version_is_printed() -> None:
    result = runner.invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"waygate {__version__}\n")


def test_nothing_to_do_is_wrong_use() -> None:
    result = runner.invoke(app, [])
    assert result.exit_code == 2
    assert "Commands:" in result.output


def test_a_misspelt_command_gets_the_nearest() -> None:
    result = runner.invoke(app, ["chek"])
    assert result.exit_code == 2
    assert "Did you mean 'check'?" in result.output


def test_a_command_that_is_near_to_none_is_wrong_use() -> None:
    result = runner.invoke(app, ["zzzzzz"])
    assert result.exit_code == 2
    assert "No such command" in result.output


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ConfigError("is wrong", path="a.b"), 2, "a.b: is wrong"),
        (UpstreamUnavailableError("x", "nobody there"), 3, "nobody there"),
        (StorageError("no room"), 1, "no room"),
    ],
)
def test_an_error_becomes_words_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: WaygateError, code: int, words: str
) -> None:
    check = importlib.import_module("waygate_mcp.cli.check")

    def register(target: typer.Typer) -> None:
        @target.command("check")
        def fail() -> None:
            raise error

    monkeypatch.setattr(check, "register", register)
    result = runner.invoke(app, ["check"])
    assert result.exit_code == code
    assert words in result.output
    assert "Traceback" not in result.output


def test_the_help_loads_no_command() -> None:
    # In a process of its own: here everything is loaded already.
    script = (
        "import sys; from waygate_mcp.cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "loaded = [m for m in sys.modules if m.startswith('waygate_mcp.cli.')]\n"
        "assert loaded == ['waygate_mcp.cli.main'], loaded\n"
    )
    source = str(Path(main.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
