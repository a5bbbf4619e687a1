"""An upstream of a whole house that is reached without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.exchange import FakeExchange, Request, Response, modern_result
from waygate_mcp.net.http import HttpExchange
from waygate_mcp.runtime import upstreams
from waygate_mcp.upstreams.opening import UpstreamConfig


class FakeServer:
    """A modern server with these tools, behind every URL while `is_up`."""

    def __init__(self, *tools: dict[str, Any]) -> None:
        self.tools = tools or ({"name": "add", "inputSchema": {"type": "object"}},)
        self.is_up = True
        self.opened = 0

    def answer(self, method: str) -> Any:
        """What a method is answered with."""
        results: dict[str, dict[str, Any]] = {
            "server/discover": {
                "supportedVersions": ["2026-07-28"],
                "capabilities": {"tools": {}},
            },
            "tools/list": {"tools": list(self.tools)},
            "tools/call": {"content": []},
        }

        def answered(request: Request) -> Response:
            return modern_result(request, results[method]) if self.is_up else Response(503)

        return answered

    def put_in_place(self, patch: pytest.MonkeyPatch) -> None:
        """Let every URL of houses opened from now on lead here."""

        @asynccontextmanager
        async def reach(_name: str, _config: UpstreamConfig) -> AsyncIterator[HttpExchange]:
            self.opened += 1
            yield FakeExchange(
                server__discover=self.answer("server/discover"),
                tools__list=self.answer("tools/list"),
                tools__call=self.answer("tools/call"),
            )

        patch.setattr(upstreams, "open_http", reach)
