"""The modern connector: each request carries everything, questions come inside results.

Knows requests of 2026-07-28 and its listening stream. Refuses to know sessions, and which transport
carries a message.
Spec: 2026-07-28 basic/index, basic/transports/streamable-http, basic/patterns.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from waygate_mcp.errors import TooLargeError, UpstreamError, UpstreamProtocolError, let_go
from waygate_mcp.model.call import Call, InputRequired, Outcome
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import Event
from waygate_mcp.model.ports import Caller, Supervisor
from waygate_mcp.net.http import Header
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES, ClientCapabilities
from waygate_mcp.protocol.headers import HeaderParam, mirrored_headers
from waygate_mcp.protocol.stateless import ListenFilter, read_listen_filter
from waygate_mcp.protocol.tasks import TASKS_EXTENSION
from waygate_mcp.protocol.versions import MODERN
from waygate_mcp.upstreams.calls import (
    ModernContext,
    error_for,
    modern_meta,
    modern_outcome,
    modern_params,
)
from waygate_mcp.upstreams.channel import Channel, Conversation, Incoming, RemoteError
from waygate_mcp.upstreams.events import changes_of, log_event, progress_event
from waygate_mcp.upstreams.listing import LIST_METHODS, Page, read_page
from waygate_mcp.upstreams.slices import join

__all__ = ["Answered", "ModernConnector", "Watcher"]

_log = logging.getLogger(__name__)
_ACK_S = 3.0
_NO_STREAM = (jsonrpc.METHOD_NOT_FOUND, jsonrpc.INVALID_REQUEST)
_VERSION_HEADER: Header = ("mcp-protocol-version", MODERN.text)
_MAX_KEPT, _MAX_KEPT_NAME = 512, 256
_FIRST_BACKOFF_S, _MAX_BACKOFF_S = 0.5, 30.0


class Answered(msgspec.Struct, frozen=True):
    """The one response to a request of ours. `status` is the HTTP status it came with."""

    status: int
    result: msgspec.Raw | None = None
    error: RemoteError | None = None


class _Request(msgspec.Struct, frozen=True):
    """A request ready to be sent."""

    identifier: str
    message: bytes
    headers: tuple[Header, ...]


class ModernConnector:
    """Speaks 2026-07-28 to one upstream.

    `new_id` gives request ids nobody else uses.
    """

    def __init__(
        self,
        upstream: str,
        channel: Channel,
        new_id: Callable[[], str],
        client_info: Mapping[str, Any],
    ) -> None:
        self.upstream = upstream
        self._channel = channel
        self._new_id = new_id
        self._client_info = client_info
        self._contexts: dict[tuple[ClientCapabilities, str | None, tuple[str, ...]], ModernContext]
        self._contexts = {}
        self._headers: dict[tuple[str, str | None], tuple[Header, ...]] = {}

    async def discover(self) -> Answered:
        """Ask `server/discover`; also the probe by which the era is found."""
        return await self.request("server/discover", {}, NO_CAPABILITIES)

    async def fetch_page(
        self, kind: Kind, cursor: str | None, capabilities: ClientCapabilities
    ) -> Page:
        """Fetch one page of a list."""
        params: dict[str, Any] = {} if cursor is None else {"cursor": cursor}
        answered = await self.request(LIST_METHODS[kind], params, capabilities)
        if answered.result is None:
            text = "nothing" if answered.error is None else answered.error.message[:500]
            raise UpstreamProtocolError(self.upstream, f"{LIST_METHODS[kind]}: {text}")
        return read_page(self.upstream, kind, answered.result)

    async def request(
        self,
        method: str,
        params: Mapping[str, Any],
        capabilities: ClientCapabilities,
        extensions: tuple[str, ...] = (),
        name: str | None = None,
    ) -> Answered:
        """Send a request of our own and await its response; `name` is what it is about, if anything."""
        meta = modern_meta(ModernContext(self._client_info, capabilities, None, extensions))
        members = {name: msgspec.Raw(jsonrpc.encode_json(value)) for name, value in params.items()}
        members["_meta"] = msgspec.Raw(join(meta))
        request = self._request(method, join(members), mirrored_headers(method, name))
        return await self._exchange(request, None, None)

    async def call(
        self,
        call: Call,
        header_params: Sequence[HeaderParam],
        extensions: tuple[str, ...] = (),
    ) -> Outcome | RemoteError:
        """Forward one call; an error that is between the upstream and us is given, not raised.

        So is one about a capability the client's revision cannot declare. `extensions` are declared.

        Raises:
            RpcError, CapabilityMissingError: the upstream's error, in the client's era.
            UpstreamError: no answer, or none that is MCP.
        """
        token = None if call.progress_token is None else self._new_id()
        context = self._context(call, extensions)
        name = None if call.method == "completion/complete" else call.target
        if header_params:
            mirrored = mirrored_headers(call.method, name, header_params, call.arguments)
            headers = (_VERSION_HEADER, *mirrored)
        else:
            headers = self._usual_headers(call.method, name)
        identifier = self._new_id()
        params = modern_params(call, context, token)
        message = jsonrpc.encode_request(identifier, call.method, params)
        begun = await self._channel.send(message, headers, identifier=identifier)
        if isinstance(begun, Incoming):
            if begun.error is None:
                return modern_outcome(self.upstream, call.method, begun.result, extensions)
            answered = Answered(200, error=begun.error)
        else:
            answered = await self._read(begun, identifier, call.caller, token)
        if answered.result is not None:
            return modern_outcome(self.upstream, call.method, answered.result, extensions)
        error = answered.error
        if error is None:
            raise UpstreamProtocolError(
                self.upstream, f"answered HTTP {answered.status} without a JSON-RPC response"
            )
        if error.code in (jsonrpc.HEADER_MISMATCH, jsonrpc.UNSUPPORTED_VERSION):
            return error
        if error.code == jsonrpc.MISSING_CAPABILITY and not call.revision.is_modern:
            return error
        said = error_for(call, self.upstream, error, is_modern=True)
        if isinstance(said, InputRequired):
            return said
        raise said

    def _context(self, call: Call, extensions: tuple[str, ...]) -> ModernContext:
        """Give what requests say of a caller; callers that are alike share it."""
        key = (call.capabilities, call.caller.log_level, extensions)
        context = self._contexts.get(key)
        if context is None:
            if len(self._contexts) >= _MAX_KEPT:
                self._contexts.clear()
            context = ModernContext(self._client_info, *key)
            self._contexts[key] = context
        return context

    def _usual_headers(self, method: str, name: str | None) -> tuple[Header, ...]:
        """Give the headers of a call that mirror none of its arguments."""
        headers = self._headers.get((method, name))
        if headers is None:
            headers = (_VERSION_HEADER, *mirrored_headers(method, name))
            if name is None or len(name) <= _MAX_KEPT_NAME:
                if len(self._headers) >= _MAX_KEPT:
                    self._headers.clear()
                self._headers[method, name] = headers
        return headers

    def _request(self, method: str, params: bytes, headers: Sequence[Header]) -> _Request:
        """Frame a request with a new id."""
        identifier = self._new_id()
        message = jsonrpc.encode_request(identifier, method, params)
        return _Request(identifier, message, (_VERSION_HEADER, *headers))

    async def _exchange(
        self, request: _Request, caller: Caller | None, token: str | None
    ) -> Answered:
        """Send a request, hand its events on, give its response."""
        begun = self._channel.request(request.message, request.headers)
        return await self._read(begun, request.identifier, caller, token)

    async def _read(
        self,
        begun: AbstractAsyncContextManager[Conversation],
        identifier: str,
        caller: Caller | None,
        token: str | None,
    ) -> Answered:
        """Read what answers a request to its response, and hand on what comes before."""
        async with begun as conversation:
            async for incoming in conversation.messages():
                if incoming.is_response and _answers(incoming, identifier):
                    return _answered(conversation, incoming)
                if caller is not None:
                    await _tell(caller, incoming, token)
            if conversation.status >= 400:
                return Answered(conversation.status)
            raise UpstreamProtocolError(self.upstream, "closed its answer before a response")

    # --- the listening stream

    async def listen(
        self,
        wanted: ListenFilter,
        on_ack: Callable[[ListenFilter], None],
        on_event: Callable[[Event], None],
        on_task: Callable[[bytes], None] | None = None,
    ) -> bool:
        """Listen to changes until the stream ends; False where there is no such stream at all.

        `on_ack` hears what the upstream confirmed, before the first event. `on_task` is given how a task
        is, as it is written.

        Raises:
            UpstreamError: it cannot be opened, or broke off.
        """
        extensions = (TASKS_EXTENSION,) if wanted.tasks else ()
        meta = modern_meta(ModernContext(self._client_info, NO_CAPABILITIES, None, extensions))
        method = "subscriptions/listen"
        notifications = jsonrpc.encode_json(wanted.to_notifications())
        params = join(
            {"notifications": msgspec.Raw(notifications), "_meta": msgspec.Raw(join(meta))}
        )
        request = self._request(method, params, mirrored_headers(method, None))
        async with self._channel.request(request.message, request.headers) as conversation:
            async for incoming in conversation.messages():
                if incoming.is_response and _answers(incoming, request.identifier):
                    return incoming.error is None or incoming.error.code not in _NO_STREAM
                if incoming.method == "notifications/subscriptions/acknowledged":
                    on_ack(_confirmed(incoming))
                    continue
                if incoming.method == "notifications/tasks" and on_task is not None:
                    on_task(bytes(incoming.params))
                for event in changes_of(incoming, self.upstream):
                    on_event(event)
            return conversation.status not in (404, 405)


def _answers(incoming: Incoming, identifier: str) -> bool:
    """Tell whether a response is meant for a request; errors about unreadable ones carry no id."""
    return incoming.id == identifier or (incoming.id is None and incoming.error is not None)


def _answered(conversation: Conversation, incoming: Incoming) -> Answered:
    """Give a response with its status."""
    if incoming.error is not None:
        return Answered(conversation.status, error=incoming.error)
    return Answered(conversation.status, result=incoming.result)


async def _tell(caller: Caller, incoming: Incoming, token: str | None) -> None:
    """Hand progress and log messages to the caller."""
    event = progress_event(incoming, token) or log_event(incoming)
    if event is not None:
        await caller.emit(event)


def _confirmed(incoming: Incoming) -> ListenFilter:
    """Read what the upstream confirmed; nothing, where it is malformed."""
    try:
        params = msgspec.json.decode(incoming.params)
    except msgspec.DecodeError:
        params = None
    read = read_listen_filter(params) if isinstance(params, dict) else ""
    return read if isinstance(read, ListenFilter) else ListenFilter()


class Watcher:
    """Keeps one listening stream open as long as there is something to hear.

    `lists` says which lists are watched whoever listens. Reconnects with growing pauses; after each
    reconnect `on_gap` is told, because changes may have been missed. `confirmed` is what the upstream agreed
    to tell, nothing while the stream is not open.
    """

    def __init__(
        self,
        connector: ModernConnector,
        supervisor: Supervisor,
        lists: ListenFilter,
        on_event: Callable[[Event], None],
        on_gap: Callable[[], None],
    ) -> None:
        self._connector = connector
        self._supervisor = supervisor
        self._lists = lists
        self._on_event = on_event
        self._on_gap = on_gap
        self._uris: Counter[str] = Counter()
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._asked_for = ListenFilter()
        self.confirmed = ListenFilter()
        self.is_open = False
        self._is_closed = False

    async def start(self) -> None:
        """Open the stream, if any list is to be watched."""
        await self._follow()

    async def subscribe(self, uri: str) -> None:
        """Hear of changes of a resource from now on; counted, so that each may unsubscribe."""
        self._uris[uri] += 1
        await self._follow()

    async def unsubscribe(self, uri: str) -> None:
        """Take one `subscribe` back."""
        if self._uris[uri] > 1:
            self._uris[uri] -= 1
        else:
            self._uris.pop(uri, None)
            await self._follow()

    async def close(self) -> None:
        """Close the stream; no other is opened from now on."""
        self._is_closed = True
        async with self._lock:
            await _stop(self._task)
            self._task = None

    async def _follow(self) -> None:
        """Have the stream that the present filter needs; whoever comes meanwhile shares the next one."""
        async with self._lock:
            wanted = msgspec.structs.replace(self._lists, uris=tuple(self._uris))
            if wanted != self._asked_for and not self._is_closed:
                self._asked_for = wanted
                await self._reopen(wanted)

    async def _reopen(self, wanted: ListenFilter) -> None:
        """Open a stream with a filter, await its ack, then close the old one."""
        old, self._task = self._task, None
        if wanted != ListenFilter():
            acked = asyncio.Event()
            name = f"listen:{self._connector.upstream}"
            self._task = self._supervisor.start(self._run(wanted, acked), name=name)
            try:
                async with asyncio.timeout(_ACK_S):
                    await acked.wait()
            except TimeoutError:
                _log.warning("%s: did not confirm its listening stream", self._connector.upstream)
        await _stop(old)

    async def _run(self, wanted: ListenFilter, acked: asyncio.Event) -> None:
        """Listen for ever, pausing longer after each failure in a row."""
        pause_s = _FIRST_BACKOFF_S

        def on_ack(confirmed: ListenFilter) -> None:
            nonlocal pause_s
            self._note(confirmed, is_open=True)
            if acked.is_set():
                self._on_gap()
            acked.set()
            pause_s = _FIRST_BACKOFF_S

        while True:
            try:
                if not await self._connector.listen(wanted, on_ack, self._on_event):
                    return
            except (UpstreamError, TooLargeError) as exc:
                _log.debug("%s: its listening stream failed: %s", self._connector.upstream, exc)
                let_go(exc)
            finally:
                self._note(ListenFilter(), is_open=False)
                acked.set()
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause_s = min(pause_s * 2, _MAX_BACKOFF_S)

    def _note(self, confirmed: ListenFilter, *, is_open: bool) -> None:
        """Note what the present stream confirmed; one that was replaced has no say any more."""
        if asyncio.current_task() is self._task:
            self.confirmed = confirmed
            self.is_open = is_open


async def _stop(task: asyncio.Task[None] | None) -> None:
    """Cancel a task of ours and wait for its end."""
    if task is not None:
        task.cancel()
        await asyncio.wait({task}, timeout=_ACK_S)
