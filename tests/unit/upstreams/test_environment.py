from __future__ import annotations

from pathlib import Path

import pytest

from waygate_mcp.errors import ConfigError
from waygate_mcp.upstreams.environment import MARKER, child_environment, resolve_program

OURS = {"PATH": "/bin", "HOME": "/somewhere", "LANG": "C", "TMPDIR": "/tmp", "KEY": "secret"}


def test_only_a_few_names_of_ours_and_the_named_ones_are_given() -> None:
    given = child_environment({"TOKEN": "t", "LANG": "de"}, ours=OURS)
    assert given == {
        "PATH": "/bin",
        "HOME": "/somewhere",
        "LANG": "de",
        "TMPDIR": "/tmp",
        "TOKEN": "t",
    }


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD",
        "DYLD_INSERT_LIBRARIES",
        "PYTHONSTARTUP",
        "NODE_OPTIONS",
        "BASH_ENV",
        "PERL5OPT",
    ],
)
def test_names_that_change_what_code_runs_are_refused_unless_named(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        child_environment({name: "x"}, ours=OURS)
    assert caught.value.path == f"env.{name}"
    assert child_environment({name: "x"}, dangerous=(name,), ours=OURS)[name] == "x"


@pytest.mark.parametrize(("name", "value"), [("", "x"), ("A=B", "x"), ("A", "x\0y"), (MARKER, "x")])
def test_what_is_no_variable_or_is_ours_is_refused_in_any_case(name: str, value: str) -> None:
    with pytest.raises(ConfigError):
        child_environment({name: value}, dangerous=(name,), ours=OURS)


def test_a_program_is_found_on_our_path_or_absolute(tmp_path: Path) -> None:
    program = tmp_path / "server"
    program.write_text("")
    with pytest.raises(ConfigError):
        resolve_program(str(program), OURS)  # cannot be run
    program.chmod(0o700)
    assert resolve_program("server", {"PATH": str(tmp_path)}) == str(program)
    assert resolve_program(str(program), OURS) == str(program)


@pytest.mark.parametrize("command", ["./server", "bin/server", "no-such-program", ""])
def test_a_relative_or_unknown_program_is_refused(command: str) -> None:
    with pytest.raises(ConfigError):
        resolve_program(command, OURS)
