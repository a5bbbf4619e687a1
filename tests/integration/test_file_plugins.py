"""A plugin that is a file beside the document, served by the real program and changed while it serves."""

from __future__ import annotations

import http.client
import json
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway_process import (
    Gateway,
    clean_environment,
    serving,
    waygate,
    write_document,
)
from tests.integration.test_web_shell import MODERN, WAIT_S, call, until

DOCUMENT: Mapping[str, Any] = {"version": 1, "plugins": {"weather": {"use": "./weather.py"}}}
TOOLS = """\
import asyncio

from waygate_mcp import Toolbox

box = Toolbox()


@box.tool(structured=False)
async def say() -> str:
    return "{word}"


@box.tool(structured=False)
async def slow_cancellable(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "{word}"
"""
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def put(folder: Path, text: str, name: str = "weather.py") -> Path:
    """Write a file as an editor does that leaves it to its owner alone."""
    folder.mkdir(mode=0o755, exist_ok=True)
    file = folder / name
    file.write_text(text, encoding="utf-8")
    file.chmod(0o644)
    return file


def said(gateway: Gateway, tool: str = "say", **arguments: Any) -> str:
    status, body = call(gateway, tool, arguments)
    assert status == 200, body
    return str(json.loads(body)["result"]["content"][0]["text"])


@contextmanager
def listening(gateway: Gateway) -> Iterator[list[str]]:
    """A listener for changes of the list of tools; what it hears is in the list."""
    heard: list[str] = []
    params = {"notifications": {"toolsListChanged": True}, "_meta": META}
    body = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}
    port = int(gateway.base_url.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    with closing(connection):
        headers = {**MODERN, "mcp-method": "subscriptions/listen", **gateway.headers}
        connection.request("POST", "/mcp", json.dumps(body), headers)
        response = connection.getresponse()
        assert response.status == 200, response.read()

        def listen() -> None:
            # It is hung up below, in the midst of a read.
            with suppress(OSError, ValueError, AttributeError, http.client.HTTPException):
                heard.extend(map(bytes.decode, response))

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        until(lambda: bool(heard), "the listener's acknowledgement")
        yield heard
        connection.sock.shutdown(2)
        thread.join(WAIT_S)


def test_a_changed_file_is_served_calls_in_flight_end_on_the_old_and_listeners_hear(
    tmp_path: Path,
) -> None:
    put(tmp_path, TOOLS.format(word="sunny"))
    with serving(tmp_path, DOCUMENT, arguments=("--reload",)) as running:
        assert said(running) == "sunny"
        got: list[str] = []
        slow = threading.Thread(
            target=lambda: got.append(said(running, "slow_cancellable", seconds=3))
        )
        with listening(running) as heard:
            slow.start()
            time.sleep(0.5)  # the call is under way, and the watcher began beside the first request
            put(tmp_path, TOOLS.format(word="rainy"))
            until(lambda: said(running) == "rainy", "the new code")
            assert got == []
            changed = "notifications/tools/list_changed"
            until(lambda: any(changed in line for line in heard), "word to the listener")
            slow.join(WAIT_S)
        assert got == ["sunny"]


def test_a_broken_edit_keeps_the_old_code_and_the_log_names_its_line(tmp_path: Path) -> None:
    put(tmp_path, TOOLS.format(word="sunny"))
    with serving(tmp_path, DOCUMENT, arguments=("--reload",)) as running:
        assert said(running) == "sunny"
        time.sleep(0.5)  # the watcher began beside the first request
        file = put(tmp_path, "x = 1\n\ndef broken(:\n")
        until(lambda: "reload_failed" in running.log(), "word of the failure")
        running.wait_for_log(f"{file}, line 3: SyntaxError")
        assert said(running) == "sunny"
        put(tmp_path, TOOLS.format(word="mended"))
        until(lambda: said(running) == "mended", "the mended code")


def test_a_document_in_another_folder_finds_its_file_and_its_neighbour(tmp_path: Path) -> None:
    lair = tmp_path / "lair"
    put(lair, "WORD = 'mild'\n", "words.py")
    put(lair, "from .words import WORD\n" + TOOLS.replace('"{word}"', "WORD"))
    document = {"version": 1, "plugins": {"weather": {"use": "./lair/weather.py:box"}}}
    with serving(tmp_path, document, arguments=("--reload",)) as running:
        assert said(running) == "mild"
        time.sleep(0.5)  # the watcher began beside the first request
        put(lair, "WORD = 'cold'\n", "words.py")
        until(lambda: said(running) == "cold", "the changed neighbour")


@pytest.mark.parametrize(
    ("use", "mode", "words"),
    [
        ("./wether.py", 0o644, "no such file"),
        ("./weather.py", 0o666, "mend it with: chmod go-w "),
    ],
)
def test_a_file_that_is_missing_or_open_to_others_ends_the_start_with_one_clear_line(
    tmp_path: Path, use: str, mode: int, words: str
) -> None:
    put(tmp_path, TOOLS.format(word="sunny")).chmod(mode)
    path = write_document(tmp_path, {"plugins": {"weather": {"use": use}}})
    done = subprocess.run(
        [waygate(), "serve", "-c", str(path), "--port", "0"],
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "plugins.weather.use: " in done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
