"""Which transport carries requests to a URL.

Knows that there are two with the same interface and the same guarded dialling. Refuses to know who
asks, and why an address is excepted: the policy says it.
Spec: design decision 4; threat model rule 19; decision record 0020.
"""

from __future__ import annotations

import importlib
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from waygate_mcp.net.dial import NetworkPolicy
from waygate_mcp.net.http import Header
from waygate_mcp.net.pool import PoolLimits
from waygate_mcp.net.pooled import PooledTransport
from waygate_mcp.net.urls import parse_target

if TYPE_CHECKING:
    from waygate_mcp.net.aiohttp_client import AiohttpTransport

__all__ = ["open_transport"]

_DEFAULT_LIMITS = PoolLimits()


def open_transport(
    url: str,
    policy: NetworkPolicy,
    *,
    upstream: str,
    headers: Sequence[Header] = (),
    tls: ssl.SSLContext | None = None,
    limits: PoolLimits = _DEFAULT_LIMITS,
    client: Literal["pooled", "aiohttp"] = "pooled",
) -> PooledTransport | AiohttpTransport:
    """Give a transport for the origin of `url`, to be entered; an `HttpExchange`.

    The path of `url` is the caller's to use (`parse_target(url).path`). `headers` go to that origin
    alone. `client` says who carries: our own pooled client, or aiohttp.

    Raises:
        ConfigError: `url` is no plain http(s) URL.
        LocalProtocolError: one of `headers` must not be sent.
    """
    target = parse_target(url)
    if client == "pooled":
        return PooledTransport(target, upstream, policy, headers=headers, tls=tls, limits=limits)
    # Loaded where somebody asks for it: it takes 9 MB, and most servers never do.
    module: Any = importlib.import_module("waygate_mcp.net.aiohttp_client")
    transport: AiohttpTransport = module.AiohttpTransport(
        target.origin,
        upstream,
        policy=policy,
        headers=headers,
        tls=tls,
        most=limits.connections + limits.streams,
    )
    return transport
