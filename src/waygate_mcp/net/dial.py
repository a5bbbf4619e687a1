"""The one guarded way out: which address is dialled, and that no other is.

Knows policies, resolving and connecting: an address is checked, and that very address is dialled,
for each new connection anew. Refuses to know HTTP. Nothing, not even the first packet of a
connection, goes to an address that was refused.
Spec: threat model rules 19, 39; design decision 20.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from waygate_mcp.errors import UpstreamUnavailableError
from waygate_mcp.net.addresses import AddressKind, classify
from waygate_mcp.net.urls import Target

__all__ = ["Dialler", "NetworkPolicy", "Resolve", "resolve_by_system"]

P = TypeVar("P", bound=asyncio.Protocol)

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Gives the addresses of a host (host, port), as plain literals; raises OSError where it has none."""

_LOCALHOST = "localhost"
_MAX_ADDRESSES = 16
_RESOLVE_S = 5.0
_CONNECT_S = 10.0
_NEAR = (AddressKind.LOOPBACK, AddressKind.PRIVATE)


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """Which addresses somebody may be sent to; without arguments, public ones.

    `exceptions` are exact (host, port) pairs that may be loopback or private; `localhost` among them
    is loopback only. `allows_private` lifts the same limit for every host. Link-local, metadata,
    multicast, unspecified and reserved addresses are reached by no policy.
    """

    exceptions: frozenset[tuple[str, int]] = frozenset()
    allows_private: bool = False

    @classmethod
    def for_document(cls, target: Target, *, allows_private: bool = False) -> NetworkPolicy:
        """The policy of an upstream of the document: a near literal excepts itself (decision 20).

        `allows_private` is its `network: private`.
        """
        is_near = target.host == _LOCALHOST or (
            target.is_literal and classify(target.host) in _NEAR
        )
        pairs = frozenset({(target.host, target.port)}) if is_near else frozenset()
        return cls(exceptions=pairs, allows_private=allows_private)

    @classmethod
    def for_operator(cls, target: Target) -> NetworkPolicy:
        """The policy of a command line: the one host and port its user named, wherever it is."""
        return cls(exceptions=frozenset({(target.host, target.port)}))

    def permits(self, host: str, port: int, kind: AddressKind) -> bool:
        """Tell whether an address of `kind`, being one of `host`, may be dialled."""
        if kind is AddressKind.PUBLIC:
            return True
        if kind not in _NEAR:
            return False
        if self.allows_private:
            return True
        is_excepted = (host, port) in self.exceptions
        return is_excepted and (host != _LOCALHOST or kind is AddressKind.LOOPBACK)


async def resolve_by_system(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver, hosts file included."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(entry[4][0]) for entry in found]


class Dialler:
    """Opens connections to one target under one policy. `upstream` names it in errors."""

    def __init__(
        self,
        target: Target,
        upstream: str,
        policy: NetworkPolicy,
        *,
        resolve: Resolve = resolve_by_system,
        connect_s: float = _CONNECT_S,
    ) -> None:
        self.target = target
        self.policy = policy
        self._upstream = upstream
        self._resolve = resolve
        self._connect_s = connect_s
        self._resolving = asyncio.Lock()

    async def addresses(self) -> list[str]:
        """Resolve the target and give the addresses that may be dialled, in the resolver's order.

        Raises:
            UpstreamUnavailableError: there is none.
        """
        target = self.target
        found: Sequence[str] = (target.host,)
        if not target.is_literal:
            try:
                # One at a time: a resolver that hangs must not take every thread there is.
                async with asyncio.timeout(_RESOLVE_S), self._resolving:
                    found = await self._resolve(target.host, target.port)
            except (OSError, UnicodeError) as exc:  # TimeoutError is an OSError
                text = f"{target.host} is not resolved: {str(exc) or type(exc).__name__}"
                raise UpstreamUnavailableError(self._upstream, text) from exc
        allowed: dict[str, None] = {}
        refused = []
        for address in found[:_MAX_ADDRESSES]:
            if (problem := self.problem(address)) is None:
                allowed[address] = None
            else:
                refused.append(problem)
        if not allowed:
            text = "; ".join(refused) or f"{target.host} has no address"
            raise UpstreamUnavailableError(self._upstream, text)
        return list(allowed)

    def problem(self, address: str) -> str | None:
        """Say why an address must not be dialled, None where it may."""
        try:
            kind = classify(address)
        except ValueError:
            return f"{self.target.host} has {address[:60]!r} for an address"
        if self.policy.permits(self.target.host, self.target.port, kind):
            return None
        return f"{self.target.host} is at a {kind.value} address ({address}), which is refused"

    async def connect(
        self, factory: Callable[[], P], tls: ssl.SSLContext | None = None
    ) -> tuple[asyncio.Transport, P]:
        """Open a connection to the first permitted address that answers.

        `tls` is used for https only; names in certificates are compared with the target's host.

        Raises:
            UpstreamUnavailableError: no address is permitted, or none answered in time.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._connect_s
        addresses = await self.addresses()
        problem: Exception | None = None
        for index, address in enumerate(addresses):
            share = (deadline - loop.time()) / (len(addresses) - index)
            try:
                async with asyncio.timeout(max(share, 0.0)):
                    return await self._connect_to(address, factory, tls)
            except (OSError, ssl.CertificateError) as exc:
                problem = exc.with_traceback(
                    None
                )  # else it would hold this frame, and the frame it
        text = f"{self.target.origin} is not reached: {str(problem) or type(problem).__name__}"
        raise UpstreamUnavailableError(self._upstream, text) from problem

    async def _connect_to(
        self, address: str, factory: Callable[[], P], tls: ssl.SSLContext | None
    ) -> tuple[asyncio.Transport, P]:
        """Connect to an address that was checked; it is a literal, so nothing resolves it again."""
        is_secure = self.target.scheme == "https"
        if is_secure and tls is None:
            raise UpstreamUnavailableError(self._upstream, "https without a TLS context")
        return await asyncio.get_running_loop().create_connection(
            factory,
            address,
            self.target.port,
            ssl=tls if is_secure else None,
            server_hostname=self.target.host if is_secure else None,
            flags=socket.AI_NUMERICHOST,
        )
