"""A server on the network, spoken to through aiohttp.

Knows one origin: where it is, how long it may take to be reached, where a redirect may lead. Refuses
to know MCP. Environment proxies are ignored, content codings are not asked for (so that a limit of
bytes is one of memory), and credentials leave for the one origin they were given for only.
Spec: threat model rules 19, 20 and 27.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import AddrInfoType
from yarl import URL

from waygate_mcp.errors import (
    ConfigError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamUnavailableError,
)
from waygate_mcp.net.dial import Dialler, NetworkPolicy, Resolve, resolve_by_system
from waygate_mcp.net.heads import check_headers, check_path
from waygate_mcp.net.http import Header
from waygate_mcp.net.urls import parse_target, same_origin_path

__all__ = ["AiohttpTransport", "parse_origin"]

_MAX_REDIRECTS = 3
_CONNECT_S = 10.0
_CHUNK_BYTES = 64 * 1024
_KEPT_METHOD = (307, 308)


def parse_origin(url: str) -> tuple[str, str]:
    """Split an http(s) URL into its origin and its path with query (`/` at least).

    Raises:
        ConfigError: see `parse_target`.
    """
    target = parse_target(url)
    return target.origin, target.path


class _CheckedResolver(AbstractResolver):
    """Gives aiohttp the addresses a policy permits, and no others."""

    def __init__(self, dialler: Dialler) -> None:
        self._dialler = dialler

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See aiohttp; it asks for each new connection anew.

        Raises:
            UpstreamUnavailableError: none is permitted.
        """
        if (host, port) != (self._dialler.target.host, self._dialler.target.port):
            raise OSError(f"{host}:{port} is not the origin")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self._dialler.addresses()
        ]

    async def close(self) -> None:
        """See aiohttp; nothing is held."""


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
    names it in errors. `most` is the number of connections. Without a `policy` the origin counts as
    named by the user of a command line (`NetworkPolicy.for_operator`); the gateway always gives one.

    Raises:
        ConfigError: `origin` is no plain origin.
        LocalProtocolError: one of `headers` must not be sent.
    """

    def __init__(
        self,
        origin: str,
        upstream: str,
        *,
        policy: NetworkPolicy | None = None,
        headers: Sequence[Header] = (),
        tls: ssl.SSLContext | None = None,
        most: int = 32,
        resolve: Resolve = resolve_by_system,
    ) -> None:
        check_headers(headers)
        self.target = parse_target(origin)
        self._origin = URL(self.target.origin)
        policy = policy or NetworkPolicy.for_operator(self.target)
        self._dialler = Dialler(self.target, upstream, policy, resolve=resolve)
        self._upstream = upstream
        self._headers = tuple(headers)
        self._tls = tls
        self._most = most
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Make ready to connect; nothing is sent yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._most,
                ssl=self._tls or True,
                use_dns_cache=False,  # each new connection is checked anew
                resolver=_CheckedResolver(self._dialler),
                socket_factory=self._make_socket,
            ),
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
        check_path(path)
        check_headers(headers)
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

    def _make_socket(self, info: AddrInfoType) -> socket.socket:
        """Make the socket for one address, the last place before its first packet.

        Literals come here without having been to the resolver.
        """
        family, kind, proto, _, address = info
        problem = self._dialler.problem(str(address[0]))
        if problem is not None:
            raise OSError(problem)
        return socket.socket(family=family, type=kind, proto=proto)

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
            path = same_origin_path(self.target, url.raw_path_qs, location)
        except (ConfigError, ValueError) as exc:
            raise UpstreamProtocolError(
                self._upstream, "redirects to another origin, or to no URL"
            ) from exc
        return self._origin.join(URL(path, encoded=True))

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
