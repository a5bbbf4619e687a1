"""`waygate keys`, on a database of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest
from typer.testing import CliRunner, Result

from waygate_mcp.auth.key_text import find_public_id
from waygate_mcp.cli import keys
from waygate_mcp.cli.main import app


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAYGATE_DATA_DIR", str(tmp_path / "data"))
    Path("waygate.yaml").write_text("roles: {reader: ['tools:call:files__*']}\n")


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["keys", *words])


def test_a_key_is_made_listed_rotated_and_revoked() -> None:
    made = run("create", "my bot", "--role", "reader", "--only", "files__r*", "--expires", "9d")
    assert made.exit_code == 0, made.output
    text = made.stdout.strip()
    id_ = find_public_id(text)
    assert id_ is not None
    assert "shown once" in made.stderr
    [listed] = json.loads(run("list", "--json").stdout)
    assert (listed["id"], listed["state"], listed["names"]) == (id_, "active", ["files__r*"])
    shown = run("show", text)
    assert "my bot" in shown.stdout
    assert text not in shown.output
    turned = json.loads(run("rotate", id_, "--overlap", "1h", "--json").stdout)
    assert find_public_id(turned["key"]) == id_
    assert "rotating" in run("list").stdout
    assert json.loads(run("show", id_, "--json").stdout)["previous_until"]
    assert "is revoked" in run("revoke", id_).stderr
    assert json.loads(run("revoke", id_, "--json").stdout)["state"] == "revoked"


def test_without_keys_the_list_says_so() -> None:
    assert "no keys" in run("list").stderr
    assert json.loads(run("list", "--json").stdout) == []


def test_a_key_by_json_has_its_text_in_it() -> None:
    made = json.loads(run("create", "n", "--role", "viewer", "--json").stdout)
    assert find_public_id(made["key"]) == made["id"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["create", "n", "--role", "reeder"], "did you mean reader"),
        (["create", "n", "--role", "viewer", "--expires", "soon"], "no span of time"),
        (["show", "nobody"], "unknown key"),
        (["rotate", "nobody"], "unknown key"),
    ],
)
def test_what_cannot_be_done_is_told(words: list[str], said: str) -> None:
    done = run(*words)
    assert done.exit_code in (1, 2)
    assert said in done.stderr


def test_roles_are_completed_from_the_document_and_without_one_from_what_is_built_in() -> None:
    class Context:
        params: ClassVar[dict[str, object]] = {}

    assert keys._role_names(Context(), "re") == ["reader"]  # type: ignore[arg-type]
    Path("waygate.yaml").write_text("rolls: {}\n")
    assert keys._role_names(Context(), "") == ["viewer", "operator", "admin"]  # type: ignore[arg-type]
