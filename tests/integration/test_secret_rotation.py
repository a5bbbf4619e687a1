"""A secret that is rotated is in use within seconds: no restart, and no call that fails meanwhile."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from pathlib import Path

from tests.integration.gateway_process import (
    Gateway,
    clean_environment,
    serving,
    waygate,
    write_document,
)
from tests.support.echoing import echoing_upstream, heard

WITHIN_S = 60.0


def keep(folder: Path, text: str) -> None:
    """Keep the secret as an operator does."""
    subprocess.run(
        [waygate(), "secrets", "set", "ROTATED"],
        cwd=folder,
        env=clean_environment(folder),
        input=text.encode(),
        check=True,
        timeout=60,
    )


def call(gateway: Gateway) -> str:
    """Call the upstream's tool, and give the credential it was sent."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": "fine", "arguments": {}, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": "fine",
        **gateway.headers,
    }
    request = urllib.request.Request(gateway.url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert "result" in json.loads(answer.read())
    return heard[-1].get("Authorization", "")


def test_a_rotated_secret_is_used_without_a_restart_and_without_a_failed_call(
    tmp_path: Path,
) -> None:
    with echoing_upstream() as url:
        headers = {"Authorization": "Bearer ${secret:ROTATED}"}
        document = {"upstreams": {"echo": {"url": url, "headers": headers}}}
        write_document(tmp_path, document)
        keep(tmp_path, "the-first-credential")
        with serving(tmp_path, document) as gateway:
            assert call(gateway) == "Bearer the-first-credential"
            keep(tmp_path, "the-second-credential")
            deadline = time.monotonic() + WITHIN_S
            while call(gateway) != "Bearer the-second-credential":
                assert time.monotonic() < deadline, "the new text is not used"
                time.sleep(0.1)
            gateway.wait_for_log("secrets_changed")
            assert "the-first-credential" not in gateway.log()
