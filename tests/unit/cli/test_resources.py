from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command_line import run_in_process as run


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_resources_and_templates_are_listed() -> None:
    assert "test://static-text" in run("resources", "list").stdout
    assert "test://template/{id}/data" in run("resources", "templates").stdout
    assert json.loads(run("resources", "templates", "--json").stdout)[0]["uriTemplate"]


def test_a_resource_is_read() -> None:
    result = run("resources", "read", "test://static-text")
    assert result.stdout == "This is the content of the static text resource.\n"
    raw = json.loads(run("resources", "read", "test://static-text", "--json").stdout)
    assert raw["contents"][0]["uri"] == "test://static-text"


def test_bytes_are_named_or_kept() -> None:
    named = run("resources", "read", "test://static-binary")
    assert named.stdout == ""
    assert "image/png" in named.stderr
    run("resources", "read", "test://static-binary", "--save", "kept")
    assert [path.name for path in Path("kept").iterdir()] == ["static-binary-1.png"]


def test_a_resource_that_is_not_there_exits_with_1() -> None:
    assert run("resources", "read", "nowhere://x").exit_code == 1
