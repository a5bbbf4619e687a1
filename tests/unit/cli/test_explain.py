from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from waygate_mcp.cli import explain as module
from waygate_mcp.cli.gateway_client import Where
from waygate_mcp.cli.main import app


@pytest.mark.parametrize(("allowed", "code"), [(True, 0), (False, 1)])
def test_the_verdict_its_rules_and_the_exit_code(
    allowed: bool, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def answer(_where: Where, path: str) -> dict[str, Any]:
        asked.append(path)
        shadow = {"shadow": ["agent"]} if allowed else {}
        return {"allowed": allowed, "rules": ["first", "last"], **shadow}

    monkeypatch.setattr(module, "ask_json", answer)
    words = ["explain", "wg_abc_secret", "a tool", "--url", "http://127.0.0.1:1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == code
    assert done.stdout.splitlines()[0] == (
        f"{'allowed' if allowed else 'refused'}: tool a tool at default, for the key abc"
    )
    more = ["  The role agent in shadow would refuse it; it is not in force."] if allowed else []
    assert done.stdout.splitlines()[1:] == ["  first", "  last", *more]
    assert asked == ["/admin/v1/explain?key=abc&name=a+tool&kind=tool&endpoint=default"]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert json.loads(done.stdout)["rules"] == ["first", "last"]
