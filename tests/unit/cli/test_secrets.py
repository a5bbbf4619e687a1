"""`waygate secrets`: what it says, and that no text ever comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from waygate_mcp.cli.main import app

CANARY = "canary-of-the-command-line"


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAYGATE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("WAYGATE_LOG_DIR", "none")
    monkeypatch.delenv("TOKEN", raising=False)
    write({"a": {"url": "https://a.example.org/mcp", "headers": {"X-A": "${secret:TOKEN}"}}})
    return tmp_path


def write(upstreams: dict[str, Any], **more: Any) -> None:
    Path("waygate.yaml").write_text(json.dumps({"upstreams": upstreams, **more}))


def run(*words: str, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(app, ["secrets", *words], input=stdin)
    assert CANARY not in result.output
    return result


def listed() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(run("list", "--json").stdout)
    return rows


def test_a_secret_is_kept_listed_found_and_removed() -> None:
    assert listed()[0]["source"] == "none"
    assert run("where", "TOKEN").exit_code == 1
    assert run("set", "TOKEN", stdin=f"{CANARY}\n").exit_code == 0
    [row] = listed()
    assert (row["name"], row["source"], row["version"]) == ("TOKEN", "the encrypted store", 1)
    assert row["used_by"] == ["upstreams.a.headers.X-A"]
    places = json.loads(run("where", "TOKEN", "--json").stdout)
    assert [one["place"] for one in places if one["counts"]] == ["the encrypted store"]
    assert CliRunner().invoke(app, ["check"]).exit_code == 0
    removed = run("remove", "TOKEN")
    assert removed.exit_code == 0
    assert "upstreams.a.headers.X-A refers to it" in removed.stderr
    assert run("remove", "TOKEN").exit_code == 1
    assert json.loads(run("remove", "TOKEN", "--json").stdout)["removed"] is False
    assert CliRunner().invoke(app, ["check"]).exit_code == 2


def test_a_text_comes_from_a_file_or_standard_input_and_never_from_an_argument(
    tmp_path: Path,
) -> None:
    (tmp_path / "text").write_text(CANARY)
    (tmp_path / "text").chmod(0o600)
    assert json.loads(run("set", "TOKEN", "--file", "text", "--json").stdout) == {
        "name": "TOKEN", "version": 1, "hidden_by": None,
    }  # fmt: skip
    assert run("set", "TOKEN", "--file", "-", stdin=CANARY).exit_code == 0
    # What stands there by mistake is refused; it is in the shell's history already.
    assert CliRunner().invoke(app, ["secrets", "set", "TOKEN", CANARY]).exit_code == 2


@pytest.mark.parametrize("stdin", ["", " \n", "x" * (64 * 1024 + 1)])
def test_no_text_or_too_much_is_refused(stdin: str) -> None:
    assert run("set", "TOKEN", stdin=stdin).exit_code == 2


def test_what_is_no_text_is_refused() -> None:
    result = CliRunner().invoke(app, ["secrets", "set", "TOKEN"], input=b"\xff\xfe")
    assert result.exit_code == 2


@pytest.mark.parametrize("name", ["../x", ".x", "a/b", "x" * 129])
def test_a_name_that_could_lead_elsewhere_is_refused(name: str) -> None:
    assert run("set", name, stdin="x").exit_code == 2
    assert run("where", name).exit_code == 2


def test_what_outweighs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "of the environment")
    result = run("set", "TOKEN", stdin=CANARY)
    assert "not used as long as this is there: environment TOKEN" in result.stderr
    assert listed()[0]["source"] == "environment TOKEN"


def test_a_new_master_key_is_told_used_and_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("set", "TOKEN", stdin=CANARY)
    old = tmp_path / "data" / "secret.key"
    (tmp_path / "new.key").write_text("n" * 40)
    (tmp_path / "new.key").chmod(0o600)
    monkeypatch.setenv("WAYGATE_SECRET_KEY_FILE", "new.key")
    [row] = listed()
    assert row["key"] == "rewrap"
    assert "stored under another secret key" in row["problem"]
    failed = run("rewrap")
    assert failed.exit_code == 1
    assert "WAYGATE_SECRET_KEY_PREVIOUS_FILE" in failed.stderr
    monkeypatch.setenv("WAYGATE_SECRET_KEY_PREVIOUS_FILE", str(old))
    done = run("rewrap")
    assert done.exit_code == 0
    assert "can go" in done.stdout
    assert json.loads(run("rewrap", "--json").stdout) == {"rewrapped": 0, "problems": {}}
    monkeypatch.delenv("WAYGATE_SECRET_KEY_PREVIOUS_FILE")
    assert listed()[0]["key"] == "in force"


def test_vault_is_shown_where_it_is_configured() -> None:
    vault = {"address": "https://10.0.0.1", "token": "${file:/nothing/there}"}
    write({}, secrets={"vault": vault})
    result = run("where", "TOKEN", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)[-1]["place"] == "Vault"
    assert "cannot read /nothing/there" in json.loads(result.stdout)[-1]["where"]
    run("set", "TOKEN", stdin="x")
    assert json.loads(run("where", "TOKEN", "--json").stdout)[-1]["where"] == (
        "secret/waygate/TOKEN#value"
    )
