"""A whole answer in one write, and the way ASGI goes where that cannot be."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import httptools
import pytest

from waygate_mcp.web.cycle import CYCLE, Cycle, split_target

JSON = (b"content-type", b"application/json")
DATE = (b"date", b"today")


class Transport:
    """Remembers what was written, and in how many writes."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def writelines(self, parts: Any) -> None:
        self.writes.extend(parts)

    def close(self) -> None:
        self.is_closed = True

    @property
    def written(self) -> bytes:
        return b"".join(self.writes)


class Line:
    """As much of a connection as a cycle knows."""

    def __init__(
        self, *, method: str = "POST", keep_alive: bool = True, expects_100: bool = False
    ) -> None:
        self.scope: dict[str, Any] = {"type": "http", "method": method, "path": "/mcp"}
        self.transport = Transport()
        self.flow = SimpleNamespace(write_paused=False, resume_reading=lambda: None)
        self.logger = self.access_logger = logging.getLogger("test")
        self.server_state = SimpleNamespace(default_headers=[DATE])
        self.expect_100_continue = expects_100
        self.completed = 0
        self.cycle = Cycle(self, keep_alive)

    def on_response_complete(self) -> None:
        self.completed += 1

    def received(self, body: bytes) -> Line:
        """Let the whole body have arrived."""
        self.cycle.body += body
        self.cycle.more_body = False
        return self


async def test_a_cycle_is_found_in_the_scope_it_serves() -> None:
    line = Line()
    assert line.scope["extensions"] == {CYCLE: line.cycle}


async def test_a_body_that_is_here_is_given_at_once_and_only_once() -> None:
    line = Line().received(b"hello")
    assert line.cycle.take_body() == b"hello"
    assert line.cycle.take_body() == b""


async def test_a_body_that_is_not_here_yet_has_to_be_waited_for() -> None:
    assert Line().cycle.take_body() is None
    expecting = Line(expects_100=True).received(b"")
    assert expecting.cycle.take_body() is None
    gone = Line().received(b"hello")
    gone.cycle.disconnected = True
    assert gone.cycle.take_body() is None


async def test_a_whole_answer_is_one_write() -> None:
    line = Line().received(b"")
    assert line.cycle.answer(200, (JSON, (b"x-request-id", b"r")), b"{}")
    assert line.transport.writes == [
        (
            b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-type: application/json\r\n"
            b"x-request-id: r\r\ncontent-length: 2\r\n\r\n{}"
        )
    ]
    assert (line.completed, line.cycle.response_complete, line.transport.is_closed) == (
        1,
        True,
        False,
    )
    assert "extensions" not in line.scope  # nothing is left to the collector
    assert await asyncio.wait_for(line.cycle.receive(), 1) == {"type": "http.disconnect"}


async def test_a_large_answer_is_not_copied() -> None:
    line = Line().received(b"")
    body = b"x" * 20_000
    assert line.cycle.answer(200, (JSON,), body)
    assert line.transport.writes[1] is body
    assert line.transport.written.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_an_answer_without_content_has_no_length() -> None:
    line = Line(method="DELETE").received(b"")
    assert line.cycle.answer(204, (), b"")
    assert line.transport.written == b"HTTP/1.1 204 No Content\r\ndate: today\r\n\r\n"


async def test_a_connection_that_is_not_kept_says_so_and_is_closed() -> None:
    line = Line(keep_alive=False).received(b"")
    assert line.cycle.answer(200, (), b"")
    assert line.transport.written.endswith(b"content-length: 0\r\nconnection: close\r\n\r\n")
    assert line.transport.is_closed


async def test_an_answer_that_says_the_connection_closes_closes_it() -> None:
    line = Line()
    assert line.cycle.answer(408, ((b"connection", b"close"), JSON), b"late")
    assert line.transport.written.count(b"connection: close\r\n") == 1
    assert line.transport.written.endswith(b"\r\n\r\nlate")
    assert line.transport.is_closed


async def test_where_the_client_reads_too_slowly_or_takes_no_body_asgi_goes_its_way() -> None:
    slow = Line().received(b"")
    slow.flow.write_paused = True
    begun = Line().received(b"")
    begun.cycle.response_started = True
    for line in (slow, begun, Line(method="HEAD").received(b"")):
        assert not line.cycle.answer(200, (JSON,), b"{}")
        assert line.transport.writes == []
        assert line.scope["extensions"] == {CYCLE: line.cycle}


async def test_nothing_is_written_to_a_client_that_is_gone() -> None:
    line = Line().received(b"")
    line.cycle.disconnected = True
    assert line.cycle.answer(200, (JSON,), b"{}")
    assert (line.transport.writes, line.completed) == ([], 0)


async def test_the_servers_own_headers_follow_the_time() -> None:
    for value in (b"one", b"one", b"two"):
        line = Line().received(b"")
        headers = [(b"date", value), (b"server", b"x")]
        line.cycle.default_headers = headers
        line.cycle.answer(200, (), b"")
        assert b"date: %b\r\nserver: x\r\n" % value in line.transport.written
        again = Line().received(b"")
        again.cycle.default_headers = headers
        again.cycle.answer(200, (), b"")
        assert again.transport.written == line.transport.written


@pytest.mark.parametrize(
    ("target", "split"),
    [
        (b"/mcp", (b"/mcp", b"")),
        (b"/mcp?a=b?c", (b"/mcp", b"a=b?c")),
        (b"/?", (b"/", b"")),
        (b"/a#b", (b"/a", b"")),
        (b"http://localhost:8000/mcp?x=1", (b"/mcp", b"x=1")),
        (b"http://localhost", (b"/", b"")),
        (b"//double/slash", (b"//double/slash", b"")),
    ],
)
def test_a_target_is_a_path_and_a_query(target: bytes, split: tuple[bytes, bytes]) -> None:
    assert split_target(target) == split


def test_a_target_that_is_none_is_refused() -> None:
    with pytest.raises(httptools.HttpParserInvalidURLError):
        split_target(b"no target")


async def test_whoever_waits_for_the_body_goes_on_when_there_is_more() -> None:
    event = Line().cycle.message_event
    for _ in range(2):
        async with asyncio.timeout(1), asyncio.TaskGroup() as group:
            waiting = group.create_task(event.wait())
            await asyncio.sleep(0)
            assert not waiting.done()
            event.set()
        await asyncio.wait_for(event.wait(), 1)
        event.clear()


async def test_a_request_is_a_task_that_takes_itself_out() -> None:
    line, tasks = Line(), set[asyncio.Task[Any]]()
    seen: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(len(tasks))
        line.cycle.answer(200, (JSON,), b"{}")

    line.cycle.start(asyncio.get_running_loop(), app, tasks)
    (task,) = tasks
    await task
    assert seen == [1]
    assert tasks == set()
