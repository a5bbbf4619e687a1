"""The narrow way out: what a connector needs of HTTP, and no more.

Knows one exchange: a request with its whole body, a response read in chunks, closed early or read to
its end. Refuses to know MCP, and how bytes travel: `asgi.py` drives an application in this process,
`pooled.py` and `aiohttp_client.py` a server on the network.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Protocol, runtime_checkable

from waygate_mcp.errors import TooLargeError

__all__ = [
    "Header",
    "HeldResponse",
    "HttpExchange",
    "HttpResponse",
    "Poster",
    "WholeReader",
    "media_type",
    "read_body",
]

Header = tuple[str, str]
"""One header to send: name and value, both safe to be put on the wire as they are."""


class HttpResponse(Protocol):
    """A response whose head has arrived and whose body is under way."""

    @property
    def status(self) -> int:
        """The status code, 200 to 599."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers by lower-case name; where one stood several times, the last."""

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """Give the body in pieces as they come, never an empty one; to be iterated once.

        The peer is slowed down while nobody iterates.

        Raises:
            UpstreamProtocolError: the body broke off.
            UpstreamTimeoutError: nothing came for as long as the transport waits at most.
        """


class HttpExchange(Protocol):
    """Whoever can carry a request to one origin."""

    def request(
        self, method: str, path: str, headers: Sequence[Header], body: bytes = b""
    ) -> AbstractAsyncContextManager[HttpResponse]:
        """Send a request; the context is entered when the response's head is there.

        `path` is absolute, with its query. Leaving the context before the body's end disconnects.
        Waits without bound for the head: the caller holds the deadline.

        Raises:
            UpstreamUnavailableError: nothing was sent.
            UpstreamTimeoutError: sent, and the transport's own last limit of time has passed.
            UpstreamProtocolError: sent, and no response came of it.
            LocalProtocolError: nothing was sent: path or headers are none.
        """


class WholeReader:
    """A response with a shorter way to its whole body than its chunks."""

    __slots__ = ()

    async def read_whole(self, limit_bytes: int) -> bytes:
        """See `read_body`."""
        raise NotImplementedError


class HeldResponse(HttpResponse, Protocol):
    """A response whose holder gives it back by itself, and not by leaving a context."""

    def take_whole(self, limit_bytes: int) -> bytes | None:
        """Give the whole body, if it is here and not over the limit; else nothing is taken."""

    def release(self) -> None:
        """Give the connection back, or disconnect where the body was not read to its end."""


@runtime_checkable
class Poster(Protocol):
    """An HttpExchange with a shorter way for the request of a call."""

    async def post(self, path: str, headers: Sequence[Header], body: bytes) -> HeldResponse:
        """Send a POST as `HttpExchange.request` does; the response is to be released."""


def media_type(response: HttpResponse) -> str:
    """Give the response's media type in lower case without parameters, empty where it has none."""
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(response: HttpResponse, limit_bytes: int) -> bytes:
    """Read the whole body.

    Raises:
        TooLargeError: it is longer than `limit_bytes`; the rest was not read.
    """
    if isinstance(response, WholeReader):
        return await response.read_whole(limit_bytes)
    parts: list[bytes] = []
    size = 0
    async with aclosing(response.chunks()) as chunks:
        async for chunk in chunks:
            size += len(chunk)
            if size > limit_bytes:
                raise TooLargeError(limit_bytes)
            parts.append(chunk)
    return b"".join(parts)
