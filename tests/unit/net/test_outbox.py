from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from waygate_mcp.net.outbox import Outbox


class Loop:
    """Work that notes what it does; what it writes goes through the outbox, as those do who use one."""

    def __init__(self) -> None:
        self.outbox = Outbox.here()
        self.outbox.load = 2
        self.notes: list[str] = []

    def work(self, name: str, *, then: Callable[[], None] | None = None) -> None:
        """Put work into the queue that writes when it is done."""

        def run() -> None:
            self.notes.append(f"work {name}")
            self.write(name)
            if then is not None:
                then()

        asyncio.get_running_loop().call_soon(run)
        self.outbox.expect()

    def write(self, name: str) -> None:
        def write() -> None:
            self.notes.append(f"write {name}")

        if self.outbox.is_open:
            self.outbox.add(write)
        else:
            write()


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_request_that_is_alone_is_written_at_once() -> None:
    loop = Loop()
    loop.outbox.load = 1
    loop.work("a")
    loop.work("b")
    assert not loop.outbox.is_open
    await turns(1)
    assert loop.notes == ["work a", "write a", "work b", "write b"]


async def test_the_only_work_of_a_turn_is_written_right_behind_it() -> None:
    loop = Loop()
    loop.work("a")
    asyncio.get_running_loop().call_soon(loop.notes.append, "what came later")
    await turns(1)
    assert loop.notes == ["work a", "write a", "what came later"]
    assert not loop.outbox.is_open


async def test_what_several_write_in_a_turn_is_written_behind_all_of_them() -> None:
    loop = Loop()
    for name in "abc":
        loop.work(name)
    await turns(3)
    assert loop.notes == [*(f"work {n}" for n in "abc"), *(f"write {n}" for n in "abc")]
    assert not loop.outbox.is_open


async def test_where_nobody_is_expected_nothing_is_kept() -> None:
    loop = Loop()
    loop.write("a")
    assert loop.notes == ["write a"]


async def test_under_load_that_never_ends_every_write_waits_for_a_turn_at_most() -> None:
    """Each work begins two more, as a server that always has something to read."""
    loop = Loop()
    begun = 0

    def more() -> None:
        nonlocal begun
        if begun < 200:
            begun += 2
            loop.work(f"{begun}", then=more)
            loop.work(f"{begun + 1}", then=more)

    loop.work("0", then=more)
    loop.work("1", then=more)
    seen: list[list[str]] = []
    for _ in range(60):
        seen.append(loop.notes.copy())
        await turns(1)
    assert not loop.outbox.is_open
    for number in range(202):
        worked, written = (
            next(turn for turn, notes in enumerate(seen) if f"{what} {number}" in notes)
            for what in ("work", "write")
        )
        assert written - worked <= 1, f"{number} waited for {written - worked} turns"


async def test_a_write_that_fails_takes_no_other_with_it() -> None:
    loop = Loop()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)

    def fail() -> None:
        raise OSError("gone")

    loop.outbox.expect()
    loop.write("a")
    loop.outbox.add(fail)
    loop.write("b")
    await turns(3)
    assert loop.notes == ["write a", "write b"]
    loop.write("c")
    assert loop.notes[-1] == "write c"


def test_each_loop_has_its_own() -> None:
    async def here() -> Outbox:
        assert Outbox.here() is Outbox.here()
        Outbox.here().expect()  # it ends before its turn does
        return Outbox.here()

    first, second = asyncio.run(here()), asyncio.run(here())
    assert first is not second


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_expecting_in_vain_costs_nothing(count: int) -> None:
    outbox = Outbox.here()
    outbox.load = count
    for _ in range(count):
        outbox.expect()
    assert outbox.is_open == (count > 1)
    await turns(4)
    assert not outbox.is_open
