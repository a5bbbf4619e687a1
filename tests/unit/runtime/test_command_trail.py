from __future__ import annotations

from pathlib import Path

from tests.support.house import settings_in
from waygate_mcp.audit.files import FOLDER
from waygate_mcp.audit.keys import AuditKeys
from waygate_mcp.audit.verify import verify
from waygate_mcp.runtime.command_trail import command_trail
from waygate_mcp.runtime.opening import open_database

MASTER = b"m" * 40


async def test_what_a_command_records_is_a_chain_of_its_own_closed_at_its_end(
    tmp_path: Path,
) -> None:
    settings = settings_in(tmp_path)
    for _ in range(2):
        async with (
            open_database(settings) as database,
            command_trail(settings, MASTER, database) as trail,
        ):
            trail.record("keys.create", principal="local", details={"id": "abc"})
    lines = "".join(
        file.read_text() for file in sorted((tmp_path / "data" / FOLDER).rglob("*.jsonl"))
    )
    assert lines.count('"keys.create"') == 2
    assert len(set((tmp_path / "data" / FOLDER).rglob("*.jsonl"))) == 2
    report = verify(tmp_path / "data" / FOLDER, AuditKeys(MASTER), ())
    assert report.findings == []


async def test_one_that_records_nothing_leaves_nothing_behind(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    async with open_database(settings) as database, command_trail(settings, MASTER, database):
        pass
    assert not list((tmp_path / "data").rglob("*.jsonl"))
