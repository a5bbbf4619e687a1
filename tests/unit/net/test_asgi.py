from __future__ import annotations

import asyncio
from typing import Any

import pytest

from waygate_mcp.errors import UpstreamProtocolError, UpstreamUnavailableError
from waygate_mcp.net import asgi
from waygate_mcp.net.asgi import AsgiApp, AsgiTransport
from waygate_mcp.net.http import read_body


def app_of(serve: Any) -> AsgiApp:
    """An application with a lifespan that does nothing."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await serve(scope, receive, send)

    return app


async def start(send: Any, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def test_a_request_reaches_the_application_as_a_server_would_give_it() -> None:
    seen: list[Any] = []

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([scope, await receive()])
        await start(send, 201, (b"X-One", b"1"))
        await send({"type": "http.response.body", "body": b"hello"})

    async with (
        AsgiTransport(app_of(serve), "x") as transport,
        transport.request(
            "POST", "/a/b?c=d", [("Content-Type", "text/plain")], b"body"
        ) as response,
    ):
        assert (response.status, response.headers) == (201, {"x-one": "1"})
        assert await read_body(response, 100) == b"hello"
    scope, message = seen
    assert (scope["method"], scope["path"], scope["query_string"]) == ("POST", "/a/b", b"c=d")
    headers = dict(scope["headers"])
    assert headers[b"content-type"] == b"text/plain"
    assert headers[b"host"] == b"127.0.0.1:8000"
    assert headers[b"content-length"] == b"4"
    assert message == {"type": "http.request", "body": b"body", "more_body": False}


async def test_the_lifespan_is_entered_once_and_left_last() -> None:
    story: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["word"] = "kept"
            story.append("started")
            await send({"type": "lifespan.startup.complete"})
            await receive()
            story.append("stopped")
            await send({"type": "lifespan.shutdown.complete"})
            return
        story.append(scope["state"]["word"])
        await start(send)
        await send({"type": "http.response.body"})

    async with AsgiTransport(app, "x") as transport:
        for _ in range(2):
            async with transport.request("GET", "/", []) as response:
                assert await read_body(response, 1) == b""
    assert story == ["started", "kept", "kept", "stopped"]


async def test_an_application_without_a_lifespan_is_served() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http", "no lifespan here"
        await start(send, 204)
        await send({"type": "http.response.body"})

    async with AsgiTransport(app, "x") as transport, transport.request("GET", "/", []) as response:
        assert response.status == 204


async def test_a_startup_that_fails_makes_it_unavailable() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(UpstreamUnavailableError, match="no database"):
        async with AsgiTransport(app, "x"):
            pass


async def test_a_startup_that_hangs_makes_it_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "_STARTUP_S", 0.0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    with pytest.raises(UpstreamUnavailableError, match="took longer"):
        async with AsgiTransport(app, "x"):
            pass


async def test_a_transport_that_is_not_open_sends_nothing() -> None:
    transport = AsgiTransport(app_of(None), "x")
    with pytest.raises(UpstreamUnavailableError):
        async with transport.request("GET", "/", []):
            pass


async def test_what_the_application_raises_is_the_upstreams_fault() -> None:
    async def serve(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("secret detail")

    async with AsgiTransport(app_of(serve), "x") as transport:
        with pytest.raises(UpstreamProtocolError) as caught:
            async with transport.request("GET", "/", []):
                pass
    assert "secret detail" not in caught.value.safe_message


async def test_a_response_that_breaks_off_is_the_upstreams_fault() -> None:
    async def serve(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("gone")

    async with (
        AsgiTransport(app_of(serve), "x") as transport,
        transport.request("GET", "/", []) as response,
    ):
        with pytest.raises(UpstreamProtocolError):
            await read_body(response, 100)


async def test_an_application_that_writes_faster_than_is_read_waits() -> None:
    written = 0

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        nonlocal written
        await start(send)
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            written += 1
        await send({"type": "http.response.body"})

    async with (
        AsgiTransport(app_of(serve), "x") as transport,
        transport.request("GET", "/", []) as response,
    ):
        for _ in range(50):
            await asyncio.sleep(0)
        assert 0 < written < 20
        assert len(await read_body(response, 2000)) == 1000


async def test_leaving_early_disconnects_and_lets_a_blocked_application_go_on() -> None:
    story: list[str] = []
    ended = asyncio.Event()

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await start(send)
        for _ in range(20):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        story.append((await receive())["type"])
        await send({"type": "http.response.body", "body": b"to nobody"})
        ended.set()

    async with AsgiTransport(app_of(serve), "x") as transport:
        async with transport.request("GET", "/", []) as response:
            async for _ in response.chunks():
                for _ in range(50):
                    await asyncio.sleep(0)  # until the application waits for room
                break
        async with asyncio.timeout(2):
            await ended.wait()
    assert story == ["http.disconnect"]


async def test_an_application_that_ignores_the_disconnect_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asgi, "_GRACE_S", 0.0)
    cancelled = asyncio.Event()

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with AsgiTransport(app_of(serve), "x") as transport:
        async with transport.request("GET", "/", []) as response:
            assert response.status == 200
        async with asyncio.timeout(5):
            await cancelled.wait()


async def test_work_after_a_whole_response_is_left_alone_until_the_transport_closes() -> None:
    may_end, ended = asyncio.Event(), asyncio.Event()

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await send({"type": "http.response.body", "body": b"x"})
        await may_end.wait()
        ended.set()

    async with AsgiTransport(app_of(serve), "x") as transport:
        async with transport.request("GET", "/", []) as response:
            assert await read_body(response, 1) == b"x"
        may_end.set()
        async with asyncio.timeout(5):
            await ended.wait()


async def test_messages_out_of_order_are_the_applications_fault() -> None:
    async def serve(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.body", "body": b"too soon"})

    async with AsgiTransport(app_of(serve), "x") as transport:
        with pytest.raises(UpstreamProtocolError):
            async with transport.request("GET", "/", []):
                pass


async def test_a_cancelled_wait_for_the_head_disconnects() -> None:
    entered, gone = asyncio.Event(), asyncio.Event()

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        entered.set()
        assert (await receive())["type"] == "http.disconnect"
        gone.set()

    async with AsgiTransport(app_of(serve), "x") as transport:

        async def ask() -> None:
            async with transport.request("GET", "/", []):
                pass

        task = asyncio.get_running_loop().create_task(ask())
        async with asyncio.timeout(5):
            await entered.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await gone.wait()
