from __future__ import annotations

import pytest

from waygate_mcp.errors import UpstreamProtocolError
from waygate_mcp.upstreams.http_sse import endpoint_path

ORIGIN = "https://example.org"


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("/messages?session=1", "/messages?session=1"),
        ("messages", "/v1/messages"),
        ("https://example.org:443/m", "/m"),
        ("HTTPS://EXAMPLE.org/m", "/m"),
        ("https://example.org", "/"),
    ],
)
def test_messages_are_posted_where_the_endpoint_event_says(given: str, path: str) -> None:
    assert endpoint_path("up", ORIGIN, "/v1/sse", given) == path


@pytest.mark.parametrize(
    "given",
    [
        "https://evil.example/m",
        "http://example.org/m",
        "https://example.org:8443/m",
        "//evil.example/m",
        "https://user@example.org/m",
        "https://example.org.evil.example/m",
        "https://[::1/m",
        "https://example.org:port/m",
        "/a b",
        "/ü",
        "/" + "x" * 10_000,
    ],
)
def test_an_endpoint_elsewhere_or_nowhere_is_refused(given: str) -> None:
    with pytest.raises(UpstreamProtocolError):
        endpoint_path("up", ORIGIN, "/v1/sse", given)
