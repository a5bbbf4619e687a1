"""The other workers of this machine: how they are reached, and what each is told.

Knows one socket for each slot, and that nobody listening there means that nobody lives there. Refuses to
know what is asked of a worker: the doors do. News are changes that listeners everywhere want to hear of,
sessions that were ended, and workers that are back. Each worker has an outbox with everything at most
once, so that one that hangs holds nobody up and fills nothing.
Spec: protocol.md 8; threat model rules 6, 11 and 39.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from waygate_mcp.errors import LimitError, UpstreamError, UpstreamUnavailableError
from waygate_mcp.gateway.live import LiveState
from waygate_mcp.gateway.places import Place
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import Event, ListChanged, ResourceUpdated
from waygate_mcp.model.ports import Supervisor
from waygate_mcp.net.http import HttpExchange
from waygate_mcp.net.pool import PoolLimits
from waygate_mcp.net.unix import UnixTransport, is_listening
from waygate_mcp.protocol.seal import KeyRing, SealError
from waygate_mcp.telemetry.logs import get_logger

__all__ = ["HOST_SOCKET", "NEWS_PATH", "Peers", "Workplace"]

NEWS_PATH = "/news"
HOST_SOCKET = "host.sock"
_PURPOSE = "worker-news"
_POOL = PoolLimits(connections=1_024, streams=16_384, head_s=3_600.0)
_MAX_DUE = 10_000
_MAX_URI = 8_192
_BATCH_BYTES = 32 * 1024
_TELL_S = 5.0

_log = get_logger("runtime.peers")


class Workplace(msgspec.Struct, frozen=True):
    """Where one of several workers stands, as its parent tells it.

    `folder` holds the sockets. `host_key` is what the process that holds stdio upstreams wants to be
    shown.
    """

    place: Place
    folder: Path
    host_key: bytes

    @property
    def host_socket(self) -> Path:
        """The path of the socket of the process that holds stdio upstreams."""
        return self.folder / HOST_SOCKET

    def socket_of(self, slot: int) -> Path:
        """Give the path of a worker's socket."""
        return self.folder / f"{slot}.sock"


class News(msgspec.Struct, frozen=True, array_like=True):
    """One thing to tell: `list` (provider, kind), `uri` (provider, URI), `end` (session), `back` (slot).

    And `document`: it was changed, and lies in its file. `session` is there where a resource was
    subscribed to for that one session.
    """

    what: str
    about: str
    detail: str = ""
    number: int = 0
    session: str | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[News]).decode


class Peers:
    """The neighbours of one worker; an async context manager.

    `hear` takes the events others tell of, for the listeners of this process.
    """

    def __init__(
        self,
        workplace: Workplace,
        ring: KeyRing,
        supervisor: Supervisor,
        live: LiveState,
        hear: Callable[[Event], None],
    ) -> None:
        self.place = workplace.place
        self.on_document: Callable[[], object] | None = None
        """Called when another worker has changed the document."""
        self._workplace = workplace
        self._ring = ring
        self._live = live
        self._hear = hear
        self._stack = AsyncExitStack()
        self._outboxes = {
            slot: _Outbox(
                UnixTransport(workplace.socket_of(slot), f"worker-{slot}", _POOL),
                self._seal,
                supervisor,
            )
            for slot in range(self.place.count)
            if slot != self.place.slot
        }

    async def __aenter__(self) -> Self:
        """Make ready; nobody is dialled yet."""
        async with AsyncExitStack() as stack:
            for outbox in self._outboxes.values():
                await stack.enter_async_context(outbox.transport)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self._stack.aclose()

    def way_to(self, slot: int) -> HttpExchange:
        """Give what carries requests to the worker in `slot`; never this one."""
        return self._outboxes[slot].transport

    def is_there(self, slot: int) -> bool:
        """Tell whether anybody listens for the worker in `slot`."""
        return is_listening(self._workplace.socket_of(slot))

    def missing(self) -> list[int]:
        """Give the slots where nobody listens at the moment."""
        return [slot for slot in self._outboxes if not self.is_there(slot)]

    # --- telling

    def tell(self, event: Event) -> None:
        """Tell the others of a change only this process knows of. Never blocks, never raises.

        A completed elicitation is no change to them: the session it is for is this worker's.
        """
        if isinstance(event, ListChanged):
            self._put(News("list", event.provider, event.kind.value))
        elif isinstance(event, ResourceUpdated):
            uri = event.uri[:_MAX_URI]
            self._put(News("uri", event.provider, uri, session=event.session_id))

    def tell_of_end(self, session_id: str, expires_at: int) -> None:
        """Tell the others that a session is over, so that none of them brings it back to life."""
        self._put(News("end", session_id, number=expires_at))

    def tell_of_return(self) -> None:
        """Tell the others that this slot is served, so that they give its sessions back."""
        self._put(News("back", "", number=self.place.slot))

    def tell_of_document(self) -> None:
        """Tell the others that the document was changed, so that they load it too."""
        self._put(News("document", ""))

    def _put(self, news: News) -> None:
        for outbox in self._outboxes.values():
            outbox.put(news)

    def _seal(self, batch: list[News]) -> bytes:
        return self._ring.seal(_encode(batch), _PURPOSE).encode()

    # --- hearing

    def take(self, sealed: bytes) -> bool:
        """Take what another worker tells; False where it is none of ours who tells."""
        try:
            batch = _decode(self._ring.open(sealed.decode("latin-1"), _PURPOSE))
        except (SealError, msgspec.DecodeError):
            return False
        sessions = self._live.sessions
        for news in batch:
            if news.what == "list":
                self._hear(ListChanged(news.about, Kind(news.detail)))
            elif news.what == "uri":
                self._hear(ResourceUpdated(news.about, news.detail, news.session))
            elif news.what == "end":
                sessions.end_elsewhere(news.about, news.number)
            elif news.what == "document":
                if self.on_document is not None:
                    self.on_document()
            else:
                sessions.give_back(news.number)
        return True


class _Outbox:
    """What one worker is still to be told, in order, and the task that tells it."""

    def __init__(
        self,
        transport: UnixTransport,
        seal: Callable[[list[News]], bytes],
        supervisor: Supervisor,
    ) -> None:
        self.transport = transport
        self._seal = seal
        self._supervisor = supervisor
        self._due: dict[News, None] = {}
        self._is_telling = False

    def put(self, news: News) -> None:
        """Tell this soon; what is due already is told once."""
        if len(self._due) >= _MAX_DUE:
            dropped = next(iter(self._due))
            del self._due[dropped]
            _log.warning("news_dropped", what=dropped.what)
        self._due[news] = None
        if not self._is_telling:
            try:
                self._supervisor.start(self._tell(), name="tell-worker")
            except LimitError:  # the server stops
                return
            self._is_telling = True

    async def _tell(self) -> None:
        try:
            while self._due:
                await self._send(self._seal(self._take_batch()))
        finally:
            self._is_telling = False

    def _take_batch(self) -> list[News]:
        """Take what goes into one message, which may be sealed up to a size only."""
        batch: list[News] = []
        size = 0
        for news in tuple(self._due):
            size += 64 + len(news.about.encode()) + len(news.detail.encode())
            if batch and size > _BATCH_BYTES:
                break
            del self._due[news]
            batch.append(news)
        return batch

    async def _send(self, sealed: bytes) -> None:
        """Send a batch. Nobody there has nothing to be told: a worker starts without listeners."""
        try:
            async with (
                asyncio.timeout(_TELL_S),
                self.transport.request("POST", NEWS_PATH, (), sealed) as response,
            ):
                status = response.status
        except UpstreamUnavailableError:
            return
        except (UpstreamError, TimeoutError) as exc:
            _log.warning("news_not_told", reason=str(exc) or "it took too long")
            return
        if status != 202:
            _log.warning("news_not_told", reason=f"HTTP {status}")
