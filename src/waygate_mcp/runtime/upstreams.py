"""The upstreams of a house: opened once, kept across reloads, closed when no generation names them.

Knows how a section of the document becomes a `UpstreamConfig`, and which generations use which
connection. Refuses to know how an upstream is spoken to. An upstream whose section did not change lives
on through a reload, with its sessions, processes and calls in flight; one that changed is opened anew
beside the old one, which closes with the last generation that uses it.
Spec: threat model rules 19, 20, 28, 29 and 42; protocol.md 2.5.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from waygate_mcp.config.document import Document
from waygate_mcp.config.references import NOTHING_KNOWN, KnownSecrets, resolve_references
from waygate_mcp.config.upstream import UpstreamSection
from waygate_mcp.errors import ConfigError, ConfigProblem, LocalProtocolError
from waygate_mcp.model.event import Event
from waygate_mcp.model.ports import Announce, FactStore, Supervisor
from waygate_mcp.net.dial import NetworkPolicy
from waygate_mcp.net.http import HttpExchange
from waygate_mcp.net.transports import open_transport
from waygate_mcp.net.urls import parse_target
from waygate_mcp.runtime.facts import facts_key
from waygate_mcp.upstreams.connector import OpenUpstream
from waygate_mcp.upstreams.opening import (
    Transports,
    UpstreamConfig,
    check_upstream,
    open_upstream,
)
from waygate_mcp.upstreams.process import Processes, ProcessLimits
from waygate_mcp.upstreams.status import Ledger, SteadyLimits
from waygate_mcp.upstreams.steady import SteadyUpstream

__all__ = ["UpstreamHouse", "configure_upstream", "examine_upstreams", "resolve_upstreams"]

CLOSE_S = 10.0
"""Seconds the house waits for upstreams to end; the supervisor cancels what is left then."""

Hosted = Callable[[str, UpstreamConfig, Supervisor], OpenUpstream]
"""Gives how an upstream is opened whose processes another process holds."""

FIRST_LOOK_S = 2.0
"""Seconds a generation waits for its new upstreams, so that what they can do is known when it serves."""


class _Kept:
    """One open upstream, and who hears of its changes: the generations that use it."""

    def __init__(self, name: str, config: UpstreamConfig) -> None:
        self.name = name
        self.config = config
        self.listeners: list[Announce] = []
        self.stack = AsyncExitStack()
        self.provider: SteadyUpstream | None = None

    def announce(self, event: Event) -> None:
        """Pass an event on to every generation."""
        for listener in tuple(self.listeners):
            listener(event)


class UpstreamHouse:
    """Owns the connections to upstreams for the life of the process.

    `run_folder` holds what is needed to end processes a killed gateway left behind, `hidden` are folders
    no child may see. `facts` remembers over restarts what upstreams can do, `count` is told of each
    request by name and result. `hosted` is given to one of several workers (see `Transports`). An async
    context manager: leaving it closes all that is still open.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        run_folder: Path | None = None,
        hidden: tuple[Path, ...] = (),
        *,
        facts: FactStore | None = None,
        count: Callable[[str, str], None] | None = None,
        transports: Transports | None = None,
        hosted: Hosted | None = None,
    ) -> None:
        self._supervisor = supervisor
        self._facts = facts
        self._count = count
        self._transports = transports or Transports(
            open_http, Processes(run_folder, hidden=hidden), hosted
        )
        self._kept: list[_Kept] = []
        self._closing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> UpstreamHouse:
        """End what a killed gateway left behind."""
        await asyncio.to_thread(self._transports.processes.reap)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every upstream, all at the same time."""
        for one in tuple(self._kept):
            self._let_go(one)
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSE_S)

    @asynccontextmanager
    async def use(
        self, configs: Mapping[str, UpstreamConfig], announce: Announce
    ) -> AsyncIterator[tuple[SteadyUpstream, ...]]:
        """Give the upstreams of a generation, in order, until it is closed.

        Entering waits a moment for those of which nothing is known. One that is down hinders nothing.

        Raises:
            ConfigError: what no retry can heal; paths begin with `upstreams.NAME`.
        """
        used: list[_Kept] = []
        try:
            problems: list[ConfigProblem] = []
            for name, config in configs.items():
                try:
                    kept = self._find(name, config) or await self._open(name, config)
                except ConfigError as exc:
                    problems.extend(_below(name, exc))
                    continue
                kept.listeners.append(announce)
                used.append(kept)
            if problems:
                raise ConfigError(problems=problems)
            providers = [one.provider for one in used if one.provider is not None]
            unknown = [one for one in providers if not one.is_known]
            if opening := {task for one in unknown if (task := one.opening) is not None}:
                await asyncio.wait(opening, timeout=FIRST_LOOK_S)
            yield tuple(providers)
        finally:
            for kept in used:
                kept.listeners.remove(announce)
            closing = [self._let_go(one) for one in used if not one.listeners and one in self._kept]
            if closing:
                await asyncio.wait(closing)

    def forget_session(self, session_id: str, *, lives_on: bool = False) -> None:
        """Let go of what upstreams keep for a session at our door that is over.

        One that `lives_on` at another worker keeps what the host of processes has for it.
        """
        for kept in self._kept:
            is_hosted = self._transports.hosted is not None and kept.config.command is not None
            if kept.provider is not None and not (lives_on and is_hosted):
                kept.provider.forget_session(session_id)

    def tell_roots_changed(self, session_id: str) -> None:
        """Tell upstreams that the roots of a session's client changed."""
        for kept in self._kept:
            if kept.provider is not None:
                kept.provider.tell_roots_changed(session_id)

    def _find(self, name: str, config: UpstreamConfig) -> _Kept | None:
        """Give the open upstream of exactly this configuration."""
        return next((one for one in self._kept if one.name == name and one.config == config), None)

    async def _open(self, name: str, config: UpstreamConfig) -> _Kept:
        # Looks at files, and once tries a sandbox: not in the thread that serves.
        await asyncio.to_thread(check_upstream, name, config, self._transports)
        kept = _Kept(name, config)
        opened = open_upstream(
            name, config, kept.announce, supervisor=self._supervisor,
            transports=self._transports, ledger=self._ledger(name, config),
        )  # fmt: skip
        kept.provider = await kept.stack.enter_async_context(opened)
        for old in self._kept:  # of another configuration: who subscribed there hears from here
            if old.name == name and old.provider is not None:
                kept.provider.subscriptions.take_over(old.provider.subscriptions)
        self._kept.append(kept)
        return kept

    def _ledger(self, name: str, config: UpstreamConfig) -> Ledger:
        count = None if self._count is None else partial(self._count, name)
        if self._facts is None:
            return Ledger(count=count)
        key = facts_key(config)
        keep = partial(self._facts.keep, name, key)
        return Ledger(self._facts.recall(name, key), keep, count)

    def _let_go(self, kept: _Kept) -> asyncio.Task[None]:
        """Close an upstream, in a task of its own: who let it go may be cancelled meanwhile."""
        self._kept.remove(kept)
        task: asyncio.Task[None] = self._supervisor.start(
            kept.stack.aclose(), name=f"close:{kept.name}"
        )
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task


def resolve_upstreams(
    sections: Mapping[str, UpstreamSection],
    folder: Path | None,
    *,
    data_dir: Path,
    on_secret: Callable[[str], None] | None = None,
    known: KnownSecrets = NOTHING_KNOWN,
) -> dict[str, UpstreamConfig]:
    """Give the configuration of each upstream, its references resolved; `folder` is the document's.

    `on_secret` is told of what must not be logged, `known` is what was fetched (see `resolve_references`).

    Raises:
        ConfigError: all references that cannot be resolved.
    """
    configs: dict[str, UpstreamConfig] = {}
    problems: list[ConfigProblem] = []
    for name, section in sections.items():
        try:
            given = resolve_references(
                section.referring,
                data_dir=data_dir,
                path=f"upstreams.{name}",
                on_secret=on_secret,
                known=known,
            )
        except ConfigError as exc:
            problems.extend(exc.problems)
            continue
        resolved = section.model_copy(update=given)
        configs[name] = configure_upstream(resolved, folder)
    if problems:
        raise ConfigError(problems=problems)
    return configs


def examine_upstreams(
    document: Document, folder: Path | None, data_dir: Path, known: KnownSecrets = NOTHING_KNOWN
) -> list[ConfigProblem]:
    """Find all that is wrong with the enabled upstreams; nothing is started, nobody is asked.

    `folder` is the document's, `known` what was fetched of secrets.
    """
    transports = Transports(open_http, Processes())
    problems: list[ConfigProblem] = []
    for name, section in document.enabled_upstreams().items():
        try:
            configs = resolve_upstreams({name: section}, folder, data_dir=data_dir, known=known)
        except ConfigError as exc:
            problems.extend(exc.problems)
            continue
        try:
            check_upstream(name, configs[name], transports)
        except ConfigError as exc:
            problems.extend(_below(name, exc))
    return problems


def configure_upstream(section: UpstreamSection, folder: Path | None) -> UpstreamConfig:
    """Say a section, its references resolved, in the words of the room that opens it."""
    limits = section.limits
    return UpstreamConfig(
        url=section.url,
        headers=dict(section.headers),
        http=section.http,
        is_private=section.network == "private",
        command=section.command,
        args=tuple(section.args),
        env=dict(section.env),
        dangerous_env=section.allow_env,
        cwd=_folder(section.cwd, folder) if section.command is not None else None,
        sandbox=section.sandbox,
        process_limits=ProcessLimits(limits.open_files, limits.memory_bytes),
        era=section.era,
        sessions=None if section.sessions == "auto" else section.sessions,
        sessions_max=limits.sessions,
        session_idle_s=limits.session_idle_s,
        open_timeout_s=limits.open_timeout_s,
        list_timeout_s=limits.list_timeout_s,
        message_bytes=limits.message_bytes,
        limits=SteadyLimits(calls=limits.calls, waiting=limits.waiting, failures=limits.failures),
    )


def _folder(given: str | None, document: Path | None) -> str:
    base = document or Path()
    try:
        return str((base / Path(given or ".").expanduser()).resolve())
    except (ValueError, RuntimeError):  # a NUL in it, or a home nobody has: found to be no folder
        return given or "."


def open_http(name: str, config: UpstreamConfig) -> AbstractAsyncContextManager[HttpExchange]:
    """Open the guarded way to the origin of an upstream's URL.

    Raises:
        ConfigError: the URL is none; a header must not be sent.
    """
    assert config.url is not None
    policy = NetworkPolicy.for_document(parse_target(config.url), allows_private=config.is_private)
    try:
        return open_transport(
            config.url, policy, upstream=name, headers=tuple(config.headers.items())
        )
    except LocalProtocolError as exc:
        raise ConfigError(str(exc), path="headers") from exc


def _below(name: str, exc: ConfigError) -> list[ConfigProblem]:
    """Give the problems of an upstream with paths that begin at the document."""
    return [
        ConfigProblem(
            ".".join(part for part in ("upstreams", name, problem.path) if part),
            problem.message,
            suggestion=problem.suggestion,
        )
        for problem in exc.problems
    ]
