from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from waygate_mcp.net.outbox import Outbox
from waygate_mcp.web.outlet import Outlet


class Client(asyncio.Transport):
    """A transport that notes each write, in one list with those of others."""

    def __init__(self, name: str, notes: list[tuple[str, bytes]]) -> None:
        super().__init__({"peername": name})
        self.name = name
        self.notes = notes
        self.is_gone = False

    def write(self, data: object) -> None:
        assert not self.is_gone, "a transport that is gone takes nothing"
        assert isinstance(data, bytes)
        self.notes.append((self.name, data))

    def writelines(self, list_of_data: Iterable[object]) -> None:
        for data in list_of_data:
            self.write(data)

    def is_closing(self) -> bool:
        return self.is_gone

    def close(self) -> None:
        self.is_gone = True
        self.notes.append((self.name, b"<closed>"))

    def abort(self) -> None:
        self.is_gone = True

    def pause_reading(self) -> None:
        self.notes.append((self.name, b"<paused>"))

    def resume_reading(self) -> None:
        self.notes.append((self.name, b"<resumed>"))


class House:
    """Two clients of one server."""

    def __init__(self) -> None:
        self.outbox = Outbox.here()
        self.notes: list[tuple[str, bytes]] = []
        self.a, self.b = Client("a", self.notes), Client("b", self.notes)
        self.to_a = Outlet(self.a, self.outbox)
        self.to_b = Outlet(self.b, self.outbox)
        self.outbox.load = 2
        self.outbox.expect()


async def test_what_one_turn_says_is_written_together_at_its_end() -> None:
    house = House()
    house.to_a.write(b"1")
    house.to_b.write(b"2")
    house.to_a.write(b"3")
    assert house.notes == []
    await asyncio.sleep(0)
    assert house.notes == [("a", b"13"), ("b", b"2")]
    house.to_b.write(b"4")  # nobody said that there will be more
    assert house.notes[2:] == [("b", b"4")]


async def test_closing_writes_first() -> None:
    house = House()
    house.to_a.write(b"last words")
    house.to_a.close()
    assert house.notes == [("a", b"last words"), ("a", b"<closed>")]
    await asyncio.sleep(0)
    assert len(house.notes) == 2


async def test_what_is_large_goes_at_once_and_in_its_order() -> None:
    house = House()
    large = b"x" * 70_000
    house.to_a.write(b"before")
    house.to_a.write(large)
    assert house.notes == [("a", b"before"), ("a", large)]
    house.to_a.write(b"after")
    house.to_a.writelines([b"many", b"parts"])
    assert house.notes[2:] == [("a", b"after"), ("a", b"many"), ("a", b"parts")]


async def test_a_turn_that_never_ends_does_not_gather_without_limit() -> None:
    """Else whoever writes in a circle would never be told that the client does not read."""
    house = House()
    for _ in range(100):
        house.to_a.write(b"y" * 1_000)
    assert sum(len(data) for _, data in house.notes) >= 64 * 1024
    await asyncio.sleep(0)
    assert b"".join(data for _, data in house.notes) == b"y" * 100_000


@pytest.mark.parametrize("how", ["lost", "aborted"])
async def test_nothing_is_written_to_a_connection_that_is_gone(how: str) -> None:
    house = House()
    house.to_a.write(b"to nobody")
    house.to_b.write(b"to somebody")
    if how == "lost":
        house.a.is_gone = True
    else:
        house.to_a.abort()
    await asyncio.sleep(0)
    assert house.notes == [("b", b"to somebody")]


async def test_all_else_is_the_transports_own() -> None:
    house = House()
    assert house.to_a.get_extra_info("peername") == "a"
    house.to_a.pause_reading()
    house.to_a.resume_reading()
    assert house.notes == [("a", b"<paused>"), ("a", b"<resumed>")]
    assert not house.to_a.is_closing()
    house.a.is_gone = True
    assert house.to_a.is_closing()
    with pytest.raises(NotImplementedError):
        house.to_a.get_write_buffer_size()
