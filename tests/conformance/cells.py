"""The cells of the era matrix: the gateway in front of a server of one era, over one transport.

Knows how both are started and what the upstream wrote down about its visitor. The gateway's document has
one upstream, found by `era: auto`, so its default endpoint serves that one's own names.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.integration.gateway_process import (
    EVERYTHING,
    Gateway,
    clean_environment,
    serving,
    tail,
    wait_for_port,
    write_document,
)
from tests.support.ports import free_port

Era = Literal["legacy", "modern"]
Transport = Literal["http", "sse", "stdio"]

SERVER = Path(__file__).with_name("one_era_server.py")
OPEN: Mapping[str, object] = {"auth": {"mode": "none"}}
"""The suite sends no Authorization header, so keys are off (which needs loopback)."""

_LISTENS_WITHIN_S = 30.0
_ENDS_WITHIN_S = 15.0
_OPEN_WITHIN_S = 60.0


@dataclass(frozen=True)
class Cell:
    """One upstream as clients of both eras meet it."""

    upstream: Era
    transport: Transport

    @property
    def name(self) -> str:
        """How tests and the table in docs/compatibility.md call it."""
        return f"{self.upstream}_{self.transport}"


CELLS: tuple[Cell, ...] = (
    Cell("legacy", "http"),
    Cell("modern", "http"),
    Cell("legacy", "stdio"),
    Cell("modern", "stdio"),
    Cell("legacy", "sse"),
)
"""Every upstream there can be: the old HTTP transport has no modern era (2026-07-28 basic/transports)."""


@dataclass(frozen=True)
class Seen:
    """One message that arrived at the upstream."""

    era: str
    method: str
    refused: bool


@dataclass(frozen=True)
class Running:
    """A cell under way."""

    cell: Cell
    gateway: Gateway
    record: Path

    @property
    def url(self) -> str:
        """The gateway's MCP endpoint."""
        return self.gateway.url

    def seen(self) -> list[Seen]:
        """What arrived at the upstream so far."""
        lines = self.record.read_text(encoding="utf-8").splitlines()
        return [Seen(**json.loads(line)) for line in lines]

    def count(self, era: str) -> Counter[str]:
        """How many messages of an era arrived, by method."""
        return Counter(one.method for one in self.seen() if one.era == era)


def prepare(cell: Cell, folder: Path) -> tuple[Path, Path]:
    """Write the document of the upstream and an empty record; give both."""
    record = folder / "record.jsonl"
    document = write_document(folder / "upstream", {**EVERYTHING, **OPEN, **_door(cell)})
    record.touch()
    return document, record


@contextlib.contextmanager
def running(cell: Cell, folder: Path) -> Iterator[Running]:
    """Start the upstream and the gateway in front of it; both must end well."""
    document, record = prepare(cell, folder)
    with contextlib.ExitStack() as stack:
        if cell.transport == "stdio":
            section = _process_section(cell, document, record)
        else:
            section = {"url": stack.enter_context(listening(cell, document, record, free_port()))}
        gateway_document = {"version": 1, **OPEN, "upstreams": {"fixture": section}}
        gateway = stack.enter_context(serving(folder / "gateway", gateway_document, key=None))
        _await_upstream(gateway)
        yield Running(cell, gateway, record)


def _await_upstream(gateway: Gateway) -> None:
    """Wait until the upstream is open: who asks before is told of none after some seconds, as documented."""
    deadline = time.monotonic() + _OPEN_WITHIN_S
    state = ""
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{gateway.base_url}/mcp/servers", timeout=10) as answer:
            (shown,) = json.load(answer)["servers"]
        state = shown["state"]
        if state == "ready":
            return
        time.sleep(0.05)
    raise AssertionError(f"the upstream is {state} after {_OPEN_WITHIN_S:.0f} s")


def _door(cell: Cell) -> dict[str, Any]:
    return {"server": {"http_sse": True}} if cell.transport == "sse" else {}


def _process_section(cell: Cell, document: Path, record: Path) -> dict[str, Any]:
    """The section of an upstream behind a process; no walls, so that it can write the record."""
    given = clean_environment(document.parent, None)
    wanted = ("HOME", "WAYGATE_DATA_DIR", "WAYGATE_LOG_DIR")
    coverage = {name: value for name, value in given.items() if name.startswith("COVERAGE")}
    return {
        "command": sys.executable,
        "args": [str(SERVER), cell.upstream, "stdio", str(document), str(record)],
        "env": {name: given[name] for name in wanted} | coverage,
        "sandbox": "none",
    }


@contextlib.contextmanager
def listening(
    cell: Cell,
    document: Path,
    record: Path,
    port: int,
    environment: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """The upstream behind an address, until the block ends."""
    output = document.parent / "output.log"
    arguments = [cell.upstream, cell.transport, str(port), str(document), str(record)]
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, str(SERVER), *arguments],
            env=clean_environment(document.parent, None) | dict(environment or {}),
            cwd=document.parent,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for_port(port, _LISTENS_WITHIN_S)
        yield f"http://127.0.0.1:{port}/{'sse' if cell.transport == 'sse' else 'mcp'}"
        assert process.poll() is None, tail(output.read_text(encoding="utf-8", errors="replace"))
    finally:
        process.terminate()
        try:
            process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_ENDS_WITHIN_S)
    log = output.read_text(encoding="utf-8", errors="replace")
    assert "Traceback (most recent call last)" not in log, tail(log)
