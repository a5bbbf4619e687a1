"""The gateway as a process: it wants its key, stops when asked, ends with its input, and the checks on it can fail."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.integration.gateway_process import (
    EVERYTHING,
    KEY,
    assert_clean,
    serving,
    stdio_command,
)

PING = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "probe", "version": "1"},
    },
}


def post(url: str, headers: Mapping[str, str]) -> int:
    """The status of an `initialize` with these headers."""
    usual = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
    }
    body = json.dumps(PING).encode()
    request = urllib.request.Request(url, data=body, headers=usual | dict(headers), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_gateway_wants_its_key_and_stops_cleanly(tmp_path: Path) -> None:
    with serving(tmp_path, EVERYTHING) as gateway:
        assert post(gateway.url, {}) == 401
        assert post(gateway.url, {"Authorization": f"Bearer {KEY}x"}) == 401
        assert post(gateway.url, gateway.headers) == 200
    assert gateway.process.returncode == 0


def test_a_gateway_that_was_killed_is_a_failure(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        gateway = stack.enter_context(serving(tmp_path))
        os.kill(gateway.process.pid, signal.SIGKILL)
        gateway.process.wait(10)
        with pytest.raises(AssertionError, match="ended with -9"):
            stack.close()


def test_a_gateway_on_standard_input_ends_with_it_and_says_nothing_else(tmp_path: Path) -> None:
    command = stdio_command(tmp_path)
    done = subprocess.run(
        [command.command, *command.arguments],
        cwd=command.folder,
        env=dict(command.environment),
        input=json.dumps(PING).encode() + b"\n",
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    [line] = done.stdout.splitlines()
    assert json.loads(line)["result"]["protocolVersion"] == "2025-11-25"
    assert_clean(command.log() + done.stderr.decode(), None)


@pytest.mark.parametrize("log", ["Traceback (most recent call last):\n", f"key={KEY}"])
def test_a_log_with_a_traceback_or_the_key_is_a_failure(log: str) -> None:
    with pytest.raises(AssertionError):
        assert_clean(log, KEY)
