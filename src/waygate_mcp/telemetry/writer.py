"""Log lines on their way out: one thread, one bounded queue, any number of sinks.

Knows how to write without ever holding up the event loop: lines are queued by a plain append and
encoded and written by a daemon thread. A queue that is full drops lines and says so when there is
room again; a sink that fails loses its lines, counts them, and is reported once. Refuses to know
what is in a line.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from waygate_mcp.telemetry.timestamps import Stamp

QUEUE_LINES = 50_000
GATHER_S = 0.05
"""How long lines may gather before they are written together."""
BATCH_LINES = 1_024
CLOSE_S = 3.0

Line = Any
"""A mapping or struct of plain JSON values."""


class Sink(Protocol):
    """Where batches of lines go. Used by the writer's thread alone."""

    name: str

    def write(self, lines: Sequence[Line], encoded: bytes) -> int:
        """Write a batch, given as values and as JSON lines; give how many lines were lost.

        Raises:
            OSError: the whole batch is lost.
        """

    def close(self) -> None:
        """Let go of whatever is open."""


class LineWriter:
    """Owns the queue and the thread. Constructed idle; `start` and `close` bound its life."""

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        queue_lines: int = QUEUE_LINES,
        gather_s: float = GATHER_S,
        stamp: Callable[[], str] | None = None,
    ) -> None:
        self.queue: deque[Line] = deque()
        self.queue_lines = queue_lines
        self.idle = False
        self.dropped = 0
        """Lines that found the queue full, since the start. Written by whoever queues."""
        self.lost = 0
        """Lines a sink could not write, since the start; counted for each sink."""
        self._sinks = tuple(sinks)
        self._failed: dict[str, int] = {}
        self._reported = 0
        self._gather_s = gather_s
        self._stamp = stamp or Stamp().now
        self._encoder = msgspec.json.Encoder(enc_hook=lambda value: f"<{type(value).__name__}>")
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; lines queued before are written first."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="waygate-log", daemon=True)
            self._thread.start()
            atexit.register(self.close)

    def put(self, line: Line) -> None:
        """Queue one line; never waits. A full queue drops it and counts it."""
        if len(self.queue) >= self.queue_lines:
            self.dropped += 1
            return
        self.queue.append(line)
        if self.idle:
            self.wake()

    def wake(self) -> None:
        """Tell the idle thread that there are lines."""
        self.idle = False
        self._wake.set()

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Write what is queued and end the thread; gives up after `timeout_s` seconds."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        atexit.unregister(self.close)
        self._stopping.set()
        self._wake.set()
        thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.idle = True
            # Looked at again after `idle` is set: a line queued in between wakes nobody.
            if not self.queue:
                self._wake.wait()
            self._wake.clear()
            self.idle = False
            self._stopping.wait(self._gather_s)
            self.drain()
        self.drain()
        for sink in self._sinks:
            sink.close()

    def drain(self) -> None:
        """Write everything that is queued now, then what there is to say about losses."""
        while self.queue:
            count = min(len(self.queue), BATCH_LINES)
            self._write([self.queue.popleft() for _ in range(count)])
        if self.dropped > self._reported:
            count, self._reported = self.dropped - self._reported, self.dropped
            self._write([self._notice("log_lines_dropped", count=count, reason="queue full")])

    def _write(self, lines: list[Line]) -> None:
        encoded = self._encode(lines)
        for sink in self._sinks:
            try:
                lost = sink.write(lines, encoded)
            except OSError as exc:
                self._fail(sink, len(lines), exc)
                continue
            self.lost += lost
            if sink.name in self._failed:
                self._recover(sink)

    def _encode(self, lines: list[Line]) -> bytes:
        try:
            return self._encoder.encode_lines(lines)
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError):
            return b"".join(self._encode_one(line) for line in lines)

    def _encode_one(self, line: Line) -> bytes:
        try:
            return self._encoder.encode(line) + b"\n"
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as exc:
            notice = self._notice("log_line_not_encodable", error=type(exc).__name__)
            return self._encoder.encode(notice) + b"\n"

    def _fail(self, sink: Sink, lines: int, exc: OSError) -> None:
        self.lost += lines
        first = sink.name not in self._failed
        self._failed[sink.name] = self._failed.get(sink.name, 0) + lines
        if first:
            notice = self._notice("log_sink_failed", sink=sink.name, error=exc.strerror or str(exc))
            self._tell_others(sink, notice)

    def _recover(self, sink: Sink) -> None:
        lost = self._failed.pop(sink.name)
        notice = self._notice("log_sink_recovered", sink=sink.name, lines_lost=lost)
        self._tell_others(sink, notice)
        self._try(sink, notice)

    def _tell_others(self, sink: Sink, notice: dict[str, Any]) -> None:
        for other in self._sinks:
            if other is not sink:
                self._try(other, notice)

    def _try(self, sink: Sink, notice: dict[str, Any]) -> None:
        try:
            sink.write([notice], self._encoder.encode(notice) + b"\n")
        except OSError:
            # Nowhere left to say it; the count in `lost` remains.
            self.lost += 1

    def _notice(self, event: str, **fields: object) -> dict[str, Any]:
        return {"timestamp": self._stamp(), "level": "warning", "event": event, **fields}
