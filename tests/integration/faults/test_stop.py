"""The real program, told to end while an upstream is stuck: it ends within its drain and what closing takes."""

from __future__ import annotations

import http.client
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway_process import Gateway, serving
from tests.support.upstreams import RUN, children

DRAIN_S = 2
CLOSE_S = 10.0
"""A process that ignores its input's end and SIGTERM gets 2 s for each; the rest is a busy machine."""
DEAF = """
import json, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for line in sys.stdin:
    message = json.loads(line)
    method, result = message.get("method"), None
    if method == "initialize":
        info = {"name": "deaf", "version": "1"}
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
    if method == "tools/list" and "lists" in sys.argv:
        result = {"tools": [{"name": "hang", "inputSchema": {"type": "object"}}]}
    if result is not None:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
    elif method in ("tools/list", "tools/call"):
        print(method, "hangs", file=sys.stderr, flush=True)
while True:
    time.sleep(1)
"""


def _document(*options: str) -> dict[str, Any]:
    upstream = {
        "command": sys.executable,
        "args": ["-I", "-S", "-c", DEAF, *options],
        "env": {"TEST_RUN_OF_UPSTREAMS": RUN},
        "sandbox": "none",
        "era": "legacy",
    }
    return {"version": 1, "limits": {"drain_s": DRAIN_S}, "upstreams": {"deaf": upstream}}


@contextmanager
def _asking(gateway: Gateway, method: str, **params: Any) -> Iterator[None]:
    """Have a request under way that gets no answer by itself."""
    key = "io.modelcontextprotocol/"
    params["_meta"] = {f"{key}protocolVersion": "2026-07-28", f"{key}clientCapabilities": {}}
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    headers = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": method,
        **({"mcp-name": params["name"]} if "name" in params else {}),
        **gateway.headers,
    }
    port = int(gateway.base_url.rpartition(":")[2])
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:

        def ask() -> None:
            with suppress(OSError, http.client.HTTPException):
                connection.request("POST", "/mcp", json.dumps(message), headers)
                connection.getresponse().read()

        asking = threading.Thread(target=ask)
        asking.start()
        deadline = time.monotonic() + 15
        while f"{method} hangs" not in gateway.log() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert f"{method} hangs" in gateway.log(), "it was never asked"
        yield
        asking.join(30)
        assert not asking.is_alive(), "the client was left without an end"


def _end(gateway: Gateway) -> float:
    """Tell it to end; give how long that took."""
    began_s = time.monotonic()
    gateway.process.send_signal(signal.SIGTERM)
    gateway.process.wait(DRAIN_S + CLOSE_S + 10)
    return time.monotonic() - began_s


@pytest.mark.parametrize(
    ("options", "method", "params"),
    [((), "tools/list", {}), (("lists",), "tools/call", {"name": "hang", "arguments": {}})],
    ids=["list", "call"],
)
def test_a_stuck_upstream_does_not_keep_it_from_ending(
    options: tuple[str, ...], method: str, params: dict[str, Any], tmp_path: Path
) -> None:
    before = children()
    with serving(tmp_path, _document(*options)) as gateway:
        with _asking(gateway, method, **params):
            took_s = _end(gateway)
        assert took_s < DRAIN_S + CLOSE_S
    assert children() <= before, "a process of the upstream is left"


def test_one_nobody_uses_ends_without_waiting(tmp_path: Path) -> None:
    with serving(tmp_path, {"version": 1, "limits": {"drain_s": 60}}) as gateway:
        assert _end(gateway) < 5
