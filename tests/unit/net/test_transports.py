from __future__ import annotations

import pytest

from waygate_mcp.errors import ConfigError, LocalProtocolError
from waygate_mcp.net.aiohttp_client import AiohttpTransport
from waygate_mcp.net.dial import NetworkPolicy
from waygate_mcp.net.pooled import PooledTransport
from waygate_mcp.net.transports import open_transport

POLICY = NetworkPolicy()


def test_our_own_client_carries_unless_aiohttp_is_asked_for() -> None:
    url = "https://example.org/mcp"
    assert isinstance(open_transport(url, POLICY, upstream="up"), PooledTransport)
    other = open_transport(url, POLICY, upstream="up", client="aiohttp")
    assert isinstance(other, AiohttpTransport)
    assert other.target.origin == "https://example.org"


def test_a_url_or_header_that_is_none_is_refused_at_once() -> None:
    for client in ("pooled", "aiohttp"):
        with pytest.raises(ConfigError):
            open_transport("http://u:p@example.org/", POLICY, upstream="up", client=client)
        with pytest.raises(LocalProtocolError):
            open_transport(
                "http://example.org/",
                POLICY,
                upstream="up",
                headers=[("x", "a\nb")],
                client=client,
            )
