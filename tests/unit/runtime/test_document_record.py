"""The history is kept in step with what is in force, and holds nothing up."""

from __future__ import annotations

from pathlib import Path

from tests.support.house import open_house, settings_in
from waygate_mcp.runtime.document_record import DocumentRecord
from waygate_mcp.runtime.tasks import TaskSupervisor
from waygate_mcp.storage.config_history import ConfigHistory


async def test_a_document_that_is_loaded_is_noted_once(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, {"limits": {"page_size": 5}})) as house:
        history = ConfigHistory(house.foundation.database, house.clock.now)
        record = DocumentRecord(history, house.supervisor, lambda: house.reloader.text)
        for _ in range(2):
            await record.note("again")
            await house.reload("again")
        total, (entry,) = await history.page(skip=0, limit=10)
        assert (total, entry.applied_by, entry.text) == (1, "file", '{"limits": {"page_size": 5}}')


async def test_a_look_that_began_comes_to_its_end(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, {})) as house:
        history = ConfigHistory(house.foundation.database, house.clock.now)
        record = DocumentRecord(history, house.supervisor, lambda: b"x: 1")
        record.look("as it closes")
        await record.close()
        assert (await history.page(skip=0, limit=1))[0] == 1
        await record.close()


async def test_a_house_that_closes_is_no_fault(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, {})) as house:
        async with TaskSupervisor() as supervisor:
            pass
        history = ConfigHistory(house.foundation.database, house.clock.now)
        record = DocumentRecord(history, supervisor, lambda: b"x")
        record.look("too late")
        assert not record.lock.locked()
