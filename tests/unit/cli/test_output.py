"""How commands speak."""

from __future__ import annotations

import json
import sys

import pytest

from waygate_mcp.cli.output import (
    ExitCode,
    exit_code_of,
    note,
    print_error,
    print_json,
    print_table,
    problems_as_json,
    say,
)
from waygate_mcp.errors import (
    ConfigError,
    ConfigProblem,
    StorageError,
    UpstreamUnavailableError,
    WaygateError,
)

HOSTILE = "x\x1b[2J\r\u202ey"


def test_results_go_to_standard_output_and_notes_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say("result")
    note("remark")
    assert capsys.readouterr() == ("result\n", "remark\n")


def test_text_from_outside_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    note(HOSTILE)
    print_table(["name"], [[HOSTILE]])
    out, err = capsys.readouterr()
    assert not set("\x1b\r\u202e") & set(out + err)


def test_lines_of_a_text_stay_lines(capsys: pytest.CaptureFixture[str]) -> None:
    say("one\ntwo")
    assert capsys.readouterr().out == "one\ntwo\n"


def test_a_table_in_a_pipe_is_aligned_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(
        ["name", "on"], [["hello", True], ["a" * 100, False], ["none", None], ["list", ["a", 1]]]
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"name{' ' * 98}on"
    assert [line[102:] for line in lines[1:]] == ["yes", "no", "–", "a, 1"]


def test_a_table_without_rows_shows_its_head(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name"], [])
    assert capsys.readouterr().out == "name\n"


def test_a_table_as_json_is_a_list_of_objects(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "on"], [["ä", True]], as_json=True)
    assert json.loads(capsys.readouterr().out) == [{"name": "ä", "on": True}]


def test_a_table_on_a_terminal_is_drawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(["name", "on"], [["hello", True]])
    out = capsys.readouterr().out
    assert "hello" in out
    assert "───" in out


def test_json_takes_what_it_lacks_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"code": ExitCode.DONE, "error": ValueError("x")})
    assert json.loads(capsys.readouterr().out) == {"code": 0, "error": "x"}


def test_each_problem_of_a_configuration_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    problems = [ConfigProblem("a", "is wrong", 1, 2, "b"), ConfigProblem("c", "too")]
    print_error(ConfigError(problems=problems, source="x.yaml"))
    print_error(ConfigError("plain"))
    assert capsys.readouterr().err.splitlines() == [
        "error: the configuration is not valid (x.yaml)",
        "  line 1, column 2: a: is wrong (did you mean `b`?)",
        "  c: too",
        "error: the configuration is not valid",
        "  plain",
    ]


def test_other_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(StorageError("no room"))
    assert capsys.readouterr().err == "error: no room\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError(), 2),
        (UpstreamUnavailableError("x"), 3),
        (StorageError(), 1),
        (WaygateError(), 1),
    ],
)
def test_the_exit_code_says_what_kind_of_error_it_was(error: WaygateError, code: int) -> None:
    assert exit_code_of(error) == code


def test_problems_are_plain_mappings_for_programs() -> None:
    (problem,) = problems_as_json(ConfigError(problems=[ConfigProblem("a", "m", 1, 2, "s")]))
    assert problem == {"path": "a", "line": 1, "column": 2, "message": "m", "suggestion": "s"}
