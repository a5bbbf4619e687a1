"""CPU time of the client part of one small call: our pooled client, aiohttp, a bare forwarder.

A server process answers fixed bytes to each POST; this process sends `--calls` POSTs by each client in
turn, `--rounds` times, and divides its own CPU time by them. The bare forwarder is what no client
can be cheaper than in Python: httptools, one write, one future, no pool, no checks, no headers kept.

    python bench/net_client.py [--rounds 7] [--calls 4000] [--connections 16] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection as Pipe

import httptools
import uvloop

from waygate_mcp.net.aiohttp_client import AiohttpTransport
from waygate_mcp.net.dial import NetworkPolicy
from waygate_mcp.net.http import HttpExchange, read_body
from waygate_mcp.net.pooled import PooledTransport
from waygate_mcp.net.urls import parse_target

RESULT = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"hello"}]}}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\nserver: bench\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(RESULT) + RESULT
)
BODY = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{}}}'
HEADERS = [
    ("content-type", "application/json"),
    ("accept", "application/json, text/event-stream"),
    ("mcp-protocol-version", "2026-07-28"),
    ("mcp-method", "tools/call"),
    ("mcp-name", "echo"),
]
Call = Callable[[], Awaitable[None]]


class Answering(asyncio.Protocol):
    """Answers each whole request with the same bytes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        """See httptools."""
        self.transport.write(ANSWER)  # type: ignore[attr-defined]


def serve(pipe: Pipe) -> None:
    """Serve on a free port until the process is ended."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


class Bare(asyncio.Protocol):
    """The least a client can do."""

    def __init__(self) -> None:
        self.waiter: asyncio.Future[bytes] | None = None
        self.parts: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self.transport = transport
        self.parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self.parts.append(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        assert self.waiter is not None
        self.waiter.set_result(b"".join(self.parts))
        self.parts.clear()

    async def send(self, request: bytes) -> bytes:
        """Send a request and give its body."""
        self.waiter = asyncio.get_running_loop().create_future()
        self.transport.write(request)  # type: ignore[attr-defined]
        return await self.waiter


def by_exchange(exchange: HttpExchange) -> Call:
    """Call through the interface connectors use."""

    async def call() -> None:
        async with exchange.request("POST", "/mcp", HEADERS, BODY) as response:
            assert await read_body(response, 1 << 20) == RESULT

    return call


async def by_bare(port: int, connections: int) -> Call:
    """Call by the bare forwarder."""
    loop = asyncio.get_running_loop()
    opened = [
        (await loop.create_connection(Bare, "127.0.0.1", port))[1] for _ in range(connections)
    ]
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS)
    start = f"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\n{head}content-length: {len(BODY)}\r\n\r\n"
    request = start.encode() + BODY

    async def call() -> None:
        one = opened.pop()
        assert await one.send(request) == RESULT
        opened.append(one)

    return call


async def measure(call: Call, calls: int, connections: int) -> float:
    """Give µs of this process's CPU time per call."""

    async def work() -> None:
        for _ in range(calls // connections):
            await call()

    started = time.process_time()
    await asyncio.gather(*(work() for _ in range(connections)))
    return (time.process_time() - started) * 1e6 / (calls // connections * connections)


async def compare(port: int, rounds: int, calls: int, connections: int) -> dict[str, list[float]]:
    """Run the clients by turns."""
    target = parse_target(f"http://127.0.0.1:{port}/mcp")
    policy = NetworkPolicy.for_document(target)
    figures: dict[str, list[float]] = {"bare": [], "pooled": [], "aiohttp": []}
    async with (
        PooledTransport(target, "bench", policy) as pooled,
        AiohttpTransport(target.origin, "bench", policy=policy, most=connections) as aiohttp,
    ):
        clients = {
            "bare": await by_bare(port, connections),
            "pooled": by_exchange(pooled),
            "aiohttp": by_exchange(aiohttp),
        }
        for call in clients.values():
            await measure(call, calls // 4, connections)
        for _ in range(rounds):
            for name, call in clients.items():
                figures[name].append(await measure(call, calls, connections))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    try:
        work = compare(ours.recv(), wanted.rounds, wanted.calls, wanted.connections)
        figures = uvloop.run(work)
    finally:
        server.terminate()
        server.join(5)
    if wanted.json:
        print(json.dumps(figures))
        return
    print(f"Python {platform.python_version()}, uvloop, {wanted.connections} connections")
    for name, values in figures.items():
        text = f"{statistics.median(values):7.1f} µs/call (least {min(values):.1f})"
        print(f"{name:8} {text}")


if __name__ == "__main__":
    main()
