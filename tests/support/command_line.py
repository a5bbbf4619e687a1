"""The command line against a gateway in this process, for tests of the client commands."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from waygate_mcp.cli.main import app

DOCUMENT = """
auth: {mode: none}
plugins:
  hello: {use: waygate_mcp.plugins.builtin.hello}
  every: {use: waygate_mcp.testing.everything}
endpoints:
  default: {bind: ["*"]}
  dev: {bind: [hello]}
"""


def run_in_process(*words: str, stdin: str | None = None) -> Result:
    """Run a client command in the present folder, which must be a test's own."""
    Path("waygate.yaml").write_text(DOCUMENT)
    return CliRunner().invoke(
        app,
        [*words, "--in-process"],
        input=stdin,
        env={"WAYGATE_DATA_DIR": str(Path.cwd() / "data"), "WAYGATE_LOG_DIR": "none"},
    )
