"""A client on a two-way channel: says messages to a Conversation, reads what comes back."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping
from typing import Any

from tests.support.dialogues import CAPABILITIES, EVERYTHING, LOG_LEVEL, VERSION, Desk
from tests.support.virtual_time import settle
from waygate_mcp.gateway.conversation import Conversation
from waygate_mcp.model.principal import LOCAL, Principal


class Channel:
    """One conversation and its client. `said` is everything the server wrote."""

    def __init__(
        self,
        desk: Desk,
        *,
        principal: Principal = LOCAL,
        endpoint: str = "default",
        accepts_modern: bool = True,
    ) -> None:
        self.said: list[Any] = []
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.conversation = Conversation(
            desk.current,
            endpoint,
            principal,
            self._write,
            desk.supervisor,
            accepts_modern=accepts_modern,
        )
        self._ids = itertools.count(1)
        self._news = asyncio.Event()

    async def _write(self, message: bytes) -> None:
        await self.may_write.wait()
        assert b"\n" not in message
        self.said.append(json.loads(message))
        self._news.set()

    # --- saying

    async def take(self, message: Any) -> None:
        """Say a message, or bytes."""
        raw = message if isinstance(message, bytes) else json.dumps(message).encode()
        await self.conversation.take(raw)

    async def modern(
        self,
        method: str,
        *,
        id: str | int | None = None,
        token: str | int | None = None,
        level: str | None = None,
        declared: Mapping[str, Any] = EVERYTHING,
        **params: Any,
    ) -> str | int:
        """Say a modern request and give its id."""
        meta: dict[str, Any] = {VERSION: "2026-07-28", CAPABILITIES: declared}
        if token is not None:
            meta["progressToken"] = token
        if level is not None:
            meta[LOG_LEVEL] = level
        identifier = f"m{next(self._ids)}" if id is None else id
        await self.take(
            {
                "jsonrpc": "2.0",
                "id": identifier,
                "method": method,
                "params": {**params, "_meta": meta},
            }
        )
        return identifier

    async def legacy(self, method: str, *, id: str | int | None = None, **params: Any) -> str | int:
        """Say a request of the session and give its id."""
        identifier = f"l{next(self._ids)}" if id is None else id
        await self.take({"jsonrpc": "2.0", "id": identifier, "method": method, "params": params})
        return identifier

    async def tell(self, method: str, **params: Any) -> None:
        """Say a notification."""
        await self.take({"jsonrpc": "2.0", "method": method, "params": params})

    async def open(self, revision: str = "2025-11-25", declared: Any = None) -> Any:
        """Open a session and give the result of `initialize`."""
        identifier = await self.legacy(
            "initialize",
            protocolVersion=revision,
            capabilities=EVERYTHING if declared is None else declared,
            clientInfo={"name": "channel", "version": "1"},
        )
        answer = await self.answer_to(identifier)
        await self.tell("notifications/initialized")
        return answer["result"]

    # --- reading

    async def answer_to(self, identifier: str | int) -> Any:
        """Wait for the response to a request of ours."""
        while True:
            for message in self.said:
                if "method" not in message and message.get("id") == identifier:
                    return message
            await self._wait()

    async def heard(self, method: str, count: int = 1) -> Any:
        """Wait until so many requests or notifications of a method came; give the last of them."""
        while len(found := self.all_of(method)) < count:
            await self._wait()
        return found[-1]

    def all_of(self, method: str) -> list[Any]:
        """Every request and notification of a method so far."""
        return [message for message in self.said if message.get("method") == method]

    async def _wait(self) -> None:
        self._news.clear()
        async with asyncio.timeout(3_000):
            await self._news.wait()

    async def close(self) -> None:
        """Close the channel."""
        await self.conversation.close()
        await settle()
