"""The old transport against the official client of it, over real sockets."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp import ClientSession, MCPError
from mcp.client.session import ClientRequestContext
from mcp.client.sse import sse_client

from tests.integration.gateway_process import EVERYTHING, Gateway, serving

# Sampling and logging are deprecated in the newest revision, and still have to work.
pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")

ON: Mapping[str, object] = {**EVERYTHING, "server": {"http_sse": True}}
WAIT_S = 20.0


@asynccontextmanager
async def session_on(gateway: Gateway, **callbacks: Any) -> AsyncIterator[ClientSession]:
    """An official client's session, opened and closed."""
    url = f"{gateway.base_url}/sse"
    async with (
        asyncio.timeout(WAIT_S),
        sse_client(url, headers=gateway.headers) as (read, write),
        ClientSession(read, write, **callbacks) as session,
    ):
        await session.initialize()
        yield session


async def sampled(
    context: ClientRequestContext, params: types.CreateMessageRequestParams
) -> types.CreateMessageResult:
    content = types.TextContent(type="text", text="a story")
    return types.CreateMessageResult(role="assistant", content=content, model="m")


def words(result: Any) -> str:
    return str(result.content[0].text)


async def test_an_official_client_lists_calls_reads_and_is_asked(tmp_path: Path) -> None:
    told: list[Any] = []
    has_changed = asyncio.Event()

    async def note(message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            has_changed.set()

    async def logged(params: types.LoggingMessageNotificationParams) -> None:
        told.append(params.data)

    steps: list[float] = []

    async def noted(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    with serving(tmp_path, ON) as gateway:
        async with session_on(
            gateway, sampling_callback=sampled, message_handler=note, logging_callback=logged
        ) as session:
            tools = await session.list_tools()
            assert "test_simple_text" in {tool.name for tool in tools.tools}
            assert "simple text" in words(await session.call_tool("test_simple_text", {}))
            await session.call_tool("test_tool_with_progress", {}, progress_callback=noted)
            assert steps == sorted(steps)
            assert len(steps) == 3
            await session.call_tool("test_tool_with_logging", {})
            assert len(told) == 3
            answered = await session.call_tool("test_sampling", {"prompt": "tell"})
            assert "a story" in words(answered)
            contents = await session.read_resource("test://static-text")
            assert contents.contents
            await session.call_tool("test_trigger_tool_change", {})
            await has_changed.wait()
            with pytest.raises(MCPError):
                await session.read_resource("test://none")


async def test_two_clients_do_not_hear_each_other(tmp_path: Path) -> None:
    with serving(tmp_path, ON) as gateway:
        async with session_on(gateway) as one, session_on(gateway) as other:
            first, second = await asyncio.gather(
                one.call_tool("slow_cancellable", {"seconds": 0.3}),
                other.call_tool("test_simple_text", {}),
            )
            assert words(first).startswith("Waited")
            assert "simple text" in words(second)


@contextmanager
def stream_of(
    gateway: Gateway, path: str, headers: Mapping[str, str]
) -> Iterator[http.client.HTTPResponse]:
    """A GET whose connection is closed at the end."""
    port = int(gateway.base_url.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    with closing(connection):
        connection.request("GET", path, headers=dict(headers))
        with closing(connection.getresponse()) as response:
            yield response


def _post(gateway: Gateway, path: str, message: Any, headers: Mapping[str, str]) -> int:
    port = int(gateway.base_url.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    usual = {"Content-Type": "application/json", **headers}
    connection.request("POST", path, json.dumps(message), usual)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


def test_a_stream_that_is_closed_takes_its_address_with_it(tmp_path: Path) -> None:
    with serving(tmp_path, ON) as gateway:
        with stream_of(gateway, "/sse", gateway.headers) as stream:
            assert stream.readline() == b"event: endpoint\n"
            address = stream.readline().decode().removeprefix("data: ").strip()
            assert _post(gateway, address, PING, {}) == 401
            assert _post(gateway, address, PING, gateway.headers) == 202
            stream.readline()
            assert stream.readline() == b"event: message\n"
            assert json.loads(stream.readline().removeprefix(b"data: "))["result"] == {}
        deadline = time.monotonic() + WAIT_S
        while (status := _post(gateway, address, PING, gateway.headers)) == 202:
            assert time.monotonic() < deadline, "the address outlives its stream"
        assert status == 404


def test_a_server_that_stops_ends_open_streams_at_once(tmp_path: Path) -> None:
    with (
        serving(tmp_path, ON) as gateway,
        stream_of(gateway, "/sse", gateway.headers) as stream,
    ):
        assert stream.readline() == b"event: endpoint\n"
        started = time.monotonic()
        gateway.stop()
        assert time.monotonic() - started < 10
        assert stream.read().endswith(b"\n\n")


def test_the_door_is_closed_unless_the_document_opens_it(tmp_path: Path) -> None:
    with serving(tmp_path) as gateway:
        with stream_of(gateway, "/sse", gateway.headers) as response:
            assert response.status == 404
            assert b"server.http_sse" in response.read()
        with stream_of(gateway, "/sse", {}) as response:
            assert response.status == 401
