"""A server behind a process or an event stream keeps the contract of Provider, in every era it has.

The upstream is a gateway of our own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import ClassVar

import pytest
import pytest_asyncio

from tests.contracts.provider import ProviderContract
from tests.support.house import settings_in
from tests.support.upstreams import opened, over, own_gateway, ready
from waygate_mcp.model.ports import Provider
from waygate_mcp.net.asgi import AsgiTransport
from waygate_mcp.runtime.house import House
from waygate_mcp.telemetry.logs import open_logs
from waygate_mcp.upstreams.opening import UpstreamConfig
from waygate_mcp.upstreams.steady import SteadyUpstream
from waygate_mcp.upstreams.streamable_http import EraChoice
from waygate_mcp.web.app import build_app
from waygate_mcp.web.guard import guard_of

DOCUMENT = {
    "auth": {"mode": "none"},
    "server": {"http_sse": True},
    "plugins": {"everything": {"use": "waygate_mcp.testing.everything"}},
}


@pytest_asyncio.fixture(loop_scope="class", scope="class")
async def process(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[SteadyUpstream]:
    """One for all tests of a class: starting takes longer than all of them."""
    config = own_gateway(tmp_path_factory.mktemp("upstream"), era=request.cls.era)
    async with opened(config) as provider:
        yield await ready(provider)


@pytest.mark.filterwarnings("ignore:The test .* is marked with")  # one test awaits nothing
@pytest.mark.asyncio(loop_scope="class")
class ProcessContract(ProviderContract):
    era: ClassVar[EraChoice]

    @pytest.fixture
    def provider(self, process: SteadyUpstream) -> Provider:
        return process


class TestModernProcess(ProcessContract):
    era = "modern"


class TestLegacyProcess(ProcessContract):
    era = "legacy"


class TestProcessOfBothEras(ProcessContract):
    era = "auto"


class TestEventStream(ProviderContract):
    @pytest.fixture
    async def provider(self, tmp_path: Path) -> AsyncIterator[SteadyUpstream]:
        settings = settings_in(tmp_path, DOCUMENT)
        config = UpstreamConfig(url="http://127.0.0.1:8000/sse", http="sse")
        async with AsyncExitStack() as stack:
            logs = stack.enter_context(open_logs(settings, descriptor=None, file=False))
            app = build_app(House(settings, logs, guard_of))
            transport = await stack.enter_async_context(AsgiTransport(app, "up"))
            provider = await stack.enter_async_context(opened(config, open_http=over(transport)))
            yield await ready(provider)
