from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command_line import run_in_process as run


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_prompts_are_listed_with_their_arguments() -> None:
    result = run("prompts", "list")
    (line,) = [one for one in result.stdout.splitlines() if "test_prompt_with_arguments" in one]
    assert "arg1 arg2" in line


def test_a_prompt_is_got() -> None:
    result = run("prompts", "get", "every__test_prompt_with_arguments", "arg1=1", "arg2=b")
    assert result.stdout == "User:\nPrompt with arguments: arg1='1', arg2='b'\n"
    raw = run("prompts", "get", "every__test_simple_prompt", "--json")
    assert json.loads(raw.stdout)["messages"]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["every__test_simple_promt"], "did you mean 'every__test_simple_prompt'"),
        (["every__test_prompt_with_arguments", "arg3=x"], "there is no argument"),
    ],
)
def test_wrong_use_exits_with_2(words: list[str], hint: str) -> None:
    result = run("prompts", "get", *words)
    assert result.exit_code == 2
    assert hint in result.stderr
