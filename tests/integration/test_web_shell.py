"""The server as an operator sees it: start, keys, health, limits of connections, workers, the end."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway_process import (
    EVERYTHING,
    Gateway,
    clean_environment,
    serving,
    wait_or_kill,
    waygate,
    write_document,
)
from tests.support.ports import free_port

WAIT_S = 20.0
MODERN = {
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
    "mcp-protocol-version": "2026-07-28",
    "mcp-method": "tools/call",
}


def get(
    gateway: Gateway, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own."""
    port = int(gateway.base_url.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    with closing(connection):
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        lower = {name.lower(): value for name, value in response.getheaders()}
        return response.status, lower, response.read()


def call(gateway: Gateway, name: str, arguments: Mapping[str, Any]) -> tuple[int, Any]:
    """Call a tool in the modern era."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": name, "arguments": arguments, "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    port = int(gateway.base_url.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    with closing(connection):
        headers = {**MODERN, "mcp-name": name, **gateway.headers}
        connection.request("POST", "/mcp", body, headers)
        response = connection.getresponse()
        return response.status, response.read()


def until(is_so: Callable[[], bool], what: str) -> None:
    """Wait for something, within a bound."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if is_so():
            return
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come within {WAIT_S} s")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(tmp_path_factory.mktemp("shell"), EVERYTHING) as running:
        yield running


# --- the answers of the shell


def test_strangers_learn_that_it_is_well_and_nothing_else(gateway: Gateway) -> None:
    status, headers, body = get(gateway, "/health")
    assert status == 200
    found = json.loads(body)
    assert found["status"] == "healthy"
    assert {frozenset(check) for check in found["checks"].values()} == {frozenset({"status"})}
    assert headers["x-request-id"]
    assert "server" not in headers


def test_a_key_shows_what_was_measured(gateway: Gateway) -> None:
    status, _, body = get(gateway, "/health", **gateway.headers)
    checks = json.loads(body)["checks"]
    assert status == 200
    assert checks["plugins"]["opened"] == ["everything"]
    assert 0 <= checks["event_loop"]["lag_ms"] < 5000


def test_metrics_need_the_key_and_count_this_very_server(gateway: Gateway) -> None:
    assert get(gateway, "/metrics")[0] == 401
    call(gateway, "test_simple_text", {})
    status, _, body = get(gateway, "/metrics", **gateway.headers)
    assert status == 200
    wanted = rb'waygate_mcp_calls_total\{endpoint="default",method="tools/call",outcome="ok"'
    assert re.search(wanted, body)
    assert re.search(rb"waygate_active_connections [1-9]", body)


def test_head_has_headers_and_no_body(gateway: Gateway) -> None:
    status, headers, body = get(gateway, "/ready", "HEAD")
    assert (status, body) == (200, b"")
    assert headers["content-type"] == "application/json"


def test_the_caller_may_name_the_request(gateway: Gateway) -> None:
    assert get(gateway, "/", **{"x-request-id": "mine-7"})[1]["x-request-id"] == "mine-7"
    until(lambda: "mine-7" in gateway.log(), "the request's id in the log")


def test_endless_headers_end_at_64_kib(gateway: Gateway) -> None:
    port = int(gateway.base_url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as wire:
        wire.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nx: ")
        answer = b""
        try:
            for _ in range(10_000):
                wire.sendall(b"y" * 1024)
            answer = wire.recv(4096)
        except (BrokenPipeError, ConnectionResetError):
            answer = answer or _rest(wire)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")
    assert get(gateway, "/ready")[0] == 200


def _rest(wire: socket.socket) -> bytes:
    try:
        return wire.recv(4096)
    except ConnectionResetError:
        return b""


# --- first start, wrong starts


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its own end."""
    return subprocess.run(
        [waygate(), "serve", *arguments],
        cwd=folder,
        env=clean_environment(folder, None) | environment,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


def test_the_key_of_a_first_start_is_printed_once_works_and_is_not_logged(tmp_path: Path) -> None:
    with serving(tmp_path, EVERYTHING, key=None) as first:
        found = re.findall(r"wg_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}", first.output.read_text())
        (key,) = found
        assert get(first, "/metrics", authorization=f"Bearer {key}")[0] == 200
        assert get(first, "/metrics", authorization=f"Bearer {key[:-1]}")[0] == 401
        logs = "".join(path.read_text() for path in (tmp_path / "logs").iterdir())
        assert key not in logs
        assert key not in (tmp_path / "data" / "keys.json").read_text()
    with serving(tmp_path, EVERYTHING, key=None) as second:
        assert "wg_" not in second.output.read_text()
        assert get(second, "/metrics", **{"x-api-key": key})[0] == 200


def test_a_port_in_use_is_named_with_the_mend(gateway: Gateway, tmp_path: Path) -> None:
    port = gateway.base_url.rpartition(":")[2]
    result = run(tmp_path, "--port", port)
    assert result.returncode == 2
    assert f"port {port} is in use" in result.stderr
    assert f"--port {int(port) + 1}" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_misspelt_key_is_named_and_nothing_starts(tmp_path: Path, workers: str) -> None:
    path = write_document(tmp_path, {"endpoints": {"dev": {"tols": {}}}})
    result = run(tmp_path, "-c", str(path), "--port", str(free_port()), "--workers", workers)
    assert result.returncode == 2
    assert "endpoints.dev.tols: unknown key (did you mean `tools`?)" in result.stderr
    assert "Traceback" not in result.stderr
    assert "waygate: http" not in result.stdout


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_plugin_that_is_not_there_is_named_and_nothing_starts(
    tmp_path: Path, workers: str
) -> None:
    path = write_document(tmp_path, {"plugins": {"a": {"use": "no.such.module"}}})
    result = run(tmp_path, "-c", str(path), "--port", str(free_port()), "--workers", workers)
    assert result.returncode == 2
    assert "plugins.a.use" in result.stderr
    assert "Traceback" not in result.stderr


def test_mode_none_beyond_loopback_does_not_start(tmp_path: Path) -> None:
    path = write_document(tmp_path, {"auth": {"mode": "none"}})
    result = run(tmp_path, "-c", str(path), "--host", "0.0.0.0", "--port", str(free_port()))
    assert result.returncode == 2
    assert "auth.mode" in result.stderr


def test_mode_none_on_loopback_serves_and_warns(tmp_path: Path) -> None:
    document = {**EVERYTHING, "auth": {"mode": "none"}}
    with serving(tmp_path, document, key=None) as running:
        assert call(running, "test_simple_text", {})[0] == 200
        assert "warning: auth.mode is none" in running.output.read_text()


def test_it_starts_with_little_and_is_small(tmp_path: Path) -> None:
    """Processor time, which other work on the machine changes little; `bench/` measures the clock."""
    with serving(tmp_path, EVERYTHING) as running:
        assert call(running, "test_simple_text", {})[0] == 200
        fields = Path(f"/proc/{running.process.pid}/stat").read_text().rpartition(")")[2].split()
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        status = Path(f"/proc/{running.process.pid}/status").read_text()
        resident = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert resident is not None
        assert seconds < 4, "three times what it takes alone: a crowded processor is a slower one"
        assert int(resident[1]) < 120_000


# --- the end


@contextmanager
def slow_call(gateway: Gateway, seconds: float) -> Iterator[list[Any]]:
    """A call under way; what it got is in the list once the block is left."""
    got: list[Any] = []

    def work() -> None:
        try:
            got.append(call(gateway, "slow_cancellable", {"seconds": seconds}))
        except (OSError, http.client.HTTPException) as exc:
            got.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        time.sleep(0.5)
        yield got
    finally:
        thread.join(WAIT_S)


def ready(gateway: Gateway) -> int:
    try:
        return get(gateway, "/ready")[0]
    except OSError:
        return 0


def test_a_stop_lets_the_call_in_flight_end_and_says_not_ready_meanwhile(tmp_path: Path) -> None:
    with serving(tmp_path, EVERYTHING) as running:
        with slow_call(running, 2.5) as got:
            running.process.send_signal(signal.SIGTERM)
            until(lambda: ready(running) == 503, "/ready saying 503")
        status, body = got[0]
        assert status == 200
        assert b'"isError":true' not in body
        assert wait_or_kill(running.process, "SIGTERM", running.log) == 0


def test_a_call_that_does_not_end_is_not_waited_for_longer_than_said(tmp_path: Path) -> None:
    document = {**EVERYTHING, "limits": {"drain_s": 0.5}}
    with serving(tmp_path, document) as running, slow_call(running, 60):
        started = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        assert wait_or_kill(running.process, "SIGTERM", running.log) == 0
        assert time.monotonic() - started < 15


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, EVERYTHING) as running, slow_call(running, 60):
        running.process.send_signal(signal.SIGTERM)
        until(lambda: ready(running) == 503, "/ready saying 503")
        started = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        assert wait_or_kill(running.process, "a second SIGTERM", running.log) == 0
        assert time.monotonic() - started < 10


def test_an_idle_server_stops_soon(tmp_path: Path) -> None:
    with serving(tmp_path, EVERYTHING) as running:
        started = time.monotonic()
        running.process.send_signal(signal.SIGINT)
        assert wait_or_kill(running.process, "SIGINT", running.log) == 0
        assert time.monotonic() - started < 5


# --- workers


def workers_of(gateway: Gateway) -> set[int]:
    """The server processes of a gateway; its resource tracker is none."""
    children = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children").read_text()
    return {
        int(child)
        for child in children.split()
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    }


def await_all(gateway: Gateway) -> None:
    """Wait for the line that says that every worker serves; the first one answers before that."""
    until(lambda: "waygate: http" in gateway.output.read_text(), "the line of the start")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_dead_worker_is_replaced_and_all_end_together(tmp_path: Path) -> None:
    with serving(tmp_path, EVERYTHING, arguments=("--workers", "2")) as running:
        await_all(running)
        before = workers_of(running)
        assert len(before) == 2
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in workers_of(running), "the end of the killed worker")
        until(lambda: len(workers_of(running)) == 2, "its successor")
        for _ in range(10):
            assert call(running, "test_simple_text", {})[0] == 200
        until(lambda: "worker_died" in running.log(), "a line about it")
        everyone = workers_of(running)
        running.stop()
        assert not any(map(is_running, everyone))


def test_workers_share_their_numbers_and_their_key(tmp_path: Path) -> None:
    with serving(tmp_path, EVERYTHING, arguments=("--workers", "2")) as running:
        for _ in range(20):
            assert call(running, "test_simple_text", {})[0] == 200

        def is_counted() -> bool:
            body = get(running, "/metrics", **running.headers)[2]
            found = re.findall(
                rb'waygate_mcp_calls_total\{[^}]*outcome="ok"[^}]*\} ([0-9.]+)', body
            )
            return sum(map(float, found)) == 20

        until(is_counted, "the sum of both workers' calls")


def test_workers_do_not_outlive_a_parent_that_was_killed(tmp_path: Path) -> None:
    with serving(tmp_path, EVERYTHING, arguments=("--workers", "2")) as running:
        await_all(running)
        everyone = workers_of(running)
        assert len(everyone) == 2
        running.process.kill()
        running.process.wait(WAIT_S)
        running.stopped = True  # not cleanly, as we know
        until(lambda: not any(map(is_running, everyone)), "the end of the workers")
