"""The journal's life in a house: begun, copied, anchored, settled after a crash, pruned, closed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.audit import lines_in, reached
from tests.support.house import open_house, settings_in
from waygate_mcp.audit.files import FOLDER, chains_in, read_head, read_tombstone
from waygate_mcp.audit.reading import records
from waygate_mcp.audit.verify import verify
from waygate_mcp.config.audit import AuditSection
from waygate_mcp.errors import StorageError
from waygate_mcp.runtime import audit as audit_module
from waygate_mcp.runtime.audit import AuditRoom
from waygate_mcp.testing.fakes import call_of


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do at once what is done now and then."""
    monkeypatch.setattr(audit_module, "TICK_S", 0.01)
    monkeypatch.setattr(audit_module, "ANCHOR_S", 0.0)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[AuditRoom]:
    async with open_house(settings_in(tmp_path)) as house:
        yield house.foundation.audit


def names(folder: Path) -> list[str]:
    return [record["name"] for record, _ in records(folder)]


async def test_what_is_recorded_is_copied_and_anchored(room: AuditRoom) -> None:
    call = call_of("tools/call", "greet")
    room.trail.begin(call)
    room.trail.end(call, "ok", 0.01)
    await reached(lambda: room.behind == 0)
    total, lines = await room.log.find({"name": "greet"}, None, None, skip=0, limit=9)
    assert total == 1  # the end says what the beginning says, and more
    assert msgspec.json.decode(lines[0])["outcome"] == "ok"
    await reached(lambda: getattr(read_head(room.folder, room.journal.chain), "sequence", 0) == 3)
    heads = await room.log.heads()
    assert heads[-1]["sequence"] == 3
    assert not heads[-1]["is_closed"]


async def test_a_house_that_closes_leaves_a_closed_chain(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path)):
        pass
    folder = tmp_path / "data" / FOLDER
    (chain,) = chains_in(folder)
    head = read_head(folder, chain)
    assert head is not None
    assert head.is_closed
    assert names(folder) == ["started", "stopped"]


async def test_nothing_is_written_where_nothing_is_wanted(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, {"audit": {"enabled": False}})) as house:
        assert house.foundation.audit.behind == 0
    assert not (tmp_path / "data" / FOLDER).exists()


async def test_a_chain_of_a_process_that_died_is_settled_and_copied(tmp_path: Path) -> None:
    folder = tmp_path / "data" / FOLDER
    async with open_house(settings_in(tmp_path)) as house:
        trail = house.foundation.audit.trail
        trail.begin(call_of("tools/call", "left"))
        dead = trail.journal.chain
    (folder / f"{dead}.head").unlink()  # as if it had been killed
    async with open_house(settings_in(tmp_path)) as house:
        room = house.foundation.audit
        await reached(lambda: "settled" in names(folder))
        await reached(lambda: room.behind == 0)
        total, lines = await room.log.find({"outcome": "unknown"}, None, None, skip=0, limit=9)
        assert total == 1
        unknown = msgspec.json.decode(lines[0])
        assert (unknown["of"], unknown["start"], unknown["name"]) == (dead, 2, "left")
        await reached(lambda: getattr(read_head(folder, dead), "is_closed", False))
        keys = room.keys
    assert verify(folder, keys).findings == []


async def test_old_files_are_let_go(room: AuditRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    await room.journal.wait_durable(room.journal.tip.sequence)
    room.journal._day = -1  # as if it had been begun long ago
    await reached(lambda: room.journal.number == 2)
    first = min(room.folder.glob("*.jsonl"))
    room.trail.note("in the second file")
    os.utime(first, (1000, 1000))
    monkeypatch.setattr(audit_module, "PRUNE_S", 0.0)
    room._prune_at_s = 0.0
    await reached(lambda: "pruned" in names(room.folder))
    assert not first.exists()
    stone = read_tombstone(room.folder, room.journal.chain)
    assert stone is not None
    assert stone.count == 1
    assert verify(room.folder, room.keys).findings == []


async def test_what_waits_is_written_once_it_can_be(room: AuditRoom) -> None:
    room.trail.waiting.append(b'"kind":"outcome","name":"late","at":"2026-07-28T12:00:00.000Z"')
    await reached(lambda: "late" in names(room.folder))
    assert not room.trail.waiting


async def test_a_database_that_fails_costs_no_record(
    room: AuditRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def fail(*_: Any) -> None:
        asked.append("")
        raise StorageError("away")

    with monkeypatch.context() as patch:
        patch.setattr(room.log, "put", fail)
        patch.setattr(room.log, "put_head", fail)
        room.trail.note("while it is away")
        await reached(lambda: len(asked) > 4)
    await reached(lambda: room.behind == 0)
    total, _ = await room.log.find({"name": "while it is away"}, None, None, skip=0, limit=9)
    assert total == 1


async def test_the_document_is_followed(room: AuditRoom) -> None:
    room.follow(AuditSection(sync_ms=7, rotate_mb=2, clear_arguments=("x",), door_refusals_per_s=3))
    assert room.journal.options.sync_s == 0.007
    assert room.journal.options.rotate_bytes == 2 * 1024 * 1024
    assert room.trail.rules.clear == ("x",)
    assert room.trail.rules.refusals_per_s == 3
    await reached(lambda: bool(lines_in(room.folder)))
    assert len(lines_in(room.folder)) == 1
