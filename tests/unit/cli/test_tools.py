from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command_line import run_in_process as run


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_tools_are_listed_with_their_arguments() -> None:
    result = run("tools", "list")
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert "name?" in lines["hello__greet"]
    assert "text" in lines["hello__echo"].split()


def test_definitions_are_given_to_programs() -> None:
    definitions = json.loads(run("tools", "list", "--json").stdout)
    assert any(one["name"] == "hello__greet" and "inputSchema" in one for one in definitions)


def test_an_endpoint_has_its_own_names() -> None:
    names = [
        one["name"]
        for one in json.loads(run("tools", "list", "--endpoint", "dev", "--json").stdout)
    ]
    assert names == ["echo", "greet"]
    assert run("tools", "list", "--endpoint", "none").exit_code == 2


@pytest.mark.parametrize(
    ("words", "stdin"),
    [(['{"name": "Ada"}'], None), (["name=Ada"], None), (["-"], '{"name": "Ada"}')],
)
def test_a_tool_is_called_with_arguments_in_any_form(words: list[str], stdin: str | None) -> None:
    result = run("tools", "call", "hello__greet", *words, stdin=stdin)
    assert (result.exit_code, result.stdout) == (0, "Hello, Ada!\n")


def test_the_raw_result_is_one_line_of_json() -> None:
    result = run("tools", "call", "hello__echo", "text=a b", "--json")
    assert json.loads(result.stdout)["content"] == [{"type": "text", "text": "a b"}]
    assert result.stdout.count("\n") == 1


def test_a_tool_that_fails_exits_with_1() -> None:
    result = run("tools", "call", "every__test_error_handling")
    assert result.exit_code == 1
    assert "error" in result.stdout


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["hello__gret"], "did you mean 'hello__greet'"),
        (["hello__echo", "txt=x"], "did you mean 'text'"),
        (["hello__echo", "{"], "JSON"),
        (["hello__greet", "--log", "loud"], "--log"),
        (["hello__greet", "--url", "http://127.0.0.1:1/mcp"], "exclude"),
    ],
)
def test_wrong_use_exits_with_2(words: list[str], hint: str) -> None:
    result = run("tools", "call", *words)
    assert result.exit_code == 2
    assert hint in result.stderr


def test_log_messages_and_declined_questions_go_to_standard_error() -> None:
    logged = run("tools", "call", "every__test_tool_with_logging")
    assert "[info] Tool execution started" in logged.stderr
    assert (
        "[info]"
        not in run("tools", "call", "every__test_tool_with_logging", "--log", "none").stderr
    )
    asked = run("tools", "call", "every__test_elicitation", "message=Who?")
    assert "the server asks: Who?" in asked.stderr
    assert "decline" in asked.stdout


def test_pictures_are_kept_where_asked() -> None:
    result = run("tools", "call", "every__test_image_content", "--save", "kept")
    assert result.exit_code == 0
    assert [path.suffix for path in Path("kept").iterdir()] == [".png"]


def test_a_call_that_takes_too_long_is_given_up() -> None:
    result = run("tools", "call", "every__slow_cancellable", "seconds=20", "--timeout", "0.2")
    assert result.exit_code == 1
    assert "took too long" in result.stderr
