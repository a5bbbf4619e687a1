"""Where lines end: streams that stall or close, files that are rotated, disks that are full."""

from __future__ import annotations

import fcntl
import json
import os
import select
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from waygate_mcp.telemetry.logs import RequestRecord
from waygate_mcp.telemetry.sinks import FileSink, StreamSink, render_line

LINE = {"timestamp": "2026-07-28T12:00:00.123Z", "level": "info", "event": "hello", "n": 1}


def batch(*lines: dict[str, Any]) -> tuple[list[Any], bytes]:
    return list(lines), b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            continue


def test_a_stream_gets_the_lines_as_json(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    assert StreamSink(writer).write(*batch(LINE, LINE)) == 0
    assert [json.loads(line) for line in os.read(reader, 10_000).splitlines()] == [LINE, LINE]


def test_a_stream_for_people_gets_text(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    record = RequestRecord(
        request_id="r1", door="http", method="POST", path="/mcp", status=200, duration_ms=1.5
    )
    StreamSink(writer, console=True).write([LINE, record], b"unused")
    first, second = os.read(reader, 10_000).decode().splitlines()
    assert first == "12:00:00.123 info     hello  n=1"
    assert "request_id=r1" in second
    assert "status=200" in second


def test_a_reader_that_stops_costs_lines_but_no_waiting(pipe: tuple[int, int]) -> None:
    _, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    sink = StreamSink(writer, stall_s=0)
    lines, encoded = batch(*[LINE] * 200)
    lost = sink.write(lines, encoded)
    assert 0 < lost < 200
    assert sink.write(*batch(LINE)) == 1


def test_a_reader_that_stopped_is_waited_for_once(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    class NeverReady:
        def register(self, *_: int) -> None:
            pass

        def poll(self, timeout_ms: float) -> list[tuple[int, int]]:
            waits.append(timeout_ms)
            return []

    monkeypatch.setattr(select, "poll", NeverReady)
    sink = StreamSink(pipe[1], stall_s=5)
    assert [sink.write(*batch(LINE)) for _ in range(3)] == [1, 1, 1]
    assert waits[0] == pytest.approx(5000, abs=500)
    assert waits[1:] == [0, 0]


def test_after_a_stall_the_next_line_stands_alone(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    sink = StreamSink(writer, stall_s=0)
    lost = sink.write(*batch(*[LINE] * 200))
    read = os.read(reader, 65536)
    assert not read.endswith(b"\n")
    assert sink.write(*batch(LINE)) == 0
    after = os.read(reader, 65536)
    whole = [line for line in (read + after).splitlines() if _is_json(line)]
    assert json.loads(after.splitlines()[-1]) == LINE
    assert len(whole) == 200 - lost + 1


def test_a_pipe_takes_a_batch_in_one_write_and_makes_nobody_else_wait_less(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = pipe
    writes: list[int] = []
    real = os.write

    def counted(descriptor: int, data: Any) -> int:
        writes.append(descriptor)
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", counted)
    sink = StreamSink(writer)
    lines, encoded = batch(*[LINE] * 200)
    assert len(encoded) > 4096
    assert sink.write(lines, encoded) == 0
    assert len(writes) == 1
    assert writes[0] != writer
    assert os.read(reader, 65536) == encoded
    assert os.get_blocking(writer)
    sink.close()
    assert sink.write(*batch(LINE)) == 0
    assert writes[-1] == writer


def test_a_pipe_that_cannot_be_opened_again_is_written_in_pieces(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise OSError

    monkeypatch.setattr(os, "open", refused)
    reader, writer = pipe
    lines, encoded = batch(*[LINE] * 200)
    assert StreamSink(writer).write(lines, encoded) == 0
    assert os.read(reader, 65536) == encoded


def test_a_file_takes_a_batch_in_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    sizes: list[int] = []
    real = os.write

    def counted(to: int, data: Any) -> int:
        sizes.append(len(data))
        return real(to, data)

    monkeypatch.setattr(os, "write", counted)
    lines, encoded = batch(*[LINE] * 200)
    assert StreamSink(descriptor).write(lines, encoded) == 0
    os.close(descriptor)
    assert sizes == [len(encoded)]


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def test_a_descriptor_that_does_not_wait_is_not_waited_for(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, writer = pipe

    def full(*_: object) -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "write", full)
    assert StreamSink(writer, stall_s=0).write(*batch(LINE)) == 1
    assert StreamSink(writer, stall_s=0.01).write(*batch(LINE)) == 1


def test_a_closed_reader_is_an_error_of_the_sink(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        StreamSink(writer).write(*batch(LINE))


def test_closing_a_stream_leaves_the_descriptor_open(pipe: tuple[int, int]) -> None:
    _, writer = pipe
    StreamSink(writer).close()
    os.write(writer, b"x")


def test_a_file_is_made_for_its_owner_only_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "waygate.log"
    for _ in range(2):
        sink = FileSink(path)
        sink.write(*batch(LINE))
        sink.close()
    assert len(path.read_text().splitlines()) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_has_grown_is_moved_aside_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "waygate.log"
    sink = FileSink(path, rotate_bytes=200, rotate_files=3)
    for number in range(40):
        sink.write(*batch({"number": number, "fill": "x" * 60}))
    sink.close()
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["waygate.log", "waygate.log.1", "waygate.log.2", "waygate.log.3"]
    assert all(file.stat().st_size <= 200 for file in tmp_path.iterdir())
    text = "".join((tmp_path / name).read_text() for name in reversed(names))
    numbers = [json.loads(line)["number"] for line in text.splitlines()]
    assert numbers == list(range(40 - len(numbers), 40))


def test_a_batch_larger_than_a_file_still_gets_written(tmp_path: Path) -> None:
    path = tmp_path / "waygate.log"
    sink = FileSink(path, rotate_bytes=10)
    sink.write(*batch(LINE))
    sink.write(*batch(LINE))
    assert path.read_bytes() == (tmp_path / "waygate.log.1").read_bytes() != b""


def test_several_writers_share_one_file_and_lose_nothing_when_it_is_rotated(tmp_path: Path) -> None:
    path = tmp_path / "waygate.log"
    writers = [FileSink(path, rotate_bytes=500, rotate_files=1000) for _ in range(4)]
    for number in range(400):
        writers[number % 4].write(*batch({"number": number}))
    for writer in writers:
        writer.close()
    numbers = [
        json.loads(line)["number"]
        for file in tmp_path.iterdir()
        for line in file.read_text().splitlines()
    ]
    assert sorted(numbers) == list(range(400))
    assert len(list(tmp_path.iterdir())) > 10


def test_who_waited_for_the_lock_does_not_rotate_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "waygate.log"
    first, second = FileSink(path, rotate_bytes=100), FileSink(path, rotate_bytes=100)
    first.write(*batch(LINE))
    second.write(*batch({"x": 1}))
    real = fcntl.flock
    raced: list[int] = []

    def lose_the_race(descriptor: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not raced:
            raced.append(descriptor)
            first.write(*batch(LINE))
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", lose_the_race)
    second.write(*batch(LINE))
    assert raced
    files = {file.name: len(file.read_text().splitlines()) for file in tmp_path.iterdir()}
    assert files == {"waygate.log": 2, "waygate.log.1": 2}


def test_a_file_that_was_moved_or_removed_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "waygate.log"
    sink = FileSink(path)
    sink.write(*batch(LINE))
    path.unlink()
    sink.write(*batch(LINE))
    assert len(path.read_text().splitlines()) == 1


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("")
    (tmp_path / "waygate.log").symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        FileSink(tmp_path / "waygate.log").write(*batch(LINE))
    assert target.read_text() == ""


def test_a_full_disk_is_an_error_and_what_comes_after_stands_on_a_line_of_its_own(
    tmp_path: Path,
) -> None:
    room = [10]

    def write(descriptor: int, data: bytes) -> int:
        written = os.write(descriptor, data[: room[0]])
        room[0] -= written
        return written

    path = tmp_path / "waygate.log"
    sink = FileSink(path, write=write)
    with pytest.raises(OSError, match="No space"):
        sink.write(*batch(LINE))
    room[0] = 10_000
    sink.write(*batch(LINE))
    torn, whole = path.read_bytes().splitlines()
    assert len(torn) == 10
    assert json.loads(whole) == LINE


def test_one_event_is_one_line_whatever_it_holds() -> None:
    hostile = {**LINE, "event": "a\nb\x1b[2J", "x\ny": "c\nd\u202e", "list": ["e\nf"]}
    text = render_line(hostile)
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_text_with_blanks_is_quoted_and_empty_text_is_seen() -> None:
    text = render_line({**LINE, "a": "b c", "d": ""})
    assert 'a="b c" d=""' in text


def test_a_traceback_is_set_below_its_line() -> None:
    text = render_line({**LINE, "exception": "Traceback:\n  File x\x1b"})
    assert text.splitlines()[1:] == ["    Traceback:", "      File x\\u001b"]


def test_colours_are_for_terminals() -> None:
    line = {**LINE, "level": "error"}
    assert "\x1b" not in render_line(line)
    assert render_line(line, colour=True).startswith("\x1b[31m")
    assert render_line(LINE, colour=True) == render_line(LINE)
