"""Hosts and origins as exact text."""

from __future__ import annotations

import pytest

from waygate_mcp.config.hosts import is_loopback, parse_host, parse_origin


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "[::1]"]
)
def test_loopback_is_known_by_name_and_address(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "localhost.example.org", "10.0.0.1", "", "::2"])
def test_what_others_may_reach_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Example.ORG", "example.org"),
        ("example.org.", "example.org"),
        ("example.org:08443", "example.org:8443"),
        ("127.0.0.1:8000", "127.0.0.1:8000"),
        ("[::1]", "[::1]"),
        ("[::1]:8000", "[::1]:8000"),
        ("::1", "[::1]"),
        (" a_b ", "a_b"),
    ],
)
def test_a_host_is_normalised(text: str, expected: str) -> None:
    assert parse_host(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "*", "*.example.org", "http://x", "x/y", "x:0", "x:65536", "x:y", "a b", "-x", "x-", "a..b",
        "[::1", "[::1]x", "[zz]", "x" * 64, "a." * 150, "x@y", "x:\u0661", "ex\u00e4mple.org",
    ],
)  # fmt: skip
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"host name|port"):
        parse_host(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://Example.org", "https://example.org"),
        ("https://example.org/", "https://example.org"),
        ("https://example.org:443", "https://example.org"),
        ("http://example.org:443", "http://example.org:443"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:80", "http://[::1]"),
        ("HTTPS://example.org:8443", "https://example.org:8443"),
    ],
)
def test_an_origin_is_normalised(text: str, expected: str) -> None:
    assert parse_origin(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "*", "null", "", "example.org", "ftp://example.org", "https://", "https://*.example.org",
        "https://example.org/path", "https://example.org?x", "https://example.org#x",
        "https://user@example.org", "https://example.org:99999", "file:///etc", "https://[::1",
    ],
)  # fmt: skip
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"origin|host|port|IPv6"):
        parse_origin(text)
