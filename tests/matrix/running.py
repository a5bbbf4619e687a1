"""One upstream behind one house, and every client on every front before it."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.matrix.cells import (
    OLD,
    STDIO,
    STREAMABLE,
    WORKS,
    Cell,
    all_cells,
    expected,
    is_refused,
    reason,
)
from tests.matrix.clients import Client, Front
from tests.matrix.features import FEATURE_RUNS, Room, refused_question
from tests.matrix.fronts import HttpFront, PipeFront, SseFront
from tests.peers.strict_http import serving
from tests.peers.strict_server import StrictServer
from tests.support.house import settings_in
from tests.support.source_tree import ROOT
from waygate_mcp.runtime.house import House
from waygate_mcp.telemetry.logs import open_logs
from waygate_mcp.web.app import App, build_app
from waygate_mcp.web.guard import Guard, guard_of

CLIENT_S = 110.0
Journal = Callable[[], list[list[Any]]]


@asynccontextmanager
async def upstream_of(
    revision: str, back: str, folder: Path
) -> AsyncIterator[tuple[dict[str, Any], Journal]]:
    """Offer a strict server of a revision; give the section of the document that reaches it, and its journal."""
    if back == STDIO:
        path = folder / "journal"
        path.touch()
        section = {
            "command": sys.executable,
            "args": ["-m", "tests.peers.strict_server", revision, str(path)],
            "cwd": str(ROOT),
            "sandbox": "none",
        }
        yield section, _TextJournal(path)
        return
    notes: list[list[Any]] = []
    server = StrictServer(revision, lambda event, what: notes.append([event, what]))
    async with serving(server) as origin:
        yield {"url": origin + ("/sse" if back == OLD else "/mcp")}, lambda: notes


class _TextJournal:
    """The journal in a file, read on from where the last reading ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._notes: list[list[Any]] = []

    def __call__(self) -> list[list[Any]]:
        with self._path.open("rb") as file:
            file.seek(self._at)
            whole, newline, _ = file.read().rpartition(b"\n")
        if newline:
            self._at += len(whole) + 1
            self._notes += [json.loads(line) for line in whole.splitlines()]
        return self._notes


@asynccontextmanager
async def house_over(
    section: dict[str, Any], folder: Path
) -> AsyncIterator[tuple[App, House[Guard]]]:
    """Open a whole house whose one upstream is `section`."""
    document = {
        "version": 1,
        "auth": {"mode": "none"},
        "server": {"http_sse": True},
        "limits": {"page_size": 3},
        "upstreams": {"up": section},
    }
    settings = settings_in(folder, document, api_key=None)
    with open_logs(settings, descriptor=None, file=False) as logs:
        house = House(settings, logs, guard_of)
        app = build_app(house)
        async with house:
            yield app, house


def _front(kind: str, app: App, house: House[Guard]) -> Front:
    if kind == STREAMABLE:
        return HttpFront(app)
    return SseFront(app) if kind == OLD else PipeFront(house)


@dataclass
class Group:
    """What ran: every cell of one upstream revision behind one transport, and what went wrong between cells."""

    upstream: str
    back: str
    found: dict[Cell, str] = field(default_factory=dict)
    loose: list[str] = field(default_factory=list)
    refused: int = 0

    @property
    def broken(self) -> list[str]:
        """What does not work, with the reason."""
        bad = [
            f"{cell}: {text}"
            for cell, text in self.found.items()
            if text not in (WORKS, f"cannot exist: {reason(cell)}")
        ]
        return bad + self.loose


async def run_group(upstream: str, back: str) -> Group:
    """Run every cell of one upstream revision behind one transport; what cannot exist says why."""
    group = Group(upstream, back)
    cells = [cell for cell in all_cells() if (cell.upstream, cell.back) == (upstream, back)]
    if all(reason(cell) for cell in cells):
        group.found = {cell: expected(cell) for cell in cells}
        return group
    with tempfile.TemporaryDirectory() as name:
        await _run_behind(Path(name), cells, group)
    return group


async def _run_behind(folder: Path, cells: list[Cell], group: Group) -> None:
    """Run the cells of a group in one house."""
    async with AsyncExitStack() as stack:
        section, journal = await stack.enter_async_context(
            upstream_of(group.upstream, group.back, folder)
        )
        app, house = await stack.enter_async_context(house_over(section, folder))
        for _, same in groupby(cells, key=lambda cell: (cell.client, cell.front)):
            await _run_client(list(same), (app, house), journal, group)
        await stack.aclose()
    group.loose += complaints(journal)


async def _run_client(
    cells: list[Cell], served: tuple[App, House[Guard]], journal: Journal, group: Group
) -> None:
    """Run the cells of one client in one conversation of it."""
    if not any(is_refused(cell) or not reason(cell) for cell in cells):
        group.found |= {cell: expected(cell) for cell in cells}
        return
    client = Client(cells[0].client, _front(cells[0].front, *served))
    try:
        async with asyncio.timeout(CLIENT_S), client:
            for cell in cells:
                group.found[cell] = expected(cell)
                if is_refused(cell):
                    group.refused += 1
                if is_refused(cell) or not reason(cell):
                    group.found[cell] = await _run_cell(cell, client, journal)
    except Exception:  # noqa: BLE001 - a cell that fails is a finding
        group.loose.append(f"{cells[0].client} by {cells[0].front}: {traceback.format_exc()}")
    group.loose += client.wrong


async def _run_cell(cell: Cell, client: Client, journal: Journal) -> str:
    """Run one cell; give what is expected of it, or else what is wrong with it."""
    client.heard.clear()
    client.asked.clear()
    before = len(complaints(journal))
    room = Room(client, cell.upstream, journal)
    wrong: list[str] = []
    try:
        if is_refused(cell):
            await refused_question(room, cell.feature)
        else:
            await FEATURE_RUNS[cell.feature](room)
    except Exception:  # noqa: BLE001 - a cell that fails is a finding
        wrong.append(traceback.format_exc())
    wrong += client.wrong + complaints(journal)[before:]
    client.wrong.clear()
    return "\n".join(wrong) if wrong else expected(cell)


def complaints(journal: Journal) -> list[str]:
    """What the upstream complained of."""
    return [what for event, what in journal() if event == "complaint"]
