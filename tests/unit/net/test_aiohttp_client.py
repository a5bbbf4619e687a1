from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from yarl import URL

from waygate_mcp.errors import (
    ConfigError,
    UpstreamProtocolError,
    UpstreamUnavailableError,
)
from waygate_mcp.net.aiohttp_client import AiohttpTransport, parse_origin


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:8000/mcp", ("http://localhost:8000", "/mcp")),
        ("https://example.org", ("https://example.org", "/")),
        ("https://example.org/a?b=c", ("https://example.org", "/a?b=c")),
        ("http://[::1]:9/x", ("http://[::1]:9", "/x")),
    ],
)
def test_a_url_is_split_into_origin_and_path(url: str, expected: tuple[str, str]) -> None:
    assert parse_origin(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/",
        "example.org/mcp",
        "http://user:word@example.org/",
        "http:///mcp",
        "http://example.org/#x",
        "http://example.org:99999/",
        "http://[::1/",
    ],
)
def test_a_url_that_names_no_plain_origin_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        parse_origin(url)


def answer(status: int, location: str | None = None) -> Any:
    headers = {} if location is None else {"location": location}
    return SimpleNamespace(status=status, headers=headers)


TRANSPORT = AiohttpTransport("http://example.org:81", "up", headers=[("authorization", "secret")])
HERE = URL("http://example.org:81/mcp")


@pytest.mark.parametrize("location", ["/other", "http://example.org:81/other"])
def test_a_redirect_within_the_origin_is_followed(location: str) -> None:
    assert TRANSPORT._redirected(HERE, answer(307, location)).path == "/other"


@pytest.mark.parametrize(
    ("status", "location"),
    [
        (307, "https://example.org:81/mcp"),
        (307, "http://example.org/mcp"),
        (308, "http://evil.example:81/mcp"),
        (307, "http://user@example.org:81/mcp"),
        (307, "file:///etc/passwd"),
        (307, None),
        (302, "/other"),
        (301, "/other"),
        (303, "/other"),
    ],
)
def test_any_other_redirect_is_refused(status: int, location: str | None) -> None:
    with pytest.raises(UpstreamProtocolError):
        TRANSPORT._redirected(HERE, answer(status, location))


def test_only_a_failure_to_connect_says_that_nothing_was_sent() -> None:
    key: Any = SimpleNamespace(host="example.org", port=81, ssl=True, is_ssl=False)
    unsent = aiohttp.ClientConnectorError(key, OSError(111, "refused"))
    assert isinstance(TRANSPORT._translate(unsent), UpstreamUnavailableError)
    timeout = aiohttp.ConnectionTimeoutError("slow")
    assert isinstance(TRANSPORT._translate(timeout), UpstreamUnavailableError)
    sent = TRANSPORT._translate(aiohttp.ServerDisconnectedError())
    assert isinstance(sent, UpstreamProtocolError)


async def test_a_transport_that_is_not_open_sends_nothing() -> None:
    with pytest.raises(UpstreamUnavailableError):
        async with TRANSPORT.request("GET", "/", []):
            pass
