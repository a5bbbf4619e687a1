from __future__ import annotations

import pytest

from waygate_mcp.errors import ConfigError
from waygate_mcp.net.urls import Target, parse_target, same_origin_path


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://example.org", Target("http", "example.org", 80)),
        ("HTTPS://EXAMPLE.org.:443/a?b=c", Target("https", "example.org", 443, "/a?b=c")),
        ("http://127.0.0.1:8000/mcp", Target("http", "127.0.0.1", 8000, "/mcp", True)),
        ("http://[::FFFF:1.2.3.4]/", Target("http", "::ffff:102:304", 80, "/", True)),
        ("http://[0:0:0:0:0:0:0:1]:9/", Target("http", "::1", 9, "/", True)),
        ("https://münchen.example/ä", Target("https", "xn--mnchen-3ya.example", 443, "/%C3%A4")),
        ("http://my_service:80/a%20b", Target("http", "my_service", 80, "/a%20b")),
        ("http://7.example/", Target("http", "7.example", 80)),
    ],
)
def test_a_url_has_one_reading(url: str, expected: Target) -> None:
    assert parse_target(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "//example.org/",
        "example.org/mcp",
        "ftp://example.org/",
        "file:///etc/passwd",
        "http://",
        "http:///x",
        "http://:80/",
        "http://user@example.org/",
        "http://user:word@example.org/",
        "http://@example.org/",
        "http://example.org#@evil.example/",
        "http://example.org/#x",
        "http://example.org\\@evil.example/",
        "http://exa mple.org/",
        "http://exam\tple.org/",
        "http://example.org/\r\nx: y",
        "http://example.org:0/",
        "http://example.org:/",
        "http://example.org:65536/",
        "http://example.org:8x/",
        "http://exam%70le.org/",
        "http://-a.example/",
        "http://a..b/",
        "http://example.org../",
        "http://[::1/",
        "http://[::1%25lo]/",
        "http://[fe80::1%eth0]/",
        "http://[127.0.0.1]/",
        "http://[v1.x]/",
        "http://[example.org]/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.0.0x1/",
        "http://1.2.3.4.5/",
        "http://999.1.1.1/",
        "http://example.0x7f/",
        "http://\uff11\uff12\uff17.0.0.1/",  # full-width digits
        "http://127\u30020\u30020\u30021/",  # ideographic full stops
        "http://\u24c1ocalhost/",  # a letter in a circle
        "http://" + "a" * 64 + "/",
        "http://" + "a." * 127 + "example/",
        "http://example.org/" + "a" * 9000,
    ],
)
def test_a_url_in_disguise_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        parse_target(url)


def test_an_origin_is_equal_exactly_where_scheme_host_and_port_are() -> None:
    assert parse_target("http://a.example:80/x").origin == parse_target("http://A.example").origin
    assert parse_target("https://a.example:80").origin == "https://a.example:80"
    assert parse_target("http://[::1]:8080/").authority == "[::1]:8080"


@pytest.mark.parametrize(
    ("location", "path"),
    [("/other", "/other"), ("sub?x=1", "/a/sub?x=1"), ("http://EXAMPLE.org:81/x#f", "/x")],
)
def test_a_redirect_within_the_origin_gives_a_path(location: str, path: str) -> None:
    assert same_origin_path(Target("http", "example.org", 81), "/a/b", location) == path


@pytest.mark.parametrize(
    "location",
    [
        "http://example.org/",
        "https://example.org:81/",
        "//evil.example:81/",
        "http://example.org:81@evil.example/",
        "file:///x",
        "/\\evil.example",
        "http://[::1",
    ],
)
def test_a_redirect_to_anywhere_else_is_refused(location: str) -> None:
    with pytest.raises((ConfigError, ValueError)):
        same_origin_path(Target("http", "example.org", 81), "/a/b", location)
