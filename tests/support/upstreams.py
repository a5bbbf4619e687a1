"""Upstreams of tests, opened as the house opens them, and what is left of them afterwards."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from tests.support.providers import Announced
from waygate_mcp.net.aiohttp_client import AiohttpTransport, parse_origin
from waygate_mcp.net.http import HttpExchange
from waygate_mcp.runtime.tasks import TaskSupervisor
from waygate_mcp.upstreams.opening import Transports, UpstreamConfig, open_upstream
from waygate_mcp.upstreams.process import Processes
from waygate_mcp.upstreams.steady import SteadyUpstream

EVERYTHING = """
auth: {mode: none}
server: {http_sse: true}
plugins: {everything: {use: waygate_mcp.testing.everything}}
endpoints: {default: {prefix: none}}
"""
"""The document of a gateway that offers the fixture under its own names."""


_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "alone")
RUN = os.environ.get("TEST_RUN_OF_UPSTREAMS", "")
if not RUN.endswith(f"-{_WORKER}"):  # else it is that of the test which started this process
    RUN = f"{os.getpid()}-{_WORKER}"
os.environ["TEST_RUN_OF_UPSTREAMS"] = RUN
"""Tells the processes of this worker of a run of tests from those of others on the same machine."""

_RUN_ENV = {"TEST_RUN_OF_UPSTREAMS": RUN}


def over_network(name: str, config: UpstreamConfig) -> AbstractAsyncContextManager[HttpExchange]:
    """Reach a real server."""
    assert config.url is not None
    return AiohttpTransport(
        parse_origin(config.url)[0], name, headers=tuple(config.headers.items())
    )


def over(exchange: HttpExchange) -> Callable[[str, UpstreamConfig], Any]:
    """Reach whatever an exchange leads to."""

    @asynccontextmanager
    async def open_http(_name: str, _config: UpstreamConfig) -> AsyncIterator[HttpExchange]:
        yield exchange

    return open_http


def own_gateway(folder: Path, **more: Any) -> UpstreamConfig:
    """A gateway of our own behind standard input and output, offering the fixture."""
    document = folder / "waygate.yaml"
    document.write_text(EVERYTHING)
    return UpstreamConfig(
        command=sys.executable,
        args=("-c", "from waygate_mcp.cli.main import app; app()", "stdio", "-c", str(document)),
        env={**_RUN_ENV, "WAYGATE_DATA_DIR": str(folder / "data"), "WAYGATE_LOG_DIR": "none"},
        cwd=str(folder),
        **more,
    )


def script(source: str, **more: Any) -> UpstreamConfig:
    """A server written as a Python program; no walls, so that its process ids are those outside."""
    given = {"sandbox": "none", **more, "env": {**_RUN_ENV, **more.get("env", {})}}
    return UpstreamConfig(command=sys.executable, args=("-u", "-c", source), **given)


@asynccontextmanager
async def opened(
    config: UpstreamConfig,
    *,
    run_folder: Path | None = None,
    open_http: Callable[[str, UpstreamConfig], Any] = over_network,
    announced: Announced | None = None,
) -> AsyncIterator[SteadyUpstream]:
    """Open an upstream with everything it needs."""
    async with TaskSupervisor() as supervisor:
        transports = Transports(open_http, Processes(run_folder))
        async with open_upstream(
            "up", config, announced or Announced(), supervisor=supervisor, transports=transports
        ) as provider:
            yield provider
        await asyncio.sleep(0)


async def ready(provider: SteadyUpstream, within_s: float = 30.0) -> SteadyUpstream:
    """Wait until an upstream is open."""
    async with asyncio.timeout(within_s):
        while provider.status.state in {"new", "opening"}:  # noqa: ASYNC110 - nobody else asks
            await asyncio.sleep(0.02)
    return provider


def children() -> set[int]:
    """The processes of upstreams of this run, whatever became of their parents."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
                has_marker = f"TEST_RUN_OF_UPSTREAMS={RUN}".encode() in environment
                has_marker = has_marker and b"WAYGATE_CHILD=" in environment
            except OSError:
                continue
            if has_marker and int(entry.name) != os.getpid():
                found.add(int(entry.name))
    return found


@contextmanager
def nothing_left() -> Iterator[None]:
    """Fail where a process or a descriptor is left that was not there before."""
    before, descriptors = children(), len(os.listdir("/proc/self/fd"))
    yield
    assert children() - before == set()
    assert len(os.listdir("/proc/self/fd")) <= descriptors
