"""A server behind the connector keeps the contract of Provider, in whichever era it is spoken to.

The upstream is a gateway of our own in this process, which has both eras.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import ClassVar

import pytest

from tests.contracts.provider import ProviderContract
from tests.support.house import settings_in
from tests.support.providers import Announced, TaskGroupSupervisor
from waygate_mcp.model.ports import Provider
from waygate_mcp.net.asgi import AsgiTransport
from waygate_mcp.runtime.house import House
from waygate_mcp.telemetry.logs import open_logs
from waygate_mcp.upstreams.streamable_http import EraChoice, connect
from waygate_mcp.web.app import build_app
from waygate_mcp.web.guard import guard_of

DOCUMENT = {
    "auth": {"mode": "none"},
    "plugins": {"everything": {"use": "waygate_mcp.testing.everything"}},
}


class UpstreamContract(ProviderContract):
    era: ClassVar[EraChoice]

    @pytest.fixture
    async def provider(self, tmp_path: Path) -> AsyncIterator[Provider]:
        settings = settings_in(tmp_path, DOCUMENT)
        supervisor = TaskGroupSupervisor()
        async with AsyncExitStack() as stack:
            logs = stack.enter_context(open_logs(settings, descriptor=None, file=False))
            app = build_app(House(settings, logs, guard_of))
            transport = await stack.enter_async_context(AsgiTransport(app, "up"))
            yield await stack.enter_async_context(
                connect("up", transport, "/mcp", Announced(), supervisor=supervisor, era=self.era)
            )
        await supervisor.close()


class TestModernUpstream(UpstreamContract):
    era = "modern"


class TestLegacyUpstream(UpstreamContract):
    era = "legacy"


class TestUpstreamOfBothEras(UpstreamContract):
    era = "auto"
