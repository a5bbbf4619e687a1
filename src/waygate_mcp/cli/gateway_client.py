"""A gateway as the commands `tools`, `resources` and `prompts` see it: near or far, the same verbs.

Knows how a gateway is reached over the network, and how one is started in this process. Refuses to
know what is asked of it and how results are shown.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from waygate_mcp.cli.output import note
from waygate_mcp.config.document import DEFAULT_ENDPOINT
from waygate_mcp.config.settings import Settings
from waygate_mcp.errors import (
    CallTimeoutError,
    ConfigError,
    RpcError,
    UpstreamProtocolError,
    UpstreamUnavailableError,
)
from waygate_mcp.gateway.endpoint import Endpoint
from waygate_mcp.model.call import Answer, Call, InputRequired, Outcome, Reply
from waygate_mcp.model.catalog import Entry, Kind, Viewer
from waygate_mcp.model.event import Event
from waygate_mcp.model.ports import Caller, Provider
from waygate_mcp.model.principal import LOCAL
from waygate_mcp.net.aiohttp_client import AiohttpTransport, parse_origin
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.jsonrpc import encode_json
from waygate_mcp.protocol.versions import MODERN
from waygate_mcp.runtime.house import House
from waygate_mcp.runtime.tasks import TaskSupervisor
from waygate_mcp.telemetry.logs import open_logs
from waygate_mcp.upstreams.detect import CredentialsWantedError
from waygate_mcp.upstreams.listing import LIST_METHODS, Bounds, Page, read_all, read_page
from waygate_mcp.upstreams.streamable_http import UpstreamLimits, connect

__all__ = ["Gateway", "Where", "ask_gateway", "open_gateway", "read_key"]

_MAX_ROUNDS = 10
_CAPABILITIES = ClientCapabilities.parse({"elicitation": {"form": {}, "url": {}}}, MODERN)
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - told apart, not bound
_REMOTE = UpstreamLimits(open_s=10.0, watches_changes=False)


class Where(msgspec.Struct, frozen=True):
    """Which gateway is meant: `url`, or what `settings` describe; `endpoint` is one of its catalogs.

    `timeout_s` is how long one call may take, questions not counted.
    """

    settings: Settings
    url: str | None = None
    endpoint: str = DEFAULT_ENDPOINT
    key_file: Path | None = None
    in_process: bool = False
    timeout_s: float = 300.0

    @property
    def address(self) -> str:
        """The URL of the endpoint."""
        if self.url is not None:
            base = self.url.rstrip("/")
            is_bare = parse_origin(base)[1] == "/"
            return base + self._path if is_bare else self.url
        host = _ANY_ADDRESS.get(self.settings.host, self.settings.host)
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.settings.port}{self._path}"

    @property
    def _path(self) -> str:
        is_default = self.endpoint == DEFAULT_ENDPOINT
        return "/mcp" if is_default else f"/servers/{self.endpoint}/mcp"


class Gateway(Protocol):
    """What can be asked of a gateway."""

    async def entries(self, kind: Kind) -> tuple[Entry, ...]:
        """Give all entries of a kind, in the gateway's order."""

    async def call(self, call: Call) -> Outcome:
        """Answer one call, or ask for input."""


@asynccontextmanager
async def open_gateway(where: Where) -> AsyncIterator[Gateway]:
    """Reach the gateway that is meant; where none answers and no URL was given, start one here.

    Raises:
        CredentialsWantedError: it answers, and wants another key.
        UpstreamUnavailableError: it cannot be reached.
        ConfigError: the URL, the key or the document is not usable.
    """
    async with AsyncExitStack() as stack:
        yield await _reach(where, stack)


async def _reach(where: Where, stack: AsyncExitStack) -> Gateway:
    """Choose between near and far."""
    if not where.in_process:
        try:
            return await stack.enter_async_context(_open_remote(where))
        except CredentialsWantedError:
            raise
        except UpstreamUnavailableError:
            if where.url is not None:
                raise
            note(f"no gateway answers at {where.address}; starting one in this process")
    return await stack.enter_async_context(_open_here(where))


async def ask_gateway(
    gateway: Gateway, where: Where, method: str, params: dict[str, Any], caller: Caller
) -> Reply:
    """Do one call, asking `caller` whatever the gateway wants to know, to its final reply.

    Raises:
        CallTimeoutError: it took longer than `where.timeout_s`.
        RpcError: the gateway's error, or more rounds of questions than anybody would answer.
    """
    call = Call(
        request_id="cli",
        endpoint=where.endpoint,
        method=method,
        name=str(params.get("name") or params.get("uri") or ""),
        params=params,
        body=b"",
        principal=LOCAL,
        revision=MODERN,
        capabilities=_CAPABILITIES,
        caller=caller,
        deadline_s=time.monotonic() + where.timeout_s,
        progress_token=1,
        client_name="waygate",
    )
    call.target = call.name
    for _ in range(_MAX_ROUNDS):
        try:
            async with asyncio.timeout(where.timeout_s):
                outcome = await gateway.call(call)
        except TimeoutError:
            raise CallTimeoutError(where.timeout_s) from None
        if isinstance(outcome, Reply):
            return outcome
        call.input_responses = await _answers(outcome, caller)
        call.request_state = outcome.state
    raise RpcError(-32603, f"more than {_MAX_ROUNDS} rounds of questions")


async def _answers(outcome: InputRequired, caller: Caller) -> dict[str, bytes] | None:
    """Ask one question after the other: a terminal shows one at a time."""
    answers: dict[str, bytes] = {}
    for key, question in outcome.requests.items():
        answer: Answer = await caller.ask(question)
        if answer.result is None:
            raise RpcError(answer.error_code, answer.error_message)
        answers[key] = answer.result
    return answers or None


# --- far


class _Remote:
    """A gateway on the network."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def entries(self, kind: Kind) -> tuple[Entry, ...]:
        """See Gateway."""
        return (await self._provider.listing(kind, Viewer(LOCAL, _CAPABILITIES))).entries

    async def call(self, call: Call) -> Outcome:
        """See Gateway."""
        return await self._provider.call(call)


def _hear_nothing(_event: Event) -> None:
    """A command is over before a change would matter."""


@asynccontextmanager
async def _open_remote(where: Where) -> AsyncIterator[_Remote]:
    """Connect to a running gateway."""
    origin, path = parse_origin(where.address)
    key = await asyncio.to_thread(read_key, where)
    headers = [] if key is None else [("authorization", f"Bearer {key}")]
    name = where.address
    async with AsyncExitStack() as stack:
        supervisor = await stack.enter_async_context(TaskSupervisor())
        transport = await stack.enter_async_context(AiohttpTransport(origin, name, headers=headers))
        opened = connect(
            name, transport, path, _hear_nothing, supervisor=supervisor, limits=_REMOTE
        )
        yield _Remote(await stack.enter_async_context(opened))


def read_key(where: Where) -> str | None:
    """Read the key: `--key-file`, then WAYGATE_API_KEY, then WAYGATE_API_KEY_FILE; None without.

    Raises:
        ConfigError: the file cannot be read, or holds no key.
    """
    settings = where.settings
    path = where.key_file
    if path is None and settings.api_key is not None:
        return settings.api_key.get_secret_value()
    if path is None:
        path = settings.api_key_file
    if path is None:
        return None
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot be read: {exc}", path=str(path)) from exc
    key = text.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError("does not hold a key", path=str(path))
    return key


# --- near


class _Here:
    """A gateway in this process."""

    def __init__(self, endpoint: Endpoint, where: Where, caller: Caller) -> None:
        self._endpoint = endpoint
        self._where = where
        self._silent = caller

    async def entries(self, kind: Kind) -> tuple[Entry, ...]:
        """See Gateway."""
        method = LIST_METHODS[kind]

        async def fetch(cursor: str | None) -> Page:
            params = {} if cursor is None else {"cursor": cursor}
            reply = await ask_gateway(self, self._where, method, params, self._silent)
            return read_page("gateway", kind, msgspec.Raw(reply.result))

        return (await read_all("gateway", kind, fetch, Bounds(), is_modern=True)).entries

    async def call(self, call: Call) -> Outcome:
        """See Gateway."""
        if not call.body:
            call.body = b'{"method":%b,"params":%b}' % (
                encode_json(call.method), encode_json(call.params)
            )  # fmt: skip
        outcome = await self._endpoint.handler_for(call.method)(call)
        if not isinstance(outcome, Reply | InputRequired):
            raise UpstreamProtocolError("gateway", "gave no reply")
        return outcome


class _Nobody:
    """The caller of lists, of whom nothing is asked."""

    log_level = None

    async def emit(self, event: object) -> None:
        """Drop it."""

    async def ask(self, question: object) -> Answer:
        """Refuse."""
        return Answer(None, -32601, "not available")

    async def close_stream(self) -> None:
        """Do nothing."""


@asynccontextmanager
async def _open_here(where: Where) -> AsyncIterator[_Here]:
    """Start the gateway of the configuration, without any door."""
    quiet = where.settings.model_copy(update={"log_level": "WARNING", "log_format": "console"})
    with open_logs(quiet, file=False) as logs:
        async with House(where.settings, logs, lambda *_: None) as house:
            endpoints = house.current().gateway.endpoints
            endpoint = endpoints.get(where.endpoint)
            if endpoint is None:
                raise ConfigError(f"there is no endpoint {where.endpoint!r}", path="endpoints")
            yield _Here(endpoint, where, _Nobody())
