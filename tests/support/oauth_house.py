"""A house in memory that takes access tokens, with an issuer that is a function: no socket, the clock of the tokens.

Knows how both doors are asked. `Issuer.wait` holds its keys back until a test lets them come.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import HOST, Answer, ask, open_house, settings_in
from tests.support.tokens import ISSUER, NOW_S, public_jwk
from waygate_mcp.auth import jwks
from waygate_mcp.auth.jwks import KeySource
from waygate_mcp.auth.jwt import VerificationKey, read_key
from waygate_mcp.errors import UpstreamUnavailableError
from waygate_mcp.runtime.clock import Clock
from waygate_mcp.runtime.house import House
from waygate_mcp.web.guard import Guard
from waygate_mcp.web.mcp import McpDoor
from waygate_mcp.web.rest import RestDoor

PUBLIC = "https://mcp.example.org"
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
GRANTS = {
    "mcp:read": ["session:open", "tools:list"],
    "mcp:call": ["tools:call"],
    "mcp:admin": ["*"],
}


class Issuer:
    """Publishes its keys, or is down."""

    def __init__(self) -> None:
        self.kinds = ["ES256"]
        self.is_down = False
        self.fetches = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self, source: KeySource) -> tuple[VerificationKey, ...]:
        assert source.issuer == ISSUER
        self.fetches += 1
        await self.gate.wait()
        if self.is_down:
            raise UpstreamUnavailableError("issuer", "down")
        found = (read_key(public_jwk(kind)) for kind in self.kinds)
        return tuple(key for key in found if key is not None)


class Doors:
    """Both doors of a house, and its issuer."""

    def __init__(self, house: House[Guard], issuer: Issuer) -> None:
        self.house = house
        self.issuer = issuer
        self.mcp = McpDoor(house)
        self.rest = RestDoor(house)

    async def post(
        self,
        token: bytes | None,
        method: str,
        endpoint: str = "default",
        *more: tuple[bytes, bytes],
        **params: Any,
    ) -> Answer:
        """One modern request."""
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}
        headers = [
            HOST,
            (b"content-type", b"application/json"),
            (b"accept", b"application/json, text/event-stream"),
            (b"mcp-protocol-version", b"2026-07-28"),
            (b"mcp-method", method.encode()),
            *more,
        ]
        if "name" in params:
            headers.append((b"mcp-name", params["name"].encode()))
        return await self.raw(token, json.dumps(message).encode(), endpoint, *headers)

    async def raw(
        self, token: bytes | None, body: bytes, endpoint: str, *headers: tuple[bytes, bytes]
    ) -> Answer:
        """One POST as it is given."""
        sent = [*headers, *([] if token is None else [bearer(token)])]

        async def serve(scope: Any, receive: Any, send: Any) -> None:
            await self.mcp(scope, receive, send, endpoint)

        return await ask(serve, "/mcp", "POST", sent, body)

    async def get(self, path: str, token: bytes | None = None, method: str = "GET") -> Answer:
        """One request at the REST door."""

        async def serve(scope: Any, receive: Any, send: Any) -> None:
            await self.rest(scope, scope["raw_path"].decode(), receive, send)

        return await ask(serve, path, method, [HOST, *([] if token is None else [bearer(token)])])


def bearer(token: bytes) -> tuple[bytes, bytes]:
    return (b"authorization", b"Bearer " + token)


@asynccontextmanager
async def open_doors(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    mode: str = "oauth",
    issuer: Issuer | None = None,
    oauth: dict[str, Any] | None = None,
    **section: Any,
) -> AsyncIterator[Doors]:
    """Open a house whose document takes tokens of `ISSUER`."""
    made = issuer or Issuer()
    monkeypatch.setattr(jwks, "fetch_keys", made.fetch)
    issuers = [{"issuer": ISSUER, "grants": GRANTS, **section}]
    document = {
        "server": {"public_url": PUBLIC},
        "auth": {"mode": mode, "oauth": {"issuers": issuers, **(oauth or {})}},
        "plugins": {"hello": {"use": "waygate_mcp.plugins.builtin.hello"}},
        "endpoints": {"dev": {"bind": ["hello"]}},
    }
    clock = Clock(now=lambda: NOW_S)
    async with open_house(settings_in(folder, document), clock=clock) as house:
        yield Doors(house, made)
