"""A stream's events, numbered and kept for a client that lost it."""

from __future__ import annotations

from typing import Any

import pytest

from waygate_mcp.gateway.stream_buffer import Shelf, StreamBuffer, StreamLimits, parse_event_id


class Reader:
    """Remembers what it was written."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.ended = 0

    async def write(self, event_id: str, message: bytes) -> None:
        self.got.append((event_id, message))

    def end(self) -> None:
        self.ended += 1


async def filled(count: int, **limits: Any) -> StreamBuffer:
    stream = StreamBuffer("s", StreamLimits(**limits))
    for number in range(1, count + 1):
        await stream.append(b"m%d" % number, 0)
    return stream


def numbers(stream: StreamBuffer, after: int) -> list[str] | None:
    events = stream.since(after)
    return None if events is None else [event_id for event_id, _ in events]


@pytest.mark.parametrize(
    ("event_id", "parsed"),
    [
        ("abc-0", ("abc", 0)),
        ("a-b-12", ("a-b", 12)),
        ("-1", None),
        ("abc", None),
        ("abc-", None),
        ("abc-x", None),
        ("abc-²", None),
        ("abc-" + "9" * 13, None),
        ("", None),
    ],
)
def test_an_event_id_is_a_stream_and_a_number(
    event_id: str, parsed: tuple[str, int] | None
) -> None:
    assert parse_event_id(event_id) == parsed


async def test_events_are_numbered_from_one_and_written_to_the_reader() -> None:
    stream, reader = StreamBuffer("s", StreamLimits()), Reader()
    await stream.append(b"before", 0)
    attached = [stream.is_attached]
    stream.attach(reader.write)
    attached.append(stream.is_attached)
    assert attached == [False, True]
    await stream.append(b"after", 0)
    assert reader.got == [("s-2", b"after")]
    assert stream.since(0) == [("s-1", b"before"), ("s-2", b"after")]
    assert stream.since(1) == [("s-2", b"after")]
    assert stream.since(2) == []


async def test_a_number_that_was_never_given_is_unknown() -> None:
    stream = await filled(2)
    assert stream.since(3) is None


async def test_the_place_to_resume_from_is_behind_the_last_event() -> None:
    stream = StreamBuffer("s", StreamLimits())
    assert stream.priming_id == "s-0"
    await stream.append(b"1", 0)
    assert stream.priming_id == "s-1"
    assert stream.since(1) == []


async def test_only_so_many_events_are_kept() -> None:
    stream = await filled(5, events=3)
    assert numbers(stream, 2) == ["s-3", "s-4", "s-5"]
    assert numbers(stream, 1) is None


async def test_only_so_many_bytes_are_kept_but_always_the_last_event() -> None:
    stream = await filled(5, size_bytes=4)
    assert numbers(stream, 3) == ["s-4", "s-5"]
    await stream.append(b"x" * 100, 0)
    assert numbers(stream, 5) == ["s-6"]
    assert numbers(stream, 4) is None
    await stream.append(b"y", 0)
    assert numbers(stream, 6) == ["s-7"]


async def test_a_newer_reader_takes_over_and_the_older_cannot_take_it_off() -> None:
    stream, older, newer = StreamBuffer("s", StreamLimits()), Reader(), Reader()
    stream.attach(older.write)
    stream.attach(newer.write)
    stream.detach(older.write)
    await stream.append(b"1", 0)
    assert (older.got, newer.got) == ([], [("s-1", b"1")])
    stream.detach(newer.write)
    assert not stream.is_attached


async def test_the_reader_is_told_of_the_end() -> None:
    stream, reader = StreamBuffer("s", StreamLimits()), Reader()
    stream.complete(5)
    stream.attach(reader.write, reader.end)
    stream.complete(6)
    assert (reader.ended, stream.is_complete, stream.touched_s) == (1, True, 6)


async def test_a_reader_that_is_to_leave_is_told_and_gets_nothing_more() -> None:
    stream, reader = StreamBuffer("s", StreamLimits()), Reader()
    stream.close_reader()
    stream.attach(reader.write, reader.end)
    stream.close_reader()
    await stream.append(b"kept", 0)
    assert (reader.ended, reader.got) == (1, [])
    assert numbers(stream, 0) == ["s-1"]
    stream.complete(0)
    assert reader.ended == 1


async def test_a_stream_is_forgotten_some_time_after_its_end_only() -> None:
    stream = StreamBuffer("s", StreamLimits(age_s=10))
    await stream.append(b"1", 100)
    assert not stream.is_stale(10_000)
    stream.complete(200)
    assert not stream.is_stale(210)
    assert stream.is_stale(210.1)


# --- the streams of all sessions together


async def finished(shelf: Shelf, name: str, size: int, now_s: float) -> StreamBuffer:
    stream = StreamBuffer(name, StreamLimits(age_s=10), shelf)
    await stream.append(b"x" * size, now_s)
    stream.complete(now_s)
    return stream


async def test_finished_streams_share_one_limit_and_the_oldest_are_emptied_first() -> None:
    shelf = Shelf(100)
    streams = [await finished(shelf, str(number), 40, 0) for number in range(3)]
    assert [numbers(stream, 0) for stream in streams] == [None, ["1-1"], ["2-1"]]
    assert numbers(streams[0], 1) == []  # its end is known, its events are not
    assert shelf.size_bytes == 80
    await finished(shelf, "huge", 101, 0)
    assert shelf.size_bytes == 0


async def test_streams_whose_time_is_up_are_emptied_when_the_next_one_ends() -> None:
    shelf = Shelf()
    old = await finished(shelf, "old", 40, 0)
    await finished(shelf, "new", 1, 10.5)
    assert numbers(old, 0) is None
    assert shelf.size_bytes == 1


async def test_streams_under_way_take_no_room_on_the_shelf() -> None:
    shelf = Shelf(10)
    stream = StreamBuffer("s", StreamLimits(), shelf)
    await stream.append(b"x" * 50, 0)
    assert (shelf.size_bytes, numbers(stream, 0)) == (0, ["s-1"])
