"""The document changed over HTTP, as an operator does it: planned, applied, used, rolled back, found again.

With two workers: what one is told, both do.
"""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path
from typing import Any

from tests.integration.gateway_process import Gateway, serving
from tests.support.modern_client import ModernClient

FIRST = """\
# The document of a small team.
version: 1
plugins:
  hello: {use: waygate_mcp.plugins.builtin.hello}  # greets
"""
SECOND = f"""{FIRST}endpoints:
  team:
    bind: [hello]
    tools: {{rename: {{greet: welcome}}}}
"""
WITHIN_S = 5.0
IN_A_ROW = 12
"""Connections one after the other that must all find the same: each may meet another worker."""


def ask(gateway: Gateway, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    host = gateway.base_url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    headers = {**gateway.headers, "content-type": "application/json"}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def greeted_everywhere(gateway: Gateway, status: int) -> dict[str, Any]:
    """Call the renamed tool until every worker answers with that status; gives the last answer."""
    end, row = time.monotonic() + WITHIN_S, 0
    body: dict[str, Any] = {}
    while row < IN_A_ROW:
        wanted = {"action": "welcome", "params": {"name": "Ada"}}
        found, body = ask(gateway, "POST", "/mcp/execute?endpoint=team", wanted)
        row = row + 1 if found == status else 0
        assert time.monotonic() < end, (found, body)
    return body


def test_a_document_is_planned_applied_used_and_rolled_back(tmp_path: Path) -> None:
    file = tmp_path / "waygate.yaml"
    file.write_text(FIRST, encoding="utf-8")
    file.chmod(0o640)
    with serving(tmp_path, None, arguments=("--workers", "2")) as gateway:
        status, plan = ask(gateway, "POST", "/admin/v1/config/plan", {"text": SECOND})
        assert (status, plan["valid"]) == (200, True)
        assert [(one["kind"], one["path"]) for one in plan["changes"]] == [
            ("added", "endpoints.team")
        ]
        wanted = {"text": SECOND, "based_on": plan["based_on"], "reason": "an endpoint of our own"}
        status, applied = ask(gateway, "POST", "/admin/v1/config/apply", wanted)
        assert (status, applied["entry"]["reason"]) == (200, "an endpoint of our own")
        assert file.read_text(encoding="utf-8") == SECOND
        assert file.stat().st_mode & 0o777 == 0o640

        answer = greeted_everywhere(gateway, 200)
        assert answer["result"]["structuredContent"] == {"result": "Hello, Ada!"}
        client = ModernClient(f"{gateway.base_url}/servers/team/mcp", gateway.headers)
        assert client.call("welcome", name="Bo").text == "Hello, Bo!"

        assert ask(gateway, "POST", "/admin/v1/config/apply", wanted)[0] == 409
        _, listed = ask(gateway, "GET", "/admin/v1/config/history")
        assert [one["applied_by"] for one in listed["entries"]][1:] == ["file"]
        back = {"number": listed["entries"][-1]["number"], "based_on": plan["digest"]}
        status, done = ask(gateway, "POST", "/admin/v1/config/rollback", back)
        assert (status, [one["kind"] for one in done["changes"]]) == (200, ["removed"])
        assert file.read_text(encoding="utf-8") == FIRST
        greeted_everywhere(gateway, 404)

        _, listed = ask(gateway, "GET", "/admin/v1/config/history")
        assert [one["reason"] for one in listed["entries"]] == [
            f"rollback to {back['number']}",
            "an endpoint of our own",
            "start",
        ], "one entry each, however many workers load it"

    journal = sorted((tmp_path / "data" / "audit").glob("*.jsonl"))
    records = [json.loads(line) for one in journal for line in one.read_text().splitlines()]
    acts = [
        (one["name"], one["outcome"])
        for one in records
        if one["kind"] == "administration" and one["name"].startswith("config.")
    ]
    assert sorted(acts) == [
        ("config.apply", "begun"),
        ("config.apply", "done"),
        ("config.apply", "refused"),
        ("config.rollback", "begun"),
        ("config.rollback", "done"),
    ]
