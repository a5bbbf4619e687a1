"""What travels between a worker and the process that holds stdio upstreams: frames on a stream.

Knows their shapes, how a call is written for another process and read there, and how an error of ours
crosses over. Refuses to know who serves whom. A frame is four bytes of length and msgpack; one that is too
long ends the connection, since what follows could not be told apart.
Spec: protocol.md 8; threat model rules 27, 36 and 39.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from typing import Any

import msgspec

from waygate_mcp import errors
from waygate_mcp.errors import TooLargeError, UpstreamProtocolError, WaygateError
from waygate_mcp.model.call import Answer, Call, InputRequired, LogEvent, Progress, Question, Reply
from waygate_mcp.model.catalog import Features, Kind, Listing, Viewer
from waygate_mcp.model.ports import Caller
from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.versions import REVISIONS
from waygate_mcp.upstreams.opening import UpstreamConfig

__all__ = [
    "Agreed",
    "Answered",
    "Asked",
    "Begin",
    "Cancel",
    "Changed",
    "CloseStream",
    "Done",
    "Emitted",
    "Failed",
    "Failure",
    "Forget",
    "FrameStream",
    "FromHost",
    "FromWorker",
    "List",
    "Listed",
    "Logged",
    "Open",
    "Opened",
    "Person",
    "Probe",
    "Refresh",
    "Replied",
    "Required",
    "RootsChanged",
    "Told",
    "Unanswered",
    "Unasked",
    "Watch",
    "call_of",
    "frame_of",
    "viewer_of",
]

MAX_FRAME_BYTES = 96 * 1024 * 1024
"""A message of an upstream (16 MiB by default), the arguments of a call, and what they become as text."""
_LENGTH = struct.Struct(">I")
_KINDS: dict[str, type[WaygateError]] = {
    name: kind
    for name in errors.__all__
    if isinstance(kind := getattr(errors, name), type) and issubclass(kind, WaygateError)
}


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """An error of ours: its class, its two texts, and its facts."""

    kind: str
    message: str
    safe_message: str
    facts: dict[str, Any]

    @classmethod
    def of(cls, error: WaygateError) -> Failure:
        """Write an error. One of a class the other side cannot make becomes the class it refines."""
        kind = next(one for one in type(error).__mro__ if one in _KINDS.values())
        facts = {name: fact for name, fact in vars(error).items() if _is_plain(fact)}
        facts.pop("safe_message", None)
        return cls(kind.__name__, str(error), error.safe_message, facts)

    def error(self) -> WaygateError:
        """Make the error again."""
        kind = _KINDS.get(self.kind, WaygateError)
        error = kind.__new__(kind)
        WaygateError.__init__(error, self.message, safe_message=self.safe_message)
        for name, fact in self.facts.items():
            setattr(error, name, tuple(fact) if isinstance(fact, list) else fact)
        return error


def _is_plain(fact: object) -> bool:
    if isinstance(fact, tuple | list):
        return all(_is_plain(one) for one in fact)
    if isinstance(fact, dict):
        return all(isinstance(key, str) and _is_plain(one) for key, one in fact.items())
    return fact is None or isinstance(fact, str | bytes | int | float | bool)


class Person(msgspec.Struct, frozen=True, array_like=True):
    """A principal."""

    id: str
    name: str
    permissions: tuple[str, ...]

    @classmethod
    def of(cls, principal: Principal) -> Person:
        """Write a principal."""
        return cls(principal.id, principal.name, tuple(sorted(principal.permissions)))

    def principal(self) -> Principal:
        """Make it again."""
        return Principal(self.id, self.name, frozenset(self.permissions))


# --- from a worker


class Open(msgspec.Struct, frozen=True, tag=True):
    """The first frame: the key the parent gave us both, and the upstream to be used.

    `secrets` are the texts in `config` that must not be logged.
    """

    key: bytes
    name: str
    config: UpstreamConfig
    secrets: tuple[str, ...] = ()


class Begin(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """A call. `body` is the message as it came, `params` its parameters where a step changed them."""

    number: int
    request_id: str
    endpoint: str
    method: str
    name: str
    target: str
    body: bytes
    params: bytes
    person: Person
    revision: str
    capabilities: ClientCapabilities
    deadline_s: float
    log_level: str | None
    progress_token: str | int | None
    input_responses: Mapping[str, bytes] | None
    request_state: str | None
    session_id: str | None
    client_name: str


class List(msgspec.Struct, frozen=True, tag=True):
    """A request for a list."""

    number: int
    kind: Kind
    person: Person
    capabilities: ClientCapabilities


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """Nobody waits for this any more."""

    number: int


class Answered(msgspec.Struct, frozen=True, tag=True):
    """The client's answer to a question of a call."""

    number: int
    question: int
    answer: Answer


class Unanswered(msgspec.Struct, frozen=True, tag=True):
    """The client could not be asked."""

    number: int
    question: int
    failure: Failure


class Refresh(msgspec.Struct, frozen=True, tag=True):
    """A list is to be read anew when it is next asked for."""

    number: int
    kind: Kind
    person: Person
    capabilities: ClientCapabilities


class Probe(msgspec.Struct, frozen=True, tag=True):
    """The question whether the upstream answers."""

    number: int


class Watch(msgspec.Struct, frozen=True, tag=True):
    """The wish to be told of tasks, until it is cancelled."""

    number: int
    ids: tuple[str, ...]


class Forget(msgspec.Struct, frozen=True, tag=True):
    """A session at our door is over."""

    session_id: str


class RootsChanged(msgspec.Struct, frozen=True, tag=True):
    """The roots of the client of a session at our door changed."""

    session_id: str


FromWorker = (
    Open | Begin | List | Refresh | Probe | Watch | Forget | RootsChanged | Cancel
    | Answered | Unanswered
)  # fmt: skip


# --- from the host


class Opened(msgspec.Struct, frozen=True, tag=True):
    """The upstream is there, and this is what it can do; sent again when more is known of it."""

    features: Features
    instructions: str | None
    eras: tuple[str, ...]
    revision: str


class Changed(msgspec.Struct, frozen=True, tag=True):
    """A list changed, or the resource `uri` did, or a session's elicitation is completed."""

    kind: Kind | None
    uri: str = ""
    session_id: str | None = None
    elicitation_id: str | None = None


class Emitted(msgspec.Struct, frozen=True, tag=True):
    """Progress of a call."""

    number: int
    event: Progress


class Logged(msgspec.Struct, frozen=True, tag=True):
    """A log message of a call."""

    number: int
    event: LogEvent


class Asked(msgspec.Struct, frozen=True, tag=True):
    """A question of a call."""

    number: int
    question: int
    what: Question


class Unasked(msgspec.Struct, frozen=True, tag=True):
    """The upstream wants no answer to a question any more."""

    number: int
    question: int


class CloseStream(msgspec.Struct, frozen=True, tag=True):
    """See `Caller.close_stream`."""

    number: int


class Replied(msgspec.Struct, frozen=True, tag=True):
    """The result of a call, and what is known of the upstream by now."""

    number: int
    reply: Reply
    is_interactive: bool
    refused_questions: int


class Required(msgspec.Struct, frozen=True, tag=True):
    """A call that wants input, nothing being kept for it."""

    number: int
    required: InputRequired


class Listed(msgspec.Struct, frozen=True, tag=True):
    """A list."""

    number: int
    listing: Listing


class Done(msgspec.Struct, frozen=True, tag=True):
    """It is done: probed, to be read anew; or no more will be told of tasks."""

    number: int


class Agreed(msgspec.Struct, frozen=True, tag=True):
    """The tasks that are told of from now on."""

    number: int
    ids: tuple[str, ...]


class Told(msgspec.Struct, frozen=True, tag=True):
    """What the upstream tells of a task: the parameters of its notification."""

    number: int
    params: bytes


class Failed(msgspec.Struct, frozen=True, tag=True):
    """An error instead of a result; number 0 is the opening itself."""

    number: int
    failure: Failure


FromHost = (
    Opened | Changed | Emitted | Logged | Asked | Unasked | CloseStream | Replied | Required
    | Listed | Done | Agreed | Told | Failed
)  # fmt: skip


def _plain_text(value: object) -> str:
    """Write text of a kind of its own (`SecretText`) as the text it is."""
    if isinstance(value, str):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} does not travel")


_encode = msgspec.msgpack.Encoder(enc_hook=_plain_text).encode
_decode_params = msgspec.json.Decoder(dict[str, Any]).decode
_encode_params = msgspec.json.Encoder().encode


class _Body(msgspec.Struct):
    params: dict[str, Any] = {}


class _Head(msgspec.Struct):
    method: str


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_head = msgspec.json.Decoder(_Head).decode


def _is_whole(call: Call) -> bool:
    """Tell whether the bytes a call came in are this call: a step may clear them, a batch holds more."""
    try:
        return bool(call.body) and _decode_head(call.body).method == call.method
    except (msgspec.DecodeError, RecursionError):
        return False


def frame_of(call: Call, number: int) -> Begin:
    """Write a call for the host."""
    is_whole = _is_whole(call)
    return Begin(
        number=number,
        request_id=call.request_id,
        endpoint=call.endpoint,
        method=call.method,
        name=call.name,
        target=call.target,
        body=call.body if is_whole else b"",
        params=b"" if is_whole else _encode_params(call.params),
        person=Person.of(call.principal),
        revision=call.revision.text,
        capabilities=call.capabilities,
        deadline_s=call.deadline_s,
        log_level=call.caller.log_level,
        progress_token=call.progress_token,
        input_responses=call.input_responses,
        request_state=call.request_state,
        session_id=call.session_id,
        client_name=call.client_name,
    )


def call_of(begin: Begin, provider: str, caller: Caller) -> Call:
    """Read a call in the host; `caller` leads back to the worker.

    The headers of its request stay behind: the door compared them.
    """
    params = _decode_params(begin.params) if begin.params else _decode_body(begin.body).params
    return Call(
        request_id=begin.request_id,
        endpoint=begin.endpoint,
        method=begin.method,
        name=begin.name,
        params=params,
        body=begin.body,
        principal=begin.person.principal(),
        revision=REVISIONS[begin.revision],
        capabilities=begin.capabilities,
        caller=caller,
        deadline_s=begin.deadline_s,
        target=begin.target,
        provider=provider,
        progress_token=begin.progress_token,
        input_responses=begin.input_responses,
        request_state=begin.request_state,
        session_id=begin.session_id,
        client_name=begin.client_name,
    )


def viewer_of(wanted: List | Refresh) -> Viewer:
    """Read who looks at a list."""
    return Viewer(wanted.person.principal(), wanted.capabilities)


class FrameStream:
    """Frames on a pair of streams. `upstream` names the other side in errors."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream: str,
        kind: Any,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._upstream = upstream
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._writing = asyncio.Lock()

    @property
    def unwritten_bytes(self) -> int:
        """What the other side has not taken yet."""
        return self._writer.transport.get_write_buffer_size()

    def put(self, frame: FromWorker | FromHost) -> None:
        """Write a frame, waiting for nobody.

        Raises:
            TooLargeError: it is too long for a frame; nothing was written.
        """
        data = _encode(frame)
        if len(data) > MAX_FRAME_BYTES:
            raise TooLargeError(MAX_FRAME_BYTES)
        self._writer.write(_LENGTH.pack(len(data)) + data)

    async def send(self, frame: FromWorker | FromHost) -> None:
        """Write a frame, and wait where the other side does not keep up.

        Raises:
            TooLargeError: see `put`.
            UpstreamProtocolError: the connection broke off.
        """
        self.put(frame)
        try:
            async with self._writing:
                await self._writer.drain()
        except OSError as exc:
            raise UpstreamProtocolError(self._upstream, f"broke off: {exc}") from exc

    async def receive(self) -> Any:
        """Give the next frame, None where the connection ended.

        Raises:
            UpstreamProtocolError: what came is no frame.
        """
        try:
            size = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))[0]
            if size > MAX_FRAME_BYTES:
                raise UpstreamProtocolError(self._upstream, "sent a frame that is too long")
            return self._decode(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, OSError):
            return None
        except msgspec.DecodeError as exc:
            raise UpstreamProtocolError(self._upstream, f"sent no frame: {exc}") from exc

    def close(self) -> None:
        """Disconnect at once."""
        self._writer.transport.abort()
