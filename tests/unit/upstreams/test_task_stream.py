"""A listening stream about tasks, against an upstream whose stream a test feeds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from itertools import count
from typing import Any

import pytest

from tests.support.exchange import (
    EVENTS,
    FakeExchange,
    Request,
    Response,
    error,
    event,
    modern_result,
)  # fmt: skip
from tests.support.providers import TaskGroupSupervisor
from tests.support.virtual_time import virtual_time
from waygate_mcp.errors import UpstreamUnavailableError
from waygate_mcp.protocol.tasks import TASKS_EXTENSION
from waygate_mcp.upstreams.channel import HttpChannel
from waygate_mcp.upstreams.modern import ModernConnector
from waygate_mcp.upstreams.task_stream import task_stream

ACK = "notifications/subscriptions/acknowledged"


class Up:
    """An upstream that agrees to tell of `agrees`, and says what a test puts into `says`."""

    def __init__(self, *agrees: str) -> None:
        self.says: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.agrees = list(agrees)
        self.exchange = FakeExchange(subscriptions__listen=self.listen)
        self.supervisor = TaskGroupSupervisor()
        self.tasks: list[bytes] = []
        self.ended = 0
        numbers = count(1)
        channel = HttpChannel("up", self.exchange, "/mcp")
        self.connector = ModernConnector(
            "up", channel, lambda: f"id-{next(numbers)}", {"name": "w"}
        )

    def listen(self, request: Request) -> Response | Awaitable[Response]:
        async def chunks() -> AsyncGenerator[bytes, None]:
            yield event({"method": ACK, "params": {"notifications": {"taskIds": self.agrees}}})
            while (chunk := await self.says.get()) is not None:
                yield chunk

        return Response(200, EVENTS, chunks())

    def note_end(self) -> None:
        self.ended += 1

    def watch(self, *ids: str) -> Any:
        return task_stream(self.connector, self.supervisor, ids, self.tasks.append, self.note_end)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@virtual_time
async def test_tasks_the_upstream_agreed_to_are_heard_of_until_nobody_listens() -> None:
    up = Up("a", "c")
    async with up.watch("a", "b") as agreed:
        assert agreed == {"a"}
        up.says.put_nowait(event({"method": "notifications/tasks", "params": {"taskId": "a"}}))
        up.says.put_nowait(event({"method": "notifications/tools/list_changed"}))
        await settle()
        assert up.tasks == [b'{"taskId": "a"}']
        (sent,) = up.exchange.requests
        assert sent.params["notifications"] == {"taskIds": ["a", "b"]}
        declared = sent.params["_meta"]["io.modelcontextprotocol/clientCapabilities"]
        assert declared == {"extensions": {TASKS_EXTENSION: {}}}
    assert not up.supervisor.tasks
    assert up.ended == 0


@pytest.mark.parametrize("is_graceful", [True, False])
@virtual_time
async def test_the_end_of_the_stream_is_told_once(is_graceful: bool) -> None:
    up = Up("a")
    async with up.watch("a"):
        if is_graceful:
            up.says.put_nowait(event({"id": "id-1", "result": {"resultType": "complete"}}))
        up.says.put_nowait(None)
        await settle()
        assert up.ended == 1


def unreachable(_: Request) -> Response:
    raise UpstreamUnavailableError("up", "away")


@pytest.mark.parametrize(
    "answer",
    [
        lambda r: error(r, -32601, "no such method", status=404),
        lambda r: modern_result(r, {}),
        lambda _: Response(405),
        unreachable,
    ],
)
@virtual_time
async def test_an_upstream_without_such_a_stream_agrees_to_nothing(answer: Any) -> None:
    up = Up()
    up.exchange.handlers["subscriptions/listen"] = answer
    async with up.watch("a") as agreed:
        assert agreed == frozenset()
    assert up.ended == 0


@virtual_time
async def test_an_upstream_that_keeps_silent_agrees_to_nothing() -> None:
    up = Up()

    async def never(_: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    up.exchange.handlers["subscriptions/listen"] = never
    began_s = asyncio.get_running_loop().time()
    async with up.watch("a") as agreed:
        assert agreed == frozenset()
    assert asyncio.get_running_loop().time() - began_s == pytest.approx(3)
    assert up.ended == 0


@virtual_time
async def test_an_upstream_that_agrees_twice_is_heard_once() -> None:
    up = Up("a")
    up.says.put_nowait(event({"method": ACK, "params": {"notifications": {"taskIds": ["b"]}}}))
    async with up.watch("a", "b") as agreed:
        await settle()
        assert agreed == {"a"}
