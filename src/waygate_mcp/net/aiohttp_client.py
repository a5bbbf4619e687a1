"""A server on the network, spoken to through aiohttp.

Knows one origin: where it is, how long it may take to be reached, where a redirect may lead. Refuses
to know MCP. Environment proxies are ignored, content codings are not asked for (so that a limit of
bytes is one of memory), and credentials leave for the one origin they were given for only.
Spec: threat model rules 19, 20 and 27.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from waygate_mcp.errors import (
    ConfigError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamUnavailableError,
)
from waygate_mcp.net.http import Header

__all__ = ["AiohttpTransport", "parse_origin"]

_MAX_REDIRECTS = 3
_CONNECT_S = 10.0
_CHUNK_BYTES = 64 * 1024
_KEPT_METHOD = (307, 308)


def parse_origin(url: str) -> tuple[str, str]:
    """Split an http(s) URL into its origin and its path with query (`/` at least).

    Raises:
        ConfigError: another scheme, user-info, a fragment, or no host.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise ConfigError(f"is no URL: {exc}", path="url") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("must begin with http:// or https:// and name a host", path="url")
    if parts.username is not None or parts.password is not None:
        raise ConfigError("must not hold a user name or password", path="url")
    if parts.fragment:
        raise ConfigError("must not have a fragment", path="url")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    suffix = "" if port is None else f":{port}"
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{host}{suffix}", (parts.path or "/") + query


class _Response:
    """An aiohttp response as `HttpResponse`."""

    def __init__(self, upstream: str, response: aiohttp.ClientResponse) -> None:
        self._upstream = upstream
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = {
            name.lower(): value for name, value in response.headers.items()
        }

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """See HttpResponse."""
        try:
            async for chunk in self._response.content.iter_chunked(_CHUNK_BYTES):
                yield chunk
        except (aiohttp.ClientError, OSError) as exc:
            raise UpstreamProtocolError(self._upstream, f"broke its answer off: {exc}") from exc


class AiohttpTransport:
    """Carries requests to one origin; an async context manager holding the connections.

    `origin` is `scheme://host[:port]`; `headers` (credentials, for example) go to it alone. `upstream`
    names it in errors. `most` is the number of connections.
    """

    def __init__(
        self,
        origin: str,
        upstream: str,
        *,
        headers: Sequence[Header] = (),
        tls: ssl.SSLContext | None = None,
        most: int = 32,
    ) -> None:
        self._origin = URL(origin)
        self._upstream = upstream
        self._headers = tuple(headers)
        self._tls = tls
        self._most = most
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Make ready to connect; nothing is sent yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._most, ssl=self._tls or True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every connection."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    @asynccontextmanager
    async def request(
        self, method: str, path: str, headers: Sequence[Header], body: bytes = b""
    ) -> AsyncIterator[_Response]:
        """See HttpExchange. Follows 307 and 308 within the origin."""
        sent = [("accept-encoding", "identity"), *headers, *self._headers]
        response = await self._send(method, self._origin.join(URL(path, encoded=True)), sent, body)
        try:
            coding = response.headers.get("content-encoding", "identity").lower()
            if coding != "identity":
                text = f"used the content coding {coding[:40]!r}, which nobody asked for"
                raise UpstreamProtocolError(self._upstream, text)
            yield _Response(self._upstream, response)
        finally:
            # Keeps the connection where the body was read, drops it where it was not.
            response.release()

    async def _send(
        self, method: str, url: URL, headers: Sequence[Header], body: bytes
    ) -> aiohttp.ClientResponse:
        """Send a request and follow its redirects."""
        session = self._session
        if session is None:
            raise UpstreamUnavailableError(self._upstream, "the transport is not open")
        for _ in range(_MAX_REDIRECTS + 1):
            try:
                response = await session.request(
                    method, url, headers=headers, data=body or None, allow_redirects=False
                )
            except (TimeoutError, aiohttp.ClientError, OSError) as exc:
                raise self._translate(exc) from exc
            if not 300 <= response.status < 400:
                return response
            response.release()
            url = self._redirected(url, response)
        raise UpstreamProtocolError(self._upstream, f"redirects more than {_MAX_REDIRECTS} times")

    def _redirected(self, url: URL, response: aiohttp.ClientResponse) -> URL:
        """Give where a redirect leads; nowhere but on the same origin, with the method kept."""
        location = response.headers.get("location", "")
        if response.status not in _KEPT_METHOD or not location:
            text = f"answered HTTP {response.status}"
            raise UpstreamProtocolError(self._upstream, text)
        try:
            target = url.join(URL(location))
            is_same = target.origin() == self._origin.origin()
        except ValueError as exc:
            raise UpstreamProtocolError(self._upstream, "redirects to no URL") from exc
        if not is_same or target.user is not None:
            raise UpstreamProtocolError(self._upstream, "redirects to another origin")
        return target

    def _translate(self, exc: Exception) -> UpstreamError:
        """Say whether anything was sent."""
        text = str(exc) or type(exc).__name__
        if isinstance(exc, aiohttp.ClientConnectorError):
            text = exc.os_error.strerror or str(exc.os_error)
        unsent = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)
        if isinstance(exc, unsent):
            return UpstreamUnavailableError(
                self._upstream, f"{self._origin} is not reached: {text}"
            )
        return UpstreamProtocolError(self._upstream, f"gave no answer: {text}")
