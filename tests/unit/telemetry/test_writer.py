"""The thread that writes: nothing is lost in silence, and nobody waits for it."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from waygate_mcp.telemetry.sinks import FileSink, StreamSink
from waygate_mcp.telemetry.writer import LineWriter

WAIT_S = 10.0


class ListSink:
    """Keeps what it gets; fails while `fails` is set; waits while `gate` is closed."""

    def __init__(self, name: str = "list") -> None:
        self.name = name
        self.lines: list[dict[str, Any]] = []
        self.fails: OSError | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.closed = False

    def write(self, lines: Sequence[Any], encoded: bytes) -> int:
        self.entered.set()
        assert self.gate.wait(WAIT_S)
        if self.fails is not None:
            raise self.fails
        self.lines.extend(json.loads(line) for line in encoded.splitlines())
        return 0

    def close(self) -> None:
        self.closed = True

    @property
    def events(self) -> list[str]:
        return [line.get("event", "") for line in self.lines]


def writer_to(*sinks: Any, **more: Any) -> LineWriter:
    return LineWriter(sinks, gather_s=0, stamp=lambda: "now", **more)


def test_lines_come_out_in_order_and_closing_writes_what_is_left() -> None:
    sink = ListSink()
    writer = writer_to(sink)
    writer.start()
    for number in range(1000):
        writer.put({"number": number})
    writer.close()
    assert [line["number"] for line in sink.lines] == list(range(1000))
    assert sink.closed


def test_lines_queued_before_the_start_are_written() -> None:
    sink = ListSink()
    writer = writer_to(sink)
    writer.put({"event": "early"})
    writer.start()
    writer.start()
    writer.close()
    writer.close()
    assert sink.events == ["early"]


def test_an_idle_thread_is_woken_by_a_line() -> None:
    sink = ListSink()
    writer = writer_to(sink)
    writer.start()
    try:
        for _ in range(50):
            sink.entered.clear()
            writer.put({"event": "x"})
            assert sink.entered.wait(WAIT_S)
    finally:
        writer.close()
    assert len(sink.lines) == 50


def test_a_line_queued_just_before_the_thread_idles_is_not_left_lying() -> None:
    sink = ListSink()

    class Racing(LineWriter):
        raced = False

        @property
        def idle(self) -> bool:
            return False

        @idle.setter
        def idle(self, value: bool) -> None:
            if value and not self.raced:
                self.raced = True
                self.queue.append({"event": "in between"})

    writer = Racing([sink], gather_s=0)
    writer.start()
    try:
        assert sink.entered.wait(WAIT_S)
    finally:
        writer.close()
    assert sink.events == ["in between"]


def test_a_full_queue_drops_lines_and_says_so_when_there_is_room() -> None:
    sink = ListSink()
    sink.gate.clear()
    writer = writer_to(sink, queue_lines=10)
    writer.start()
    writer.put({"event": "first"})
    assert sink.entered.wait(WAIT_S)
    for _ in range(25):
        writer.put({"event": "more"})
    assert writer.dropped == 15
    sink.gate.set()
    writer.close()
    assert sink.events == ["first", *["more"] * 10, "log_lines_dropped"]
    assert sink.lines[-1]["count"] == 15
    assert sink.lines[-1]["level"] == "warning"


def test_drops_are_told_once_each() -> None:
    sink = ListSink()
    writer = writer_to(sink, queue_lines=1)
    for _ in range(2):
        writer.put({"event": "a"})
        writer.put({"event": "b"})
        writer.drain()
    writer.drain()
    assert [line.get("count") for line in sink.lines] == [None, 1, None, 1]


def test_a_sink_that_fails_is_told_to_the_others_once_and_its_recovery_too() -> None:
    broken, good = ListSink("file"), ListSink("stream")
    writer = writer_to(broken, good)
    broken.fails = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for _ in range(3):
        writer.put({"event": "a"})
        writer.drain()
    assert good.events == ["log_sink_failed", "a", "a", "a"]
    assert good.lines[0]["sink"] == "file"
    assert "No space" in good.lines[0]["error"]
    assert writer.lost == 3
    broken.fails = None
    writer.put({"event": "b"})
    writer.drain()
    assert broken.events == ["b", "log_sink_recovered"]
    assert broken.lines[-1]["lines_lost"] == 3
    assert good.events[4:] == ["log_sink_recovered", "b"]


def test_when_every_sink_fails_nothing_is_raised_and_all_is_counted() -> None:
    first, second = ListSink("one"), ListSink("two")
    first.fails = second.fails = BrokenPipeError(errno.EPIPE, "Broken pipe")
    writer = writer_to(first, second)
    writer.start()
    for _ in range(10):
        writer.put({"event": "a"})
    writer.close()
    assert writer.lost >= 20
    assert first.closed


def test_a_line_that_cannot_be_encoded_does_not_take_others_with_it() -> None:
    sink = ListSink()
    writer = writer_to(sink)
    writer.put({"event": "before"})
    writer.put({"event": "\ud800"})
    writer.put({"event": object()})
    writer.put({"event": "after"})
    writer.drain()
    assert sink.events == ["before", "log_line_not_encodable", "<object>", "after"]


def test_closing_gives_up_on_a_sink_that_hangs() -> None:
    sink = ListSink()
    sink.gate.clear()
    writer = writer_to(sink)
    writer.start()
    writer.put({"event": "x"})
    assert sink.entered.wait(WAIT_S)
    writer.close(timeout_s=0.01)
    sink.gate.set()


def test_a_full_disk_is_survived_and_seen_on_the_stream(tmp_path: Path) -> None:
    room = [120]

    def write(descriptor: int, data: bytes) -> int:
        if room[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.write(descriptor, data[: room[0]])
        room[0] -= written
        return written

    reader, stream = os.pipe()
    path = tmp_path / "waygate.log"
    sink = StreamSink(stream)
    writer = writer_to(sink, FileSink(path, write=write))
    for number in range(20):
        writer.put({"event": "line", "number": number})
        writer.drain()
    room[0] = 10_000
    writer.put({"event": "line", "number": 20})
    writer.drain()
    sink.close()
    os.close(stream)
    with os.fdopen(reader, "rb") as handle:
        seen = [json.loads(line)["event"] for line in handle.read().splitlines()]
    assert seen.count("line") == 21
    assert seen.count("log_sink_failed") == 1
    assert seen.count("log_sink_recovered") == 1
    last = [json.loads(line) for line in path.read_text().splitlines()[-2:]]
    assert last[0]["number"] == 20
    assert last[1]["lines_lost"] == writer.lost > 0


@pytest.mark.parametrize("console", [False, True])
def test_a_closed_pipe_is_survived_and_seen_in_the_file(tmp_path: Path, console: bool) -> None:
    reader, stream = os.pipe()
    os.close(reader)
    path = tmp_path / "waygate.log"
    writer = writer_to(StreamSink(stream, console=console), FileSink(path))
    writer.start()
    for _ in range(5):
        writer.put({"event": "line"})
    writer.close()
    os.close(stream)
    events = [json.loads(line)["event"] for line in path.read_text().splitlines()]
    assert events.count("line") == 5
    assert events.count("log_sink_failed") == 1
