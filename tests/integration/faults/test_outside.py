"""What is wrong before there is an upstream: names, TLS, redirects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.faults.clients import words
from tests.integration.faults.rig import BACKS, Back, Peer, Rig, gateway, healthy, until_well

HTTP = [back for back in BACKS if back.transport == "http"]
TOLD_S = 7.0
Says = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


@asynccontextmanager
async def _listening(says: Says) -> AsyncIterator[int]:
    """A port where somebody says something that is no answer."""
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("test:outside")
        tasks.add(task)
        try:
            await says(reader, writer)
        except ConnectionError:
            pass
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(set(tasks))


async def _garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x00\xff\x16\x03garbage, not a handshake\r\n" * 100)
    await writer.drain()
    await reader.read()


async def _alert(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(5)
    writer.write(b"\x15\x03\x03\x00\x02\x02\x28")
    await writer.drain()
    await reader.read()


async def _plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(5)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    await writer.drain()
    await reader.read()


async def _nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(5)


@pytest.mark.parametrize("says", [_garbage, _alert, _plain, _nothing, _close])
async def test_a_port_that_speaks_no_tls_is_told_as_such_and_harms_nobody(
    says: Says, tmp_path: Path
) -> None:
    good = Peer(tmp_path, "good", Back("stdio", "modern"))
    async with _listening(says) as port:
        bad = {"url": f"https://localhost:{port}/mcp", "limits": {"open_timeout_s": 2}}
        async with gateway(tmp_path, {"bad": bad, "good": good.section()}) as rig:
            await _is_down(rig)
            status = rig.upstream("bad").status
            assert "is not reached" in status.last_error or "too long" in status.last_error


async def test_a_name_that_is_not_resolved_is_told_as_such_and_harms_nobody(tmp_path: Path) -> None:
    good = Peer(tmp_path, "good", Back("stdio", "modern"))
    bad = {"url": "http://no-such-host.invalid/mcp"}
    async with gateway(tmp_path, {"bad": bad, "good": good.section()}) as rig:
        await _is_down(rig)
        assert "is not resolved" in rig.upstream("bad").status.last_error


async def _is_down(rig: Rig) -> None:
    """Clients are told in time, of both eras, again and again; a healthy upstream is called meanwhile."""
    async with healthy(rig):
        clients = await rig.both()
        start = rig.census()
        for _ in range(4):
            for client in clients:
                async with asyncio.timeout(TOLD_S):
                    final = await client.call("bad__echo")
                # Its tools were never seen, so nobody knows that one.
                assert final["error"]["code"] in (-32602, -32603), final
        await rig.settled(start)


@pytest.mark.parametrize("back", HTTP, ids=str)
async def test_a_redirect_to_another_origin_is_not_followed_and_carries_nothing_there(
    back: Back, tmp_path: Path
) -> None:
    heard: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1000))

    async with _listening(hear) as port:
        for place in (f"http://127.0.0.1:{port}/mcp", f"http://localhost:{port}/", "//[::1]/mcp"):
            bad = Peer(tmp_path, "bad", back, redirect=place)
            good = Peer(tmp_path, "good", Back("stdio", "modern"))
            await bad.start()
            try:
                section = bad.section(headers={"Authorization": "Bearer secret-of-the-upstream"})
                sections = {"bad": section, "good": good.section()}
                async with gateway(tmp_path, sections) as rig, healthy(rig):
                    for client in await rig.both():
                        final = await client.call("bad__echo")
                        assert final["error"]["code"] == -32603, final
                        assert final["error"]["data"]["reason"] == "upstream_protocol_error"
                    assert bad.noted("run") == 0
            finally:
                await bad.stop()
    assert heard == [], "nothing went there"


@pytest.mark.parametrize("back", HTTP, ids=str)
async def test_a_redirect_in_a_circle_ends(back: Back, tmp_path: Path) -> None:
    bad = Peer(tmp_path, "bad", back, redirect="/mcp")
    await bad.start()
    try:
        async with gateway(tmp_path, {"bad": bad.section()}) as rig:
            for client in await rig.both():
                final = await client.call("echo")
                assert final["error"]["data"]["reason"] == "upstream_protocol_error", final
    finally:
        await bad.stop()


async def test_an_upstream_that_was_down_at_the_start_serves_when_it_is_there(
    tmp_path: Path,
) -> None:
    for back in HTTP:
        bad = Peer(tmp_path, "bad", back)
        good = Peer(tmp_path, "good", Back("stdio", "modern"))
        try:
            sections = {"bad": bad.section(), "good": good.section()}
            async with gateway(tmp_path, sections) as rig, healthy(rig):
                client = await rig.client("alice", "modern")
                assert (await client.call("bad__echo"))["error"]["code"] in (-32602, -32603)
                await bad.start()
                async with asyncio.timeout(15):
                    while "error" in await client.call("bad__echo", text="there"):  # noqa: ASYNC110 - it tells nobody
                        await asyncio.sleep(0.1)
                await until_well(client)
                assert words(await client.call("bad__echo", text="there")) == "there"
        finally:
            await bad.stop()
