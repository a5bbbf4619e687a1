"""The real program, killed: no process of a stdio upstream is left once the next gateway has started."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.integration import upstream_servers as servers
from tests.integration.gateway_process import Gateway, serving
from tests.support.upstreams import RUN, children
from waygate_mcp.upstreams import sandbox

WITHIN_S = 15.0


def _call(gateway: Gateway, tool: str) -> Any:
    """Make one modern `tools/call`."""
    key = "io.modelcontextprotocol/"
    meta = {f"{key}protocolVersion": "2026-07-28", f"{key}clientCapabilities": {}}
    params = {"name": tool, "arguments": {}, "_meta": meta}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": tool,
        **gateway.headers,
    }
    port = int(gateway.base_url.rpartition(":")[2])
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WITHIN_S)) as connection:
        connection.request("POST", "/mcp", json.dumps(message), headers)
        return json.loads(connection.getresponse().read())


def _document(walls: str) -> dict[str, Any]:
    # Its list shows one tool only; the one that has children is called by that name here.
    source = servers.LINES.replace('name == "offspring"', 'name == "echo" and "x" not in arguments')
    source = source.replace('if name == "echo":', 'if name == "echo" and "x" in arguments:')
    upstream = {
        "command": sys.executable,
        "args": ["-u", "-c", source],
        "env": {"TEST_RUN_OF_UPSTREAMS": RUN},
        "sandbox": walls,
    }
    return {"version": 1, "upstreams": {"lines": upstream}}


def _alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}/stat").exists() and not _is_zombie(pid)}


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _until_gone(pids: set[int]) -> set[int]:
    deadline = time.monotonic() + WITHIN_S
    while (left := _alive(pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


@pytest.mark.parametrize("walls", ["none", "bubblewrap"])
def test_a_gateway_killed_in_mid_work_leaves_nothing_behind_once_the_next_has_started(
    walls: str, tmp_path: Path
) -> None:
    if walls == "bubblewrap" and sandbox.probe() is None:
        pytest.skip("bubblewrap does not work here")
    before = children()
    document = _document(walls)
    killed: set[int] = set()
    try:
        with serving(tmp_path, document) as gateway:
            answer = _call(gateway, "echo")
            assert "result" in answer, answer
            killed = children() - before
            assert len(killed) >= 3, "the server and the two it started, one out of its group"
            os.kill(gateway.process.pid, signal.SIGKILL)
            gateway.process.wait(WITHIN_S)
            gateway.stopped = True
        with serving(tmp_path, document) as gateway:
            assert _until_gone(killed) == set(), "they outlive the gateway and its successor"
            assert "result" in _call(gateway, "echo")
            ours = children() - before
            assert ours
        assert _until_gone(ours) == set(), "a clean stop leaves something behind"
        assert not list((tmp_path / "data").rglob("child-*.json")), "no run-file is left"
    finally:
        for pid in _alive(killed):
            os.kill(pid, signal.SIGKILL)
