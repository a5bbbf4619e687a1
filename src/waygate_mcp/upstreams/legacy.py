"""The legacy connector: sessions, and questions that come as requests on the call's own stream.

Knows `initialize`, sessions and their streams, for revisions 2024-11-05 to 2025-11-25. Refuses to
know which session a caller gets (`sessions.py` decides) and which transport carries a message.
Spec: 2025-11-25 basic/lifecycle, basic/transports; protocol.md 6.4 for who is asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import msgspec

from waygate_mcp.errors import (
    CapabilityMissingError,
    InterruptedCallError,
    LimitError,
    UpstreamError,
    UpstreamProtocolError,
    WaygateError,
    let_go,
)
from waygate_mcp.model.call import Call, InputRequired, Outcome
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import ElicitationCompleted, Event, ResourceUpdated
from waygate_mcp.net.http import Header
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.versions import LATEST_LEGACY, REVISIONS, Revision
from waygate_mcp.upstreams.asked_urls import COMPLETED, AskedUrls
from waygate_mcp.upstreams.calls import declaration, error_for, legacy_outcome, legacy_params
from waygate_mcp.upstreams.channel import Channel, Conversation, Incoming, OpenChannel
from waygate_mcp.upstreams.events import changes_of
from waygate_mcp.upstreams.gathering import DoneError, first_failure
from waygate_mcp.upstreams.listing import LIST_METHODS, Page, read_page
from waygate_mcp.upstreams.live_calls import LiveCall, LiveCalls
from waygate_mcp.upstreams.questions import (
    answer_for,
    answer_message,
    question_of,
    refusal_message,
)
from waygate_mcp.upstreams.task_messages import answer_of_task, question_of_task

__all__ = [
    "LegacyConnector",
    "LegacySession",
    "NoStreamError",
    "NotLegacyError",
    "SessionLostError",
]

_log = logging.getLogger(__name__)
_MAX_RESUMES = 100
_MAX_RETRY_S = 30.0
_DEFAULT_RETRY_S = 1.0
_SAY_GOODBYE_S = 5.0


class NotLegacyError(UpstreamProtocolError):
    """The upstream does not take part in the handshake: it is modern, or no MCP server.

    `status` is the HTTP status of a refusal that was no JSON-RPC, `rpc_code` the code of one that was.
    """

    status = 0
    rpc_code = 0


class SessionLostError(UpstreamError):
    """The upstream does not know the session any more (HTTP 404): the request was not run."""


class NoStreamError(UpstreamProtocolError):
    """The upstream has no stream of a session's own, which is legal (2025-11-25 basic/transports)."""


class _InitializeResult(msgspec.Struct, rename="camel"):
    protocol_version: str
    capabilities: dict[str, Any] = {}
    instructions: str | None = None


_decode_initialize = msgspec.json.Decoder(_InitializeResult).decode


class LegacySession:
    """One session of an upstream: what was agreed, and what is under way in it.

    `tasks` counts those that are awaited, though no request of theirs may be in flight.
    """

    def __init__(
        self,
        identifier: str | None,
        revision: Revision,
        capabilities: Mapping[str, Any],
        instructions: str | None,
        channel: Channel,
    ) -> None:
        self.id = identifier
        self.channel = channel
        self.revision = revision
        self.headers: tuple[Header, ...] = ()
        """The headers every message of the session carries."""
        if identifier is not None:
            self.headers += (("mcp-session-id", identifier),)
        if revision.has_version_header:
            self.headers += (("mcp-protocol-version", revision.text),)
        self.capabilities = capabilities
        self.instructions = instructions
        self.live = LiveCalls()
        self.subscribed: Counter[str] = Counter()
        self.asked_urls = AskedUrls()
        self.is_lost = False
        self.has_level = False
        self.tasks = 0
        self.listening: asyncio.Task[None] | None = None
        self.used_at_s = 0.0
        self.is_shared = False
        self.heard_until: str | None = None
        self.front: str | None = None
        """The session at our door it was opened for, None where others use it too."""

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing would be lost with it."""
        return not self.live and not self.subscribed and not self.tasks

    def has(self, area: str, flag: str | None = None) -> bool:
        """Tell whether the upstream declared a capability, or a flag of it."""
        declared = self.capabilities.get(area)
        if not isinstance(declared, dict):
            return False
        return flag is None or declared.get(flag) is True

    def claim(self, incoming: Incoming, in_flight: int) -> str | None:
        """Give the request a message on a single channel belongs to; see LiveCalls."""
        return self.live.claim(incoming, in_flight, is_shared=self.is_shared)


def _nothing(_session: LegacySession) -> None:
    """Hear that something may come on a session's own stream, and do nothing."""


class LegacyConnector:
    """Speaks the legacy revisions to one upstream.

    `new_id` gives request ids nobody else uses, `on_event` hears of changes. Sessions share `channel`,
    unless `open_channel` opens one for each. `is_interactive` says that the upstream was seen asking
    on a single channel, `refused_questions` how many questions there could not be attributed. `on_awaiting`
    hears of a session whose own stream somebody waits for: a client was sent to a URL in it.
    """

    def __init__(
        self,
        upstream: str,
        channel: Channel,
        new_id: Callable[[], str],
        client_info: Mapping[str, Any],
        on_event: Callable[[Event], None],
        *,
        open_channel: OpenChannel | None = None,
    ) -> None:
        self.upstream = upstream
        self.is_interactive = False
        self.refused_questions = 0
        self.on_awaiting: Callable[[LegacySession], None] = _nothing
        self._channel = channel
        self._open_channel = open_channel
        self._new_id = new_id
        self._client_info = client_info
        self._on_event = on_event

    # --- the life of a session

    async def open(self, capabilities: ClientCapabilities) -> LegacySession:
        """Open a session that declares `capabilities`.

        Raises:
            NotLegacyError: the upstream refused `initialize`.
            UpstreamError: it could not be reached, or answered nonsense.
        Spec: 2025-11-25 basic/lifecycle, "Initialization".
        """
        channel = self._channel if self._open_channel is None else await self._open_channel()
        try:
            session = await self._initialize(channel, capabilities)
            greeting = jsonrpc.encode_notification("notifications/initialized")
            await channel.post(greeting, session.headers)
        except BaseException:
            if channel.is_single:
                await channel.end_session(())
            raise
        return session

    async def _initialize(
        self, channel: Channel, capabilities: ClientCapabilities
    ) -> LegacySession:
        """Send `initialize` and read what was agreed."""
        params = {
            "protocolVersion": LATEST_LEGACY.text,
            "capabilities": declaration(capabilities),
            "clientInfo": self._client_info,
        }
        identifier = self._new_id()
        message = jsonrpc.encode_request(identifier, "initialize", jsonrpc.encode_json(params))
        session_id: str | None = None
        result: msgspec.Raw | None = None
        async with channel.request(message) as conversation:
            self._check_opening(conversation)
            session_id = conversation.session_id
            async for incoming in conversation.messages():
                if incoming.is_response and incoming.id in (identifier, None):
                    if incoming.error is not None:
                        refusal = NotLegacyError(self.upstream, incoming.error.message[:500])
                        refusal.rpc_code = incoming.error.code
                        raise refusal
                    result = incoming.result
                    break
            else:
                if conversation.status >= 400:
                    text = f"initialize: HTTP {conversation.status}"
                    refusal = NotLegacyError(self.upstream, text)
                    refusal.status = conversation.status
                    raise refusal
        return self._agreed(session_id, result, channel)

    def _check_opening(self, conversation: Conversation) -> None:
        """Tell an outage and a closed door from a server that has no handshake."""
        if conversation.status in (401, 403):
            raise UpstreamProtocolError(self.upstream, f"wants credentials ({conversation.status})")
        if conversation.status >= 500:
            raise UpstreamProtocolError(self.upstream, f"initialize: HTTP {conversation.status}")

    def _agreed(
        self, session_id: str | None, result: msgspec.Raw | None, channel: Channel
    ) -> LegacySession:
        """Read the result of `initialize`."""
        if result is None:
            raise UpstreamProtocolError(self.upstream, "did not answer initialize")
        try:
            read = _decode_initialize(result)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
            raise UpstreamProtocolError(self.upstream, f"initialize: {exc}") from exc
        revision = REVISIONS.get(read.protocol_version)
        if revision is None or revision.is_modern:
            text = f"offers revision {read.protocol_version[:40]!r}, which nobody asked for"
            raise NotLegacyError(self.upstream, text)
        if session_id is not None and not (session_id.isascii() and session_id.isprintable()):
            raise UpstreamProtocolError(self.upstream, "gave a session id that is no header value")
        session = LegacySession(session_id, revision, read.capabilities, read.instructions, channel)
        channel.attribute(session.claim)
        return session

    async def close(self, session: LegacySession) -> None:
        """End a session: its stream here, the session there, as far as it listens."""
        session.is_lost = True
        listening, session.listening = session.listening, None  # the task knows the session
        if listening is not None:
            listening.cancel()
            await asyncio.wait({listening}, timeout=_SAY_GOODBYE_S)
        if session.id is None and not session.channel.is_single:
            return
        try:
            async with asyncio.timeout(_SAY_GOODBYE_S):
                await session.channel.end_session(session.headers)
        except (UpstreamError, TimeoutError) as exc:
            _log.debug("%s: a session ended without goodbye: %s", self.upstream, exc)
            let_go(exc)

    # --- requests in a session

    def call(
        self, session: LegacySession, call: Call, on_sent: Callable[[str], None]
    ) -> Awaitable[Outcome]:
        """Forward one call and await its answer; the upstream's questions go to the caller.

        `on_sent` hears the request's id at the upstream, by which it can be cancelled.

        Raises:
            SessionLostError: not run; to be sent again in a new session.
            RpcError, CapabilityMissingError, LimitError: the upstream's error in the client's era, or
                what stood in the way of its question.
            UpstreamError: no answer, or none that is MCP.
        """
        live = self.begin(call)
        params = legacy_params(call, session.revision, live.token)
        return self.send(session, live, (call.method, params), on_sent)

    def begin(self, call: Call, token: str | None = None) -> LiveCall:
        """Make what is known of a request; one that goes on with a call has the token of that."""
        if token is None and call.progress_token is not None:
            token = self._new_id()
        return LiveCall(call, self._new_id(), token)

    async def send(
        self,
        session: LegacySession,
        live: LiveCall,
        request: tuple[str, bytes],
        on_sent: Callable[[str], None],
    ) -> Outcome:
        """Send a request, method and parameters, for a call; see `call` for the rest."""
        call = live.call
        if not session.has_level and session.has("logging"):
            await self._set_level(session, call)
        message = jsonrpc.encode_request(live.identifier, *request)
        session.live[live.identifier] = live
        on_sent(live.identifier)
        try:
            begun = await session.channel.send(message, session.headers, identifier=live.identifier)
            if isinstance(begun, Incoming):
                response = begun
            else:
                response = await self._converse(session, live, begun)
        finally:
            session.live.pop(live.identifier, None)
        if live.refused is not None:
            raise live.refused
        if response.error is None:
            return legacy_outcome(self.upstream, response.result, may_be_task=live.may_be_task)
        if live.missing is not None:
            raise live.missing
        if session.asked_urls.note_error(call, response.error):
            self.on_awaiting(session)
        said = error_for(call, self.upstream, response.error, is_modern=False)
        if isinstance(said, InputRequired):
            return said
        raise said

    async def cancel(self, session: LegacySession, identifier: str, reason: str) -> None:
        """Tell the upstream that nobody waits for a request any more."""
        params = jsonrpc.encode_json({"requestId": identifier, "reason": reason})
        await self.notify(session, "notifications/cancelled", params)

    async def notify(
        self, session: LegacySession, method: str, params: bytes | None = None
    ) -> None:
        """Send a notification, as far as the upstream takes it in time."""
        message = jsonrpc.encode_notification(method, params)
        try:
            async with asyncio.timeout(_SAY_GOODBYE_S):
                await session.channel.post(message, session.headers)
        except (UpstreamError, TimeoutError) as exc:
            _log.debug("%s: could not be told %s: %s", self.upstream, method, exc)
            let_go(exc)

    async def ping(self, session: LegacySession) -> None:
        """See that a session is answered in; a server without `ping` says so, which is an answer.

        Spec: 2025-11-25 basic/utilities/ping.
        """
        await self.request(session, "ping", {})

    async def fetch_page(self, session: LegacySession, kind: Kind, cursor: str | None) -> Page:
        """Fetch one page of a list."""
        params: dict[str, Any] = {} if cursor is None else {"cursor": cursor}
        response = await self.request(session, LIST_METHODS[kind], params)
        if response.error is not None:
            text = f"{LIST_METHODS[kind]}: {response.error.message[:500]}"
            raise UpstreamProtocolError(self.upstream, text)
        return read_page(self.upstream, kind, response.result)

    async def _set_level(self, session: LegacySession, call: Call) -> None:
        """Ask for every log message once somebody wants any; the caller filters."""
        if call.caller.log_level is None:
            return
        session.has_level = True
        await self.request(session, "logging/setLevel", {"level": "debug"})

    async def request(
        self, session: LegacySession, method: str, params: Mapping[str, Any]
    ) -> Incoming:
        """Send a request of our own, which asks nobody anything."""
        identifier = self._new_id()
        message = jsonrpc.encode_request(identifier, method, jsonrpc.encode_json(params))
        begun = session.channel.request(message, session.headers)
        async with aclosing(self._stream(session, begun)) as messages:
            async for incoming in messages:
                if incoming.is_response and incoming.id in (identifier, None):
                    return incoming
                await self._take(session, incoming, None)
        raise UpstreamProtocolError(self.upstream, f"{method}: no response")

    async def _converse(
        self,
        session: LegacySession,
        live: LiveCall,
        begun: AbstractAsyncContextManager[Conversation],
    ) -> Incoming:
        """Read the call's stream to its response, asking the caller meanwhile."""
        try:
            async with asyncio.TaskGroup() as asking:  # owned here: it ends with this method
                live.asking = asking
                response = await self._read_response(session, live, begun)
                if not live.asked:
                    return response
                raise DoneError(response)
        except BaseExceptionGroup as group:
            failure = first_failure(group)
            let_go(group)  # it would hold this frame, and the frame what it holds
        finally:
            live.asking = None
        if isinstance(failure, DoneError):
            return failure.response
        raise failure

    async def _read_response(
        self,
        session: LegacySession,
        live: LiveCall,
        begun: AbstractAsyncContextManager[Conversation],
    ) -> Incoming:
        """Read until the response of the call is there."""
        async with aclosing(self._stream(session, begun, live)) as messages:
            async for incoming in messages:
                if incoming.is_response and incoming.id in (live.identifier, None):
                    return incoming
                await self._take(session, incoming, live)
        raise UpstreamProtocolError(self.upstream, "closed its answer before a response")

    async def _stream(
        self,
        session: LegacySession,
        begun: AbstractAsyncContextManager[Conversation],
        live: LiveCall | None = None,
    ) -> AsyncGenerator[Incoming, None]:
        """Give the messages that answer a request, resuming streams that end early.

        An upstream that ends the stream of a call does so to be polled; the client's stream is ended
        likewise, where its revision can resume it.
        Spec: 2025-11-25 basic/transports, "Resumability and Redelivery".
        """
        async with begun as conversation:
            self._check_status(session, conversation)
            async for incoming in conversation.messages():
                yield incoming
            event_id, retry_ms = conversation.last_event_id, conversation.retry_ms
        if event_id is not None and live is not None:
            await live.call.caller.close_stream()
        for _ in range(_MAX_RESUMES):
            if event_id is None:
                return
            wait_s = _DEFAULT_RETRY_S if retry_ms is None else retry_ms / 1000
            await asyncio.sleep(min(wait_s, _MAX_RETRY_S))
            async with session.channel.listen(session.headers, event_id) as conversation:
                self._check_status(session, conversation)
                async for incoming in conversation.messages():
                    yield incoming
                event_id = conversation.last_event_id or event_id
                retry_ms = retry_ms if conversation.retry_ms is None else conversation.retry_ms

    @staticmethod
    def _is_gone(session: LegacySession, conversation: Conversation) -> bool:
        """Tell whether the upstream does not know the session any more."""
        return conversation.status == 404 and session.id is not None

    def _check_status(self, session: LegacySession, conversation: Conversation) -> None:
        """Raise for statuses that say more than any body."""
        if self._is_gone(session, conversation):
            session.is_lost = True
            raise SessionLostError(self.upstream, "the session is gone")
        if conversation.status in (401, 403, 405) or conversation.status >= 500:
            raise UpstreamProtocolError(self.upstream, f"answered HTTP {conversation.status}")

    # --- what comes besides responses

    async def _take(
        self, session: LegacySession, incoming: Incoming, live: LiveCall | None
    ) -> None:
        """Take a message that is no response of ours; `live` is the call whose stream it came on."""
        if incoming.is_request:
            await self._take_request(session, incoming, live)
        elif incoming.method == COMPLETED:
            completed = session.asked_urls.complete(incoming)
            if completed is not None:
                self._on_event(ElicitationCompleted(self.upstream, *completed))
        elif incoming.method is not None:
            events = changes_of(incoming, self.upstream)
            for event in events:
                self.tell(session, event)
            if not events and live is not None:
                await live.tell(incoming)

    def tell(self, session: LegacySession, event: Event) -> None:
        """Tell of a change; whose session it is, is all who subscribed to a resource in it."""
        if isinstance(event, ResourceUpdated) and session.front is not None:
            event = msgspec.structs.replace(event, session_id=session.front)
        self._on_event(event)

    async def _take_request(
        self, session: LegacySession, incoming: Incoming, live: LiveCall | None
    ) -> None:
        """Answer a ping, ask the caller a question, refuse the rest.

        A question belongs to the call whose stream it came on; one nobody can be said to own is
        refused, so that it never reaches another user (protocol.md 6.4).
        """
        assert incoming.id is not None
        if incoming.method == "ping":
            await session.channel.post(jsonrpc.encode_result(incoming.id, b"{}"), session.headers)
        elif not self._may_ask(session, incoming, live):
            text = f"Not available here: {(incoming.method or '')[:100]}"
            message = jsonrpc.encode_error(incoming.id, jsonrpc.METHOD_NOT_FOUND, text)
            await session.channel.post(message, session.headers)
        elif live is not None and live.asking is not None and incoming.id not in live.asked:
            # a resumed stream may repeat it
            live.asked.add(incoming.id)
            live.asking.create_task(self._ask(session, incoming, live))

    def _may_ask(self, session: LegacySession, incoming: Incoming, live: LiveCall | None) -> bool:
        """Tell whether it is a question of a known call, and note who asks on single channels."""
        if question_of(incoming) is None:
            return False
        if session.channel.is_single:
            self.is_interactive = True
        if live is not None and live.asking is not None:
            return True
        self.refused_questions += 1
        return False

    async def _ask(self, session: LegacySession, incoming: Incoming, live: LiveCall) -> None:
        """Ask the caller and carry the answer back.

        1. The client cannot answer: the upstream is refused; if it then fails, the client hears why.
        2. Nobody may be asked now (limits): refused, and the call says so.
        3. The call is over: that ends the call.
        """
        question = question_of(incoming)
        assert question is not None
        assert incoming.id is not None
        try:
            question = question_of_task(question, live.call, live.task_id)
            answer = live.answered_before(question)
            if answer is None:
                if live.call.revision.is_modern:
                    await live.siblings.gather()
                with session.asked_urls.asking(live.call, question) as is_url:
                    if is_url:
                        self.on_awaiting(session)
                    answer = await live.call.caller.ask(question)
            answer = answer_for(session.revision, question, answer)
            message = answer_message(incoming.id, answer_of_task(answer, live.task_id))
        except InterruptedCallError:
            raise
        except CapabilityMissingError as exc:
            live.missing = exc
            message = refusal_message(incoming.id, exc, jsonrpc.METHOD_NOT_FOUND)
        except WaygateError as exc:
            if isinstance(exc, LimitError):
                live.refused = exc
            message = refusal_message(incoming.id, exc, jsonrpc.INTERNAL_ERROR)
        status = await session.channel.post(message, session.headers)
        if status >= 400:
            raise UpstreamProtocolError(self.upstream, f"refused an answer: HTTP {status}")

    async def listen(self, session: LegacySession, last_event_id: str | None) -> str | None:
        """Read the session's own stream until it ends; give from where to resume it.

        Where it breaks off, `session.heard_until` says so as well.

        Raises:
            SessionLostError: the session is gone.
            NoStreamError: the upstream has no such stream.
            UpstreamError: it broke off, or cannot be had now.
        """
        async with session.channel.listen(session.headers, last_event_id) as conversation:
            if 400 <= conversation.status < 500 and not self._is_gone(session, conversation):
                raise NoStreamError(self.upstream, f"listen: HTTP {conversation.status}")
            self._check_status(session, conversation)
            try:
                async for incoming in conversation.messages():
                    # On a single channel what belongs to a call has reached it already.
                    owner = None if session.channel.is_single else session.live.owner_of(incoming)
                    await self._take(session, incoming, owner)
            finally:
                session.heard_until = conversation.last_event_id or last_event_id
            return session.heard_until
