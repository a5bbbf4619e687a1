"""`waygate remove`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from waygate_mcp.cli.main import app

FILE = Path("waygate.yaml")
TEXT = """\
# mine
upstreams:
  alpha:
    url: https://x/mcp?k=${secret:alpha.k}
    headers: {A: "${secret:alpha.k} ${env:X}"}   # old
  beta: {command: no-such-program, args: ["${secret:beta.a}"], env: {K: "${secret:beta.k}"}}  # broken
mcpServers:
  Their S: {command: x}
"""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    FILE.write_text(TEXT)


def remove(*words: str) -> Result:
    return CliRunner().invoke(app, ["remove", *words])


def test_an_upstream_is_taken_out_and_its_secrets_are_named() -> None:
    result = remove("alpha")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "waygate.yaml: upstreams.alpha is taken out",
        "it referred to the secret alpha.k, which is kept",
    ]
    lines = TEXT.splitlines(keepends=True)
    assert FILE.read_text() == "".join(lines[:2] + lines[5:])


def test_a_server_below_the_clients_block_is_found_by_its_name_here() -> None:
    assert json.loads(remove("their-s", "--json").stdout) == {
        "document": "waygate.yaml",
        "name": "their-s",
        "removed": "mcpServers.Their S",
        "secrets": [],
    }
    assert FILE.read_text() == TEXT.replace(
        "mcpServers:\n  Their S: {command: x}\n", "mcpServers: {}\n"
    )


def test_secrets_of_arguments_and_environment_are_named_too() -> None:
    assert json.loads(remove("beta", "--json").stdout)["secrets"] == ["beta.a", "beta.k"]


def test_a_name_nothing_has_gets_the_nearest() -> None:
    result = remove("alfa")
    assert result.exit_code == 2
    assert "no upstream is called 'alfa'; did you mean 'alpha'?" in result.stderr
    assert "did you mean" not in remove("zzzzzz").stderr
    assert FILE.read_text() == TEXT


def test_what_is_still_bound_is_not_taken_out() -> None:
    FILE.write_text(f"{TEXT}endpoints:\n  e: {{bind: [alpha]}}\n")
    result = remove("alpha")
    assert result.exit_code == 2
    assert "endpoints.e.bind[0]: no plugin or upstream is named `alpha`" in result.stderr
    assert "alpha:" in FILE.read_text()


def test_without_a_document_there_is_nothing_to_take_out() -> None:
    FILE.unlink()
    result = remove("alpha")
    assert result.exit_code == 2
    assert "there is no document" in result.stderr
    assert not FILE.exists()
