"""The order of things in the background writer, without a database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.exc import OperationalError

from waygate_mcp.errors import StorageError
from waygate_mcp.runtime.tasks import TaskSupervisor
from waygate_mcp.storage.writer import BackgroundWriter


class Recorded:
    """As much of a database as the writer uses: each transaction's writes."""

    def __init__(self) -> None:
        self.transactions: list[list[Any]] = []

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[list[Any]]:
        writes: list[Any] = []
        yield writes
        self.transactions.append(writes)


async def first(connection: Any, records: Sequence[Any]) -> None:
    connection.append(("first", list(records)))


async def second(connection: Any, records: Sequence[Any]) -> None:
    connection.append(("second", list(records)))


async def test_records_of_one_kind_are_written_together_and_in_their_order() -> None:
    database: Any = Recorded()
    async with (
        TaskSupervisor() as supervisor,
        BackgroundWriter(database, supervisor, lambda _: None, gather_s=0) as writer,
    ):
        writer.add(first, 1)
        writer.add(second, 2)
        writer.add(first, 3)
        assert len(writer) == 3
        await writer.flush()
        assert database.transactions == [[("first", [1, 3]), ("second", [2])]]


async def test_closing_twice_is_closing_once() -> None:
    database: Any = Recorded()
    async with (
        TaskSupervisor() as supervisor,
        BackgroundWriter(database, supervisor, lambda _: None) as writer,
    ):
        writer.add(first, 1)
        await writer.close()
        await writer.close()
    assert database.transactions == [[("first", [1])]]


async def test_an_error_of_the_machine_is_tried_again_and_one_of_the_record_is_not() -> None:
    database: Any = Recorded()
    tries: list[int] = []
    dropped: list[str] = []

    async def fails(connection: Any, records: Sequence[Any]) -> None:
        tries.extend(records)
        if len(tries) == 1:
            cause = OperationalError("", {}, Exception("disk is full"))
            raise StorageError("disk is full") from cause
        if 7 in records:
            raise ValueError("no such text")

    async with (
        TaskSupervisor() as supervisor,
        BackgroundWriter(database, supervisor, dropped.append, gather_s=0) as writer,
    ):
        writer.add(fails, 1)
        await writer.flush()
        assert (tries, dropped) == ([1, 1], [])
        writer.add(fails, 7)
        await writer.flush()
        assert dropped == ["refused"]
