"""`waygate config …`."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from waygate_mcp.cli.main import app
from waygate_mcp.config.schema import document_schema

runner = CliRunner()


def test_the_schema_is_printed() -> None:
    result = runner.invoke(app, ["config", "schema"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == document_schema()


def test_without_a_word_more_the_help_is_shown() -> None:
    result = runner.invoke(app, ["config"])
    assert result.exit_code == 2
    assert "schema" in result.output
