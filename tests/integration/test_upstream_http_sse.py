"""Upstreams behind HTTP+SSE: a server of the official SDK, and one that breaks off."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.integration import upstream_servers as servers
from tests.support.ports import free_port
from tests.support.upstreams import nothing_left, opened, ready
from waygate_mcp.errors import UpstreamError
from waygate_mcp.model.catalog import Kind, Viewer
from waygate_mcp.model.principal import LOCAL
from waygate_mcp.protocol.versions import LATEST_LEGACY, MODERN
from waygate_mcp.testing.fakes import ALL_CAPABILITIES, call_tool, text_of
from waygate_mcp.upstreams.opening import UpstreamConfig
from waygate_mcp.upstreams.status import SteadyLimits
from waygate_mcp.upstreams.steady import SteadyUpstream


@pytest.fixture(autouse=True)
def _no_leftovers() -> Iterator[None]:
    with nothing_left():
        yield


@asynccontextmanager
async def sdk_server(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", servers.SDK_SSE, str(port), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(20):
            while not await _answers(port):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.05)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def test_a_server_with_the_old_transport_is_found_by_trying_and_called() -> None:
    port = free_port()
    async with (
        sdk_server(port),
        opened(UpstreamConfig(url=f"http://127.0.0.1:{port}/sse")) as provider,
    ):
        await ready(provider)
        assert provider.status.eras == ("legacy",)
        listing = await provider.listing(Kind.TOOL, Viewer(LOCAL, ALL_CAPABILITIES))
        assert [entry.name for entry in listing.entries] == ["add"]
        for revision in (MODERN, LATEST_LEGACY):
            outcome = await call_tool(provider, "add", {"a": 1, "b": 2}, revision=revision)
            assert text_of(outcome) == "3"
        outcomes = await asyncio.gather(
            *(call_tool(provider, "add", {"a": number, "b": 1}) for number in range(50))
        )
        assert [text_of(one) for one in outcomes] == [str(number + 1) for number in range(50)]


async def test_a_server_that_is_killed_and_started_again_is_called_again() -> None:
    port = free_port()
    config = UpstreamConfig(
        url=f"http://127.0.0.1:{port}/sse", http="sse", limits=SteadyLimits(failures=100)
    )
    async with opened(config) as provider:
        async with sdk_server(port):
            assert await _until_it_answers(provider) == "4"
        with pytest.raises(UpstreamError):
            await call_tool(provider, "add", {"a": 1, "b": 1})
        async with sdk_server(port):
            assert await _until_it_answers(provider) == "4"


async def _until_it_answers(provider: SteadyUpstream) -> str:
    async with asyncio.timeout(20):
        while True:
            try:
                return text_of(await call_tool(provider, "add", {"a": 2, "b": 2}))
            except UpstreamError:
                await asyncio.sleep(0.1)


async def test_an_upstream_that_is_down_holds_nothing_up() -> None:
    port = free_port()
    async with opened(UpstreamConfig(url=f"http://127.0.0.1:{port}/mcp")) as provider:
        async with asyncio.timeout(5):
            listing = await provider.listing(Kind.TOOL, Viewer(LOCAL, ALL_CAPABILITIES))
            assert listing.entries == ()
            for _ in range(10):
                with pytest.raises(UpstreamError):
                    await call_tool(provider, "add")
        assert provider.status.state == "down"
        assert provider.status.last_error
