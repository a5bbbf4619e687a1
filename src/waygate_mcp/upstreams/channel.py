"""The seam between connectors and transports: requests go out, messages come in.

Knows the shapes of JSON-RPC messages an upstream sends, with everything but the envelope left raw.
Refuses to know MCP's methods, and which transport carries a message: Streamable HTTP is here,
another one fulfils the same Protocols.
Spec: 2026-07-28 basic/transports/streamable-http; 2025-11-25 basic/transports.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from types import TracebackType
from typing import Protocol

import msgspec

from waygate_mcp.errors import TooLargeError, UpstreamProtocolError
from waygate_mcp.net.http import (
    Header,
    HeldResponse,
    HttpExchange,
    HttpResponse,
    Poster,
    media_type,
    read_body,
)
from waygate_mcp.protocol.framing import FrameTooLarge, SseDecoder
from waygate_mcp.upstreams.slices import one_line, without_lone_surrogates

__all__ = [
    "Begun",
    "Channel",
    "Claim",
    "Conversation",
    "HttpChannel",
    "Incoming",
    "OpenChannel",
    "RemoteError",
    "read_incoming",
    "read_plain",
]

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_MAX_BATCH = 1_000
_NOTHING = msgspec.Raw(b"")
_JSON, _EVENTS = "application/json", "text/event-stream"
_POST_HEADERS = (("content-type", _JSON), ("accept", f"{_JSON}, {_EVENTS}"))
_MAX_KEPT_HEADERS = 512


class RemoteError(msgspec.Struct, frozen=True):
    """The `error` member of a response. `data` is raw JSON, empty where there is none."""

    code: int
    message: str = ""
    data: msgspec.Raw = _NOTHING


class Incoming(msgspec.Struct, frozen=True):
    """One message of an upstream: a response, a request or a notification.

    `params` and `result` are raw JSON, empty where there are none.
    """

    id: str | int | None = None
    method: str | None = None
    params: msgspec.Raw = _NOTHING
    result: msgspec.Raw = _NOTHING
    error: RemoteError | None = None

    @property
    def is_response(self) -> bool:
        """Tell whether it answers a request of ours."""
        return self.method is None and (self.error is not None or self.result is not _NOTHING)

    @property
    def is_request(self) -> bool:
        """Tell whether it wants an answer of ours."""
        return self.method is not None and self.id is not None


_decode_one = msgspec.json.Decoder(Incoming).decode
_decode_many = msgspec.json.Decoder(list[Incoming]).decode


def read_incoming(data: bytes) -> list[Incoming]:
    """Read a message, or a batch of them, which older upstreams may send.

    Half of a surrogate pair, which a server writes that cuts a text in the middle of a sign, becomes
    the sign for what cannot be read: nobody behind us could take it, and the rest is well.

    Raises:
        ValueError: this is no JSON-RPC.
    """
    if not data.isascii():
        data.decode()  # the scanner does not look into strings it leaves raw
    line = one_line(data)
    try:
        try:
            batch = _read(line)
        except msgspec.DecodeError:
            mended = without_lone_surrogates(line)
            if mended == line:
                raise
            batch = _read(mended)
    except RecursionError:
        raise ValueError("nesting is too deep") from None
    if len(batch) > _MAX_BATCH:
        raise ValueError("the batch is too long")
    return batch


def _read(line: bytes) -> list[Incoming]:
    return [_decode_one(line)] if line.lstrip()[:1] != b"[" else _decode_many(line)


def read_plain(data: bytes) -> Incoming | None:
    """Read one message written as nearly all are: ASCII, on one line; None for whatever is not so."""
    if not data.isascii() or b"\n" in data or b"\r" in data:
        return None
    try:
        return _decode_one(data)
    except (msgspec.DecodeError, RecursionError):
        return None


def _is_json(response: HttpResponse) -> bool:
    """Tell whether a body is one JSON text, looking no closer than is needed for the usual header."""
    return response.headers.get("content-type") == _JSON or media_type(response) == _JSON


class Conversation(Protocol):
    """The messages that answer one request, in their order."""

    @property
    def status(self) -> int:
        """The HTTP status; 200 on transports without one."""

    @property
    def session_id(self) -> str | None:
        """The session the upstream opened with this answer, if any."""

    @property
    def last_event_id(self) -> str | None:
        """From where the stream can be resumed, None where it cannot."""

    @property
    def retry_ms(self) -> int | None:
        """How long the upstream wants us to wait before that."""

    def messages(self) -> AsyncIterator[Incoming]:
        """Give the messages as they come; to be iterated once.

        Raises:
            UpstreamProtocolError: what came is not JSON-RPC, or the stream broke off.
            TooLargeError: a message is over the limit; nothing after it is read.
        """


Begun = Incoming | AbstractAsyncContextManager[Conversation]
"""What came of a request: its response, where nothing else came before it, or the messages to be read.

Who gets the second enters it before anything is awaited.
"""


class Channel(Protocol):
    """A way to one upstream."""

    @property
    def is_single(self) -> bool:
        """Tell whether all the upstream says comes on one stream, whatever request it is about."""

    @property
    def is_closed(self) -> bool:
        """Tell whether nothing can be sent any more."""

    def request(
        self, message: bytes, headers: Sequence[Header] = ()
    ) -> AbstractAsyncContextManager[Conversation]:
        """Send a request; leaving the context stops listening to its answer."""

    async def send(
        self, message: bytes, headers: Sequence[Header] = (), *, identifier: str
    ) -> Begun:
        """Do `request` the short way: most requests, `identifier` by name, are answered at once."""

    def listen(
        self, headers: Sequence[Header] = (), last_event_id: str | None = None
    ) -> AbstractAsyncContextManager[Conversation]:
        """Open the upstream's own stream, or resume a broken one (legacy only)."""

    async def post(self, message: bytes, headers: Sequence[Header] = ()) -> int:
        """Send a notification or a response; give the HTTP status."""

    def attribute(self, claim: Claim) -> None:
        """Let `claim` say which request a message on a single channel belongs to."""

    async def end_session(self, headers: Sequence[Header]) -> None:
        """Tell the upstream that a session is over (legacy only)."""


OpenChannel = Callable[[], Awaitable[Channel]]
"""Opens a channel of its own for a session, where the session is the channel."""

Claim = Callable[[Incoming, int], str | None]
"""Gives the id of the request a message belongs to; told how many requests are in flight."""


class HttpConversation:
    """A response body read as messages: one JSON text, or events."""

    def __init__(self, upstream: str, response: HttpResponse, limit_bytes: int) -> None:
        self.status = response.status
        self.session_id = response.headers.get("mcp-session-id")
        self.last_event_id: str | None = None
        self.retry_ms: int | None = None
        self._upstream = upstream
        self._response = response
        self._limit = limit_bytes
        self._reading: AsyncGenerator[Incoming, None] | None = None
        self._taken: list[Incoming] | None = None

    def messages(self) -> AsyncIterator[Incoming]:
        """See Conversation."""
        kind = media_type(self._response)
        if kind == _EVENTS:
            self._reading = self._read_events()
        else:
            self._reading = self._read_text(is_json=kind == _JSON and self.status != 202)
        return self._reading

    def take_whole(self, body: bytes) -> None:
        """Take a body that was read already, for `messages` to give what is in it."""
        self._taken = self._read(body)

    async def aclose(self) -> None:
        """Let go of what is being read; the channel does so when the exchange is left."""
        if self._reading is not None:
            await self._reading.aclose()

    async def _read_text(self, *, is_json: bool) -> AsyncGenerator[Incoming, None]:
        """Read a body that is one text."""
        if not is_json:
            return
        taken = self._taken
        if taken is None:
            taken = self._read(await read_body(self._response, self._limit))
        for message in taken:
            yield message

    async def _read_events(self) -> AsyncGenerator[Incoming, None]:
        """Read events; those without data only say from where to resume."""
        decoder = SseDecoder(self._limit)
        async with aclosing(self._response.chunks()) as chunks:
            async for chunk in chunks:
                for message in self._take(decoder, chunk):
                    yield message

    def _take(self, decoder: SseDecoder, chunk: bytes) -> Iterator[Incoming]:
        """Give the messages a chunk completes, and note from where the stream can be resumed."""
        try:
            events = decoder.feed(chunk)
        except FrameTooLarge as exc:
            raise TooLargeError(exc.limit) from None
        for event in events:
            if event.id:
                self.last_event_id = event.id
            if event.retry_ms is not None:
                self.retry_ms = event.retry_ms
            if event.data and event.event == "message":
                yield from self._read(event.data)

    def _read(self, data: bytes) -> list[Incoming]:
        """Read messages, blaming the upstream for what is none.

        Errors that come with an error status are about this very request, whatever id they carry:
        servers that refuse before reading it invent one.
        """
        if not data.strip():
            return []
        try:
            messages = read_incoming(data)
        except ValueError as exc:
            if self.status >= 400:  # an error page of something in between; the status says enough
                return []
            raise UpstreamProtocolError(self._upstream, f"sent no JSON-RPC: {exc}") from exc
        if self.status < 400:
            return messages
        return [msgspec.structs.replace(one, id=None) for one in messages if one.error is not None]


class _Begun:
    """A response under way, to be read as a conversation."""

    def __init__(self, conversation: HttpConversation, response: HeldResponse) -> None:
        self._conversation = conversation
        self._response = response

    async def __aenter__(self) -> HttpConversation:
        return self._conversation

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._conversation.aclose()
        finally:
            self._response.release()


class HttpChannel:
    """Streamable HTTP: every message is a POST to one path.

    Credentials are not added here: who carries the bytes knows for which origin they are.
    """

    is_single = False
    is_closed = False

    def __init__(
        self,
        upstream: str,
        exchange: HttpExchange,
        path: str,
        *,
        limit_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self.upstream = upstream
        self._exchange = exchange
        self._poster = exchange if isinstance(exchange, Poster) else None
        self._path = path
        self._limit = limit_bytes
        self._sent: dict[int, tuple[tuple[Header, ...], tuple[Header, ...]]] = {}

    def _headers_with(self, headers: Sequence[Header]) -> tuple[Header, ...]:
        """Give the headers of a POST: the same tuple for the same tuple, by which its head is known again."""
        known = self._sent.get(id(headers))
        if known is not None and known[0] is headers:
            return known[1]
        sent = (*_POST_HEADERS, *headers)
        if type(headers) is tuple:
            if len(self._sent) >= _MAX_KEPT_HEADERS:
                self._sent.clear()
            self._sent[id(headers)] = (headers, sent)
        return sent

    async def send(
        self, message: bytes, headers: Sequence[Header] = (), *, identifier: str
    ) -> Begun:
        """See Channel."""
        poster = self._poster
        if poster is None:
            return self.request(message, headers)
        response = await poster.post(self._path, self._headers_with(headers), message)
        conversation: HttpConversation | None = None
        if response.status == 200 and _is_json(response):
            try:
                body = response.take_whole(self._limit)
                if body is None:
                    body = await read_body(response, self._limit)
            finally:
                response.release()
            incoming = read_plain(body)
            if (
                incoming is not None
                and incoming.id == identifier
                and incoming.method is None
                and (incoming.error is not None or incoming.result is not _NOTHING)
            ):
                return incoming
            conversation = HttpConversation(self.upstream, response, self._limit)
            conversation.take_whole(body)
        if conversation is None:
            conversation = HttpConversation(self.upstream, response, self._limit)
        return _Begun(conversation, response)

    @asynccontextmanager
    async def request(
        self, message: bytes, headers: Sequence[Header] = ()
    ) -> AsyncIterator[HttpConversation]:
        """See Channel."""
        sent = (*_POST_HEADERS, *headers)
        async with self._exchange.request("POST", self._path, sent, message) as response:
            conversation = HttpConversation(self.upstream, response, self._limit)
            try:
                yield conversation
            finally:
                await conversation.aclose()

    @asynccontextmanager
    async def listen(
        self, headers: Sequence[Header] = (), last_event_id: str | None = None
    ) -> AsyncIterator[HttpConversation]:
        """See Channel."""
        sent = [("accept", _EVENTS), *headers]
        if last_event_id is not None:
            sent.append(("last-event-id", last_event_id))
        async with self._exchange.request("GET", self._path, sent) as response:
            conversation = HttpConversation(self.upstream, response, self._limit)
            try:
                yield conversation
            finally:
                await conversation.aclose()

    def attribute(self, claim: Claim) -> None:
        """See Channel; each call has a stream of its own here."""

    async def post(self, message: bytes, headers: Sequence[Header] = ()) -> int:
        """See Channel."""
        async with self.request(message, headers) as conversation:
            return conversation.status

    async def end_session(self, headers: Sequence[Header]) -> None:
        """See Channel."""
        async with self._exchange.request("DELETE", self._path, [*headers]):
            return
