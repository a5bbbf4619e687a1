"""The network transport against a real socket: streams, redirects, limits, broken connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from waygate_mcp.errors import UpstreamProtocolError, UpstreamUnavailableError
from waygate_mcp.net.aiohttp_client import AiohttpTransport
from waygate_mcp.net.http import read_body

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(**handlers: Handler) -> AsyncIterator[str]:
    """Serve handlers by their names as paths; give the origin."""
    app = web.Application()
    for name, handler in handlers.items():
        app.router.add_route("*", f"/{name}", handler)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def echo(request: web.Request) -> web.Response:
    body = await request.read()
    names = ",".join(sorted(name.lower() for name in request.headers))
    return web.Response(body=request.method.encode() + b" " + body, headers={"x-names": names})


async def test_a_request_and_its_answer() -> None:
    async with (
        served(echo=echo) as origin,
        AiohttpTransport(origin, "up", headers=[("authorization", "Bearer k")]) as transport,
        transport.request("POST", "/echo", [("x-own", "1")], b"hi") as response,
    ):
        assert response.status == 200
        assert await read_body(response, 100) == b"POST hi"
        assert {"authorization", "x-own"} <= set(response.headers["x-names"].split(","))


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with (
        served(echo=echo) as origin,
        AiohttpTransport(origin, "up") as transport,
        transport.request("GET", "/echo", []) as response,
    ):
        assert response.status == 200


async def test_a_redirect_keeps_method_and_body_and_never_leaves_the_origin() -> None:
    async def near(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"location": "/echo"})

    async def far(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"location": "http://127.0.0.1:1/echo"})

    async def loop(request: web.Request) -> web.Response:
        return web.Response(status=308, headers={"location": "/loop"})

    async with (
        served(echo=echo, near=near, far=far, loop=loop) as origin,
        AiohttpTransport(origin, "up") as transport,
    ):
        async with transport.request("POST", "/near", [], b"hi") as response:
            assert await read_body(response, 100) == b"POST hi"
        for path in ("/far", "/loop"):
            with pytest.raises(UpstreamProtocolError):
                async with transport.request("POST", path, [], b"hi"):
                    pass


async def test_a_body_is_given_as_it_comes_and_leaving_early_disconnects() -> None:
    gone = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 1024)
                await asyncio.sleep(0.01)
        except (ConnectionError, asyncio.CancelledError):
            gone.set()
            raise

    async with served(stream=stream) as origin, AiohttpTransport(origin, "up") as transport:
        async with transport.request("GET", "/stream", []) as response:
            async for chunk in response.chunks():
                assert chunk
                break
        async with asyncio.timeout(5):
            await gone.wait()


async def test_a_coding_nobody_asked_for_is_refused() -> None:
    async def squeezed(request: web.Request) -> web.Response:
        return web.Response(body=b"\x1f\x8b", headers={"content-encoding": "gzip"})

    async with served(squeezed=squeezed) as origin, AiohttpTransport(origin, "up") as transport:
        with pytest.raises(UpstreamProtocolError, match="coding"):
            async with transport.request("GET", "/squeezed", []):
                pass


async def test_a_body_that_breaks_off_is_the_upstreams_fault() -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    async with (
        served(broken=broken) as origin,
        AiohttpTransport(origin, "up") as transport,
        transport.request("GET", "/broken", []) as response,
    ):
        with pytest.raises(UpstreamProtocolError):
            await read_body(response, 1000)


async def test_nobody_listening_is_unavailable() -> None:
    async with served(echo=echo) as origin:
        pass
    async with AiohttpTransport(origin, "up") as transport:
        with pytest.raises(UpstreamUnavailableError):
            async with transport.request("GET", "/echo", []):
                pass
