"""`waygate check`: valid or not, and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from waygate_mcp.cli.main import app

runner = CliRunner()
MISSPELT = "endpoints:\n  dev:\n    tols: {}\n"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


def document(text: str) -> str:
    Path("my.yaml").write_text(text)
    return "my.yaml"


def test_a_valid_document_is_said_to_be() -> None:
    path = document("plugins: {a: {use: x}, b: {use: x, enabled: false}}")
    result = runner.invoke(app, ["check", "-c", path])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "my.yaml: valid",
        "plugins enabled: 1, upstreams enabled: 0, endpoints: 1, auth: keys",
    ]


def test_what_of_the_clients_servers_is_not_as_it_stands_there_is_a_warning() -> None:
    path = document("mcpServers: {A b: {command: sh, timeout: 5}}")
    result = runner.invoke(app, ["check", "-c", path])
    assert result.exit_code == 0
    name, timeout = result.stderr.splitlines()
    assert name == "warning: mcpServers.A b: is called a-b here"
    assert timeout.startswith("warning: mcpServers.A b.timeout: has no effect here")
    warnings = json.loads(runner.invoke(app, ["check", "-c", path, "--json"]).stdout)["warnings"]
    assert [f"warning: {one}" for one in warnings] == [name, timeout]


def test_without_a_document_the_built_in_one_is_checked() -> None:
    result = runner.invoke(app, ["check"])
    assert result.exit_code == 0
    assert "built-in default: valid" in result.stdout


def test_a_misspelt_key_is_named_with_path_line_and_nearest_key() -> None:
    result = runner.invoke(app, ["check", "--config", document(MISSPELT)])
    assert result.exit_code == 2
    assert (
        "line 3, column 5: endpoints.dev.tols: unknown key (did you mean `tools`?)" in result.stderr
    )
    assert result.stdout == ""


def test_the_document_of_the_current_folder_is_found() -> None:
    Path("waygate.yaml").write_text(MISSPELT)
    assert runner.invoke(app, ["check"]).exit_code == 2


def test_for_programs_there_is_json() -> None:
    result = runner.invoke(app, ["check", "--json", "-c", document(MISSPELT)])
    assert result.exit_code == 2
    assert json.loads(result.stdout) == {
        "valid": False,
        "source": "my.yaml",
        "problems": [
            {
                "path": "endpoints.dev.tols",
                "line": 3,
                "column": 5,
                "message": "unknown key",
                "suggestion": "tools",
            }
        ],
        "warnings": [],
    }


def test_json_of_a_valid_document_has_no_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYGATE_PROT", "1")
    result = runner.invoke(app, ["check", "--json", "-c", document("version: 1")])
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert (answer["valid"], answer["problems"]) == (True, [])
    assert "WAYGATE_PORT" in answer["warnings"][0]


def test_a_wrong_setting_is_named_and_unknown_ones_are_warned_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WAYGATE_PORT", "x")
    monkeypatch.setenv("WAYGATE_PROT", "1")
    result = runner.invoke(app, ["check"])
    assert result.exit_code == 2
    assert "WAYGATE_PORT: expected a whole number" in result.stderr
    assert "did you mean WAYGATE_PORT?" in result.stderr


def test_a_warning_alone_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYGATE_PROT", "1")
    result = runner.invoke(app, ["check"])
    assert result.exit_code == 0
    assert "warning:" in result.stderr


def test_a_document_that_is_not_there_is_wrong_use() -> None:
    result = runner.invoke(app, ["check", "-c", "none.yaml"])
    assert result.exit_code == 2
    assert "No such file" in result.stderr


def test_a_reference_that_cannot_be_resolved_is_named() -> None:
    path = document("plugins:\n  a:\n    use: x\n    config: {token: '${env:NO_SUCH}'}\n")
    result = runner.invoke(app, ["check", "-c", path])
    assert result.exit_code == 2
    assert "line 4, column 21: plugins.a.config.token" in result.stderr


def test_what_is_wrong_with_upstreams_is_found_without_starting_any() -> None:
    path = document("""upstreams:
  files: {command: no-such-program}
  web:
    url: https://example.org/mcp
    headers: {Authorization: "Bearer ${secret:NO_SUCH}"}
  odd: {url: "https://0x7f.1/"}
  off: {command: no-such-program, enabled: false}
""")
    result = runner.invoke(app, ["check", "-c", path])
    assert result.exit_code == 2
    assert "line 2, column 20: upstreams.files.command: there is no such program" in result.stderr
    assert "line 5, column 30: upstreams.web.headers.Authorization: the secret" in result.stderr
    assert "line 6, column 14: upstreams.odd.url: has no usable host" in result.stderr
    assert "upstreams.off" not in result.stderr
