from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.exchange import FakeExchange, Response
from tests.support.providers import Announced, TaskGroupSupervisor
from waygate_mcp.errors import ConfigError
from waygate_mcp.net.http import HttpExchange
from waygate_mcp.upstreams.opening import Transports, UpstreamConfig, open_upstream
from waygate_mcp.upstreams.process import Processes
from waygate_mcp.upstreams.steady import SteadyUpstream

CASES = [
    (UpstreamConfig(), "url"),
    (UpstreamConfig(url="https://h/", command="x"), "url"),
    (UpstreamConfig(url="ftp://h/"), "url"),
    (UpstreamConfig(url="https://[x/"), "url"),
    (UpstreamConfig(url="https://h/", http="sse", era="modern"), "era"),
    (UpstreamConfig(command="no-such-program"), "command"),
    (UpstreamConfig(command=sys.executable, args=("a", "b\0")), "args[1]"),
    (UpstreamConfig(command=sys.executable, env={"LD_PRELOAD": "x"}), "env.LD_PRELOAD"),
]


@asynccontextmanager
async def refusing(_name: str, _config: UpstreamConfig) -> AsyncIterator[HttpExchange]:
    yield FakeExchange(server__discover=lambda _: Response(503), initialize=lambda _: Response(503))


def state_of(provider: SteadyUpstream) -> str:
    return provider.status.state


@pytest.mark.parametrize(("config", "path"), CASES)
async def test_what_no_retry_can_heal_is_said_at_once(config: UpstreamConfig, path: str) -> None:
    supervisor = TaskGroupSupervisor()
    opening = open_upstream(
        "up", config, Announced(), supervisor=supervisor,
        transports=Transports(refusing, Processes()),
    )  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        await opening.__aenter__()
    assert caught.value.path == path
    assert not supervisor.tasks


async def test_an_upstream_that_is_down_is_a_provider_all_the_same() -> None:
    supervisor = TaskGroupSupervisor()
    async with open_upstream(
        "up", UpstreamConfig(url="https://h/mcp"), Announced(), supervisor=supervisor,
        transports=Transports(refusing, Processes()),
    ) as provider:  # fmt: skip
        assert state_of(provider) == "opening"
        assert provider.features.tools
    assert state_of(provider) == "closed"
    await supervisor.close()
