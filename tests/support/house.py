"""A whole house in memory, and a client that calls its application without a socket.

Knows ASGI's messages. Every house gets its own folder; nothing is written outside of it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from waygate_mcp.config.settings import Settings
from waygate_mcp.runtime.clock import Clock
from waygate_mcp.runtime.house import House
from waygate_mcp.runtime.peers import Workplace
from waygate_mcp.telemetry.logs import open_logs
from waygate_mcp.web.app import App, build_app
from waygate_mcp.web.guard import Guard, guard_of

KEY = "a-bootstrap-key-of-the-tests-0123456789"
BEARER = (b"authorization", b"Bearer " + KEY.encode())
HOST = (b"host", b"127.0.0.1:8000")
WAIT_S = 10.0


def settings_in(folder: Path, document: Mapping[str, Any] | None = None, **more: Any) -> Settings:
    """Settings of a process that lives in `folder`; `document` is written there as waygate.yaml."""
    path = folder / "waygate.yaml"
    if document is not None:
        write_document(path, document)
    values: dict[str, Any] = {
        "config": path if path.exists() else None,
        "data_dir": folder / "data",
        "log_dir": None,
        "api_key": KEY,
        "secret_key": "s" * 40,
        "rate_limit": 1_000_000_000,
    }
    return Settings(_env_file=None, **(values | more))


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document; JSON is YAML."""
    path.write_text(json.dumps(document), encoding="utf-8")


@asynccontextmanager
async def open_house(
    settings: Settings, *, clock: Clock | None = None, workplace: Workplace | None = None
) -> AsyncIterator[House[Guard]]:
    """Open a house, and close it within a bound."""
    with open_logs(settings, descriptor=None, file=False) as logs:
        house = House(settings, logs, guard_of, clock=clock, workplace=workplace)
        async with asyncio.timeout(WAIT_S), house:
            yield house


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The first header of that name."""
        wanted = name.lower().encode()
        return next((v.decode() for n, v in self.headers if n.lower() == wanted), None)

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


@asynccontextmanager
async def open_app(settings: Settings) -> AsyncIterator[tuple[App, House[Guard]]]:
    """Open an application by its own lifespan events, as a server does."""
    with open_logs(settings, descriptor=None, file=False) as logs:
        house = House(settings, logs, guard_of)
        app = build_app(house)
        incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        outgoing: asyncio.Queue[Any] = asyncio.Queue()
        async with asyncio.timeout(WAIT_S):
            living = asyncio.get_running_loop().create_task(
                app({"type": "lifespan"}, incoming.get, outgoing.put)
            )
            incoming.put_nowait({"type": "lifespan.startup"})
            started = await outgoing.get()
            if started["type"] != "lifespan.startup.complete":
                await living
                raise app.failure or AssertionError(started)
            try:
                yield app, house
            finally:
                incoming.put_nowait({"type": "lifespan.shutdown"})
                assert (await outgoing.get())["type"] == "lifespan.shutdown.complete"
                await living


async def ask(
    app: Any,
    path: str,
    method: str = "GET",
    headers: Iterable[tuple[bytes, bytes]] = (HOST,),
    body: bytes | list[bytes] = b"",
) -> Answer:
    """Make one request of an ASGI application and read its whole answer."""
    chunks = body if isinstance(body, list) else [body]
    messages = [
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks) - 1}
        for number, chunk in enumerate(chunks)
    ]
    answer = Answer()
    over = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = list(message["headers"])
        else:
            answer.body += message.get("body", b"")
            if not message.get("more_body", False):
                over.set()

    async with asyncio.timeout(WAIT_S):
        await app(scope_of(path, method, headers), receive, send)
    return answer


def scope_of(
    path: str, method: str = "GET", headers: Iterable[tuple[bytes, bytes]] = (HOST,)
) -> dict[str, Any]:
    """A scope as the server makes it."""
    raw, _, query = path.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": raw,
        "raw_path": raw.encode("latin-1"),
        "root_path": "",
        "query_string": query.encode(),
        "headers": list(headers),
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
