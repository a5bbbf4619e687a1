"""One function for all upstreams: from a configuration to a Provider.

Knows which transport a configuration means and how long each may take. Refuses to know the document:
whoever builds the house maps it to `UpstreamConfig`.
Spec: protocol.md 2.5 and 6.4.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import msgspec

from waygate_mcp.errors import ConfigError
from waygate_mcp.model.ports import Announce, Supervisor
from waygate_mcp.net.http import HttpExchange
from waygate_mcp.net.urls import parse_target
from waygate_mcp.upstreams.connector import OpenUpstream
from waygate_mcp.upstreams.http_sse import open_sse_line
from waygate_mcp.upstreams.legacy import NotLegacyError
from waygate_mcp.upstreams.lines import Backoff, Lines, OpenLine
from waygate_mcp.upstreams.process import Command, Processes, ProcessLimits
from waygate_mcp.upstreams.sandbox import SandboxChoice
from waygate_mcp.upstreams.sessions import SessionMode
from waygate_mcp.upstreams.status import NO_LEDGER, Ledger, SteadyLimits
from waygate_mcp.upstreams.stdio import open_process_line
from waygate_mcp.upstreams.steady import SteadyUpstream
from waygate_mcp.upstreams.streamable_http import (
    EraChoice,
    Upstream,
    UpstreamLimits,
    connect,
)

__all__ = ["Transports", "UpstreamConfig", "check_upstream", "open_processes", "open_upstream"]

_SSE_STATUSES = (400, 404, 405)


class UpstreamConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One upstream. Exactly one of `url` and `command` is given.

    `headers` go to the origin of `url` alone. `is_private` lets its name lead to private addresses.
    `http` is the HTTP transport, found by trying unless it is named. `sessions` None means: a session
    for each session at our door over HTTP, a process for each principal otherwise. `sessions_max` None
    means 1,000 sessions, or 32 processes.
    """

    url: str | None = None
    headers: Mapping[str, str] = {}
    http: Literal["auto", "streamable", "sse"] = "auto"
    is_private: bool = False
    command: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    dangerous_env: tuple[str, ...] = ()
    cwd: str | None = None
    sandbox: SandboxChoice = "auto"
    process_limits: ProcessLimits = ProcessLimits()
    era: EraChoice = "auto"
    sessions: SessionMode | None = None
    sessions_max: int | None = None
    session_idle_s: float = 1_800.0
    open_timeout_s: float = 30.0
    probe_timeout_s: float = 5.0
    list_timeout_s: float = 60.0
    message_bytes: int = 16 * 1024 * 1024
    limits: SteadyLimits = SteadyLimits()


@dataclass(frozen=True)
class Transports:
    """What carries bytes. `open_http` opens a way to the origin of `config.url`, credentials on.

    `hosted` gives how an upstream is opened whose processes another process holds, for all workers of a
    machine; None where this one holds them itself.
    """

    open_http: Callable[[str, UpstreamConfig], AbstractAsyncContextManager[HttpExchange]]
    processes: Processes
    hosted: Callable[[str, UpstreamConfig, Supervisor], OpenUpstream] | None = None


def check_upstream(name: str, config: UpstreamConfig, transports: Transports) -> None:
    """Find out whether an upstream can be opened at all; nothing is started, nobody is asked.

    Raises:
        ConfigError: what no retry can heal: neither or both of `url` and `command`, a URL or a header
            that is none, no such program or folder, a refused environment. Paths begin below the
            upstream.
    """
    if (config.url is None) == (config.command is None):
        raise ConfigError("needs either `url` or `command`", path="url")
    if config.command is not None:
        for index, argument in enumerate(config.args):
            if "\0" in argument:
                raise ConfigError("holds a NUL character", path=f"args[{index}]")
        transports.processes.check(_command(config))
        return
    if config.http == "sse" and config.era == "modern":
        raise ConfigError("HTTP+SSE has no modern era", path="era")
    transports.open_http(name, config)  # made and thrown away: it opens when it is entered


def _command(config: UpstreamConfig) -> Command:
    assert config.command is not None
    return Command(
        config.command,
        config.args,
        config.env,
        config.dangerous_env,
        config.cwd,
        config.sandbox,
        config.process_limits,
    )


@asynccontextmanager
async def open_upstream(
    name: str,
    config: UpstreamConfig,
    announce: Announce,
    *,
    supervisor: Supervisor,
    transports: Transports,
    ledger: Ledger = NO_LEDGER,
) -> AsyncIterator[SteadyUpstream]:
    """Serve an upstream as the provider `name`, whether it is up or not.

    Entering the context waits for nothing: the upstream is opened in the background, and whatever
    keeps it from being opened is in the provider's `status`. Leaving it ends its sessions, streams
    and processes.

    Raises:
        ConfigError: see `check_upstream`.
    """
    check_upstream(name, config, transports)
    way: _StdioWay | _HttpWay
    if config.command is not None:
        way = _StdioWay(name, config, supervisor, transports.processes)
    else:
        way = _HttpWay(name, config, supervisor, transports)
    opener: OpenUpstream = way.open
    if transports.hosted is not None and config.command is not None:
        opener = transports.hosted(name, config, supervisor)
    upstream = SteadyUpstream(
        name, opener, announce, supervisor=supervisor, limits=config.limits, ledger=ledger,
    )  # fmt: skip
    upstream.transport = way.transport
    upstream.sandbox = way.sandbox
    upstream.start()
    try:
        yield upstream
    finally:
        await upstream.close()


def open_processes(
    name: str, config: UpstreamConfig, supervisor: Supervisor, processes: Processes
) -> OpenUpstream:
    """Give how an upstream behind a command is opened by whoever holds its processes.

    Raises:
        ConfigError: see `open_upstream`.
    """
    return _StdioWay(name, config, supervisor, processes).open


def _limits(config: UpstreamConfig, mode: SessionMode, most: int) -> UpstreamLimits:
    return UpstreamLimits(
        message_bytes=config.message_bytes,
        open_s=config.open_timeout_s,
        list_s=config.list_timeout_s,
        sessions=config.sessions_max or most,
        session_idle_s=config.session_idle_s,
        session_mode=config.sessions or mode,
        probe_s=config.probe_timeout_s if config.command is not None else None,
    )


@asynccontextmanager
async def _over_lines(
    lines: Lines,
    announce: Announce,
    supervisor: Supervisor,
    era: EraChoice,
    limits: UpstreamLimits,
) -> AsyncIterator[Upstream]:
    """Open a connector whose sessions are lines of their own."""
    upstream = Upstream(
        lines.name, lines.modern, announce,
        supervisor=supervisor, limits=limits, open_channel=lines.open_session,
    )  # fmt: skip
    try:
        await upstream.open(era)
        upstream.start_sweeping()
        yield upstream
    finally:
        try:
            await upstream.close()
        finally:
            await lines.close()


class _StdioWay:
    """How an upstream behind a process is opened."""

    transport = "stdio"

    def __init__(
        self, name: str, config: UpstreamConfig, supervisor: Supervisor, processes: Processes
    ) -> None:
        self._name = name
        self._config = config
        self._supervisor = supervisor
        self._processes = processes
        self._command = _command(config)
        self.sandbox = self._processes.describe(self._command)
        self._backoff = Backoff()

    def open(self, announce: Announce) -> AbstractAsyncContextManager[Upstream]:
        """See OpenUpstream."""
        open_line: OpenLine = open_process_line(
            self._name,
            self._command,
            self._processes,
            self._supervisor,
            limit_bytes=self._config.message_bytes,
        )
        lines = Lines(self._name, open_line, self._backoff)
        limits = _limits(self._config, "principal", 32)
        return _over_lines(lines, announce, self._supervisor, self._config.era, limits)


class _HttpWay:
    """How an upstream behind a URL is opened."""

    sandbox = ""
    transport = "http"

    def __init__(
        self, name: str, config: UpstreamConfig, supervisor: Supervisor, transports: Transports
    ) -> None:
        assert config.url is not None
        target = parse_target(config.url)
        self._origin, self._path = target.origin, target.path
        self._name = name
        self._config = config
        self._supervisor = supervisor
        self._open_http = transports.open_http
        self._backoff = Backoff()

    @asynccontextmanager
    async def open(self, announce: Announce) -> AsyncIterator[Upstream]:
        """See OpenUpstream: Streamable HTTP, and where there is none, HTTP+SSE."""
        async with (
            self._open_http(self._name, self._config) as exchange,
            self._choose(exchange, announce) as upstream,
        ):
            yield upstream

    @asynccontextmanager
    async def _choose(self, exchange: HttpExchange, announce: Announce) -> AsyncIterator[Upstream]:
        if self._config.http != "sse":
            opened = connect(
                self._name, exchange, self._path, announce,
                supervisor=self._supervisor, era=self._config.era,
                limits=_limits(self._config, "client", 1_000),
            )  # fmt: skip
            try:
                upstream = await opened.__aenter__()
            except NotLegacyError as exc:
                if self._config.http == "streamable" or exc.status not in _SSE_STATUSES:
                    raise
            else:
                try:
                    upstream.start_sweeping()
                    yield upstream
                finally:
                    await opened.__aexit__(None, None, None)
                return
        async with self._over_sse(exchange, announce) as upstream:
            yield upstream

    def _over_sse(
        self, exchange: HttpExchange, announce: Announce
    ) -> AbstractAsyncContextManager[Upstream]:
        if self._config.era == "modern":
            raise ConfigError("HTTP+SSE has no modern era", path="era")
        open_line = open_sse_line(
            self._name,
            exchange,
            (self._origin, self._path),
            self._supervisor,
            limit_bytes=self._config.message_bytes,
        )
        lines = Lines(self._name, open_line, self._backoff)
        limits = _limits(self._config, "client", 1_000)
        return _over_lines(lines, announce, self._supervisor, "legacy", limits)
