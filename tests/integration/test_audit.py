"""The audit journal of real servers: killed, without space, and read by the commands an operator uses."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.integration.gateway_process import (
    EVERYTHING,
    KEY,
    Gateway,
    clean_environment,
    serving,
    waygate,
)
from waygate_mcp.audit.files import FOLDER, chains_in
from waygate_mcp.audit.reading import records

TOOL = "test_simple_text"
WAIT_S = 20.0


def call(
    gateway: Gateway, name: str = TOOL, *, key: str = KEY, number: int = 1
) -> tuple[int, dict[str, Any]]:
    """Call a tool as a modern client does."""
    where = urlsplit(gateway.url)
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": name, "arguments": {}, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=WAIT_S)
    headers = {
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": name,
    }
    with contextlib.closing(connection):
        connection.request("POST", where.path, json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def health(gateway: Gateway) -> dict[str, Any]:
    where = urlsplit(gateway.base_url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=WAIT_S)
    with contextlib.closing(connection):
        connection.request("GET", "/health", headers=gateway.headers)
        result: dict[str, Any] = json.loads(connection.getresponse().read())
        return result


def reached(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not fact():
        assert time.monotonic() < deadline, "not reached in time"
        time.sleep(0.02)


def audit(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `waygate audit` as an operator of this gateway does."""
    return subprocess.run(
        [waygate(), "audit", *words],
        cwd=folder,
        env=clean_environment(folder),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_killed_server_loses_no_record_of_an_answered_call(tmp_path: Path) -> None:
    folder = tmp_path / "data" / FOLDER
    answered: list[int] = []
    with contextlib.suppress(AssertionError), serving(tmp_path) as gateway:

        def load(first: int) -> None:
            for number in range(first, first + 100_000):
                try:
                    status, answer = call(gateway, number=number)
                except (OSError, http.client.HTTPException, ValueError):
                    return  # it was killed
                assert status == 200, answer
                answered.append(number)

        threads = [threading.Thread(target=load, args=(n * 100_000,)) for n in range(4)]
        for thread in threads:
            thread.start()
        reached(lambda: len(answered) > 100)
        gateway.process.send_signal(signal.SIGKILL)
        gateway.process.wait(WAIT_S)
        for thread in threads:
            thread.join(WAIT_S)
    (dead,) = chains_in(folder)
    written = [record for record, _ in records(folder)]
    ended = [record for record in written if record["kind"] == "outcome"]
    began = [record for record in written if record["kind"] == "start"]
    assert len(ended) >= len(answered) > 100
    assert 0 <= len(began) - len(ended) <= 4
    with serving(tmp_path, document=None):
        reached(lambda: any(record["name"] == "settled" for record, _ in records(folder)))
        unknown = [record for record, _ in records(folder) if record.get("of") == dead]
        assert len(unknown) == len(began) - len(ended)
        assert {record["start"] for record in unknown} == {
            record["sequence"] for record in began
        } - {record["start"] for record in ended}
    verified = audit(tmp_path, "verify", "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    report = json.loads(verified.stdout)
    assert report["whole"]
    assert report["chains"] == 2


def test_a_server_that_cannot_write_refuses_says_so_and_heals(tmp_path: Path) -> None:
    """The kernel refuses what goes beyond the size of files this process may write: a disk that is full."""
    folder = tmp_path / "data" / FOLDER
    with serving(tmp_path, environment={"WAYGATE_LOG_DIR": "none"}) as gateway:
        assert call(gateway)[0] == 200
        size = max(path.stat().st_size for path in folder.glob("*.jsonl"))
        before = resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE)
        # Room for a record and a half: the second is cut by the kernel and has to be taken back.
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (size + 600, before[1]))
        refused: list[dict[str, Any]] = []

        def is_refused() -> bool:
            status, answer = call(gateway)
            assert status == 200
            if "error" in answer:
                refused.append(answer)
            return bool(refused)

        reached(is_refused)
        assert "audit journal cannot be written" in refused[0]["error"]["message"]
        seen = health(gateway)
        assert seen["checks"]["audit"]["status"] == "unhealthy"
        assert seen["checks"]["audit"]["error"]
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, before)
        reached(lambda: health(gateway)["checks"]["audit"]["status"] == "healthy")
        assert "result" in call(gateway)[1]
    names = [record["name"] for record, _ in records(folder)]
    assert "healed" in names
    began = {r["sequence"] for r, _ in records(folder) if r["kind"] == "start"}
    ended = {r["start"] for r, _ in records(folder) if r["kind"] == "outcome"}
    assert began == ended
    assert audit(tmp_path, "verify").returncode == 0


def test_an_operator_reads_exports_and_verifies(tmp_path: Path) -> None:
    with serving(tmp_path, {**EVERYTHING, "audit": {"durability": "strict"}}) as gateway:
        assert call(gateway)[0] == 200
        assert call(gateway, key="wg_wrong_0123456789abcdef0123456789abcdef")[0] == 401
        assert "error" in call(gateway, "everything__nothing")[1]
    shown = audit(tmp_path, "tail", "--kind", "outcome")
    assert shown.returncode == 0
    assert TOOL in shown.stdout
    refused = json.loads(audit(tmp_path, "tail", "--kind", "refusal", "--json").stdout)
    assert (refused["name"], refused["outcome"]) == ("door", "invalid")
    lines = audit(tmp_path, "export").stdout.splitlines()
    assert [json.loads(line)["sequence"] for line in lines] == list(range(1, len(lines) + 1))
    cef = audit(tmp_path, "export", "--format", "cef", "--kind", "outcome").stdout
    assert cef.startswith("CEF:0|Waygate|")
    heads = audit(tmp_path, "heads").stdout
    (tmp_path / "heads.jsonl").write_text(heads, encoding="utf-8")
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in (tmp_path / "data" / FOLDER).glob("*.jsonl"):
        text = path.read_bytes().splitlines(keepends=True)
        (copy / path.name).write_bytes(b"".join(text[:-1]))
    key = str(tmp_path / "data" / "secret.key")
    offline = ("verify", str(copy), "--key-file", key)
    assert audit(tmp_path, *offline).returncode == 0  # nothing tells that something was cut
    cut = audit(tmp_path, *offline, "--heads", str(tmp_path / "heads.jsonl"))
    assert cut.returncode == 1
    assert "cut" in cut.stdout
    assert "NOT as it was written" in cut.stdout


def test_what_is_recorded_from_now_on_is_followed(tmp_path: Path) -> None:
    with serving(tmp_path) as gateway:
        call(gateway)
        with subprocess.Popen(
            [waygate(), "audit", "tail", "-f", "-n", "0", "--json", "--kind", "outcome"],
            cwd=tmp_path,
            env=clean_environment(tmp_path),
            stdout=subprocess.PIPE,
        ) as follower:
            assert follower.stdout is not None
            os.set_blocking(follower.stdout.fileno(), False)
            seen = b""

            def is_seen() -> bool:
                nonlocal seen
                call(gateway)
                seen += follower.stdout.read() or b"" if follower.stdout else b""
                return b"\n" in seen

            try:
                reached(is_seen)
            finally:
                follower.terminate()
                follower.wait(WAIT_S)
    assert json.loads(seen.splitlines()[0])["name"] == TOOL
