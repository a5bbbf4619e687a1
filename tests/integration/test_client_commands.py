"""`waygate tools`, `resources` and `prompts` as programs, against a gateway that is another program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.gateway_process import (
    EVERYTHING,
    Gateway,
    clean_environment,
    serving,
    waygate,
)

WITHIN_S = 30.0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(tmp_path_factory.mktemp("gateway"), EVERYTHING) as served:
        yield served


def command(gateway: Gateway, *words: str) -> list[str]:
    return [waygate(), *words, "--url", gateway.url]


def run(
    gateway: Gateway, folder: Path, *words: str, key: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a client command with the gateway's key, or another one."""
    return subprocess.run(
        command(gateway, *words),
        cwd=folder,
        env=clean_environment(folder, key or gateway.key),
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_a_running_gateway_is_listed_and_called(gateway: Gateway, tmp_path: Path) -> None:
    listed = run(gateway, tmp_path, "tools", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "test_simple_text" in listed.stdout
    called = run(gateway, tmp_path, "tools", "call", "test_custom_header", "region=eü")
    assert (called.returncode, called.stdout) == (0, "Region: eü\n")
    read = run(gateway, tmp_path, "resources", "read", "test://static-text")
    assert read.stdout == "This is the content of the static text resource.\n"
    got = run(gateway, tmp_path, "prompts", "get", "test_simple_prompt")
    assert got.returncode == 0


def test_the_exit_code_says_what_went_wrong(gateway: Gateway, tmp_path: Path) -> None:
    assert run(gateway, tmp_path, "tools", "call", "test_error_handling").returncode == 1
    assert run(gateway, tmp_path, "tools", "call", "nothing").returncode == 2
    refused = run(gateway, tmp_path, "tools", "list", key="wg_another_key")
    assert refused.returncode == 2
    assert "valid key" in refused.stderr
    gone = subprocess.run(
        [waygate(), "tools", "list", "--url", "http://127.0.0.1:1/mcp"],
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert gone.returncode == 3
    assert "http://127.0.0.1:1" in gone.stderr


def test_a_question_is_declined_where_nobody_sits(gateway: Gateway, tmp_path: Path) -> None:
    asked = run(gateway, tmp_path, "tools", "call", "test_elicitation", "message=Who?")
    assert asked.returncode == 0
    assert "the server asks: Who?" in asked.stderr
    assert "decline" in asked.stdout


@pytest.mark.skipif(os.name == "nt", reason="SIGINT of another process is a POSIX thing")
def test_ctrl_c_cancels_the_call_at_the_gateway(gateway: Gateway, tmp_path: Path) -> None:
    seen = run(gateway, tmp_path, "tools", "call", "cancellations_seen").stdout
    quiet = under_way(gateway)
    process = subprocess.Popen(
        command(gateway, "tools", "call", "slow_cancellable", "seconds=60"),
        cwd=tmp_path,
        env=clean_environment(tmp_path, gateway.key),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in range(
            3
        ):  # the list of tools, which comes before it, is answered by the second look
            _wait(lambda: under_way(gateway) > quiet, "the call never reached the gateway")
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=WITHIN_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "cancelled" in errors
    _wait(
        lambda: run(gateway, tmp_path, "tools", "call", "cancellations_seen").stdout != seen,
        "the gateway never heard of it",
    )


def under_way(gateway: Gateway) -> int:
    """Count the requests the gateway has not answered yet, this one among them."""
    request = urllib.request.Request(f"{gateway.base_url}/mcp/status", headers=gateway.headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return int(json.load(answer)["calls_in_flight"])


def _wait(condition: Callable[[], bool], otherwise: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)
