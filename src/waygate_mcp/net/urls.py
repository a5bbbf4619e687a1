"""A URL of somebody we speak to, taken apart once.

Knows which spellings name one plain HTTP origin; all others are refused, so that no later reader can
see another host in them. Refuses to know whether that host may be reached.
Spec: threat model rules 19 and 20.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote, urljoin, urlsplit

from yarl import URL

from waygate_mcp.errors import ConfigError

__all__ = ["Target", "parse_target", "same_origin_path"]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_URL = 8192
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PATH_SAFE = "/?:@!$&'()*+,;=~%-._[]|^`{}\"<>"


@dataclass(frozen=True, slots=True)
class Target:
    """One origin and what to ask it for.

    `host` is lower case, without brackets and trailing dot, in ASCII (IDNA). `path` is absolute, with
    its query. `is_literal` tells whether the host is an IP address.
    """

    scheme: str
    host: str
    port: int
    path: str = "/"
    is_literal: bool = False

    @property
    def authority(self) -> str:
        """Host and port as a Host header has them: the default port left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """`scheme://host[:port]`, equal exactly for equal origins."""
        return f"{self.scheme}://{self.authority}"


def parse_target(url: str) -> Target:
    """Take an absolute http(s) URL apart.

    Refused: other schemes, user-info, fragments, blanks, control characters and backslashes; hosts
    that end in a number without being four plain decimal numbers (`2130706433`, `0x7f.1`, `0177.1`);
    zone ids; names that change into other ASCII names when they are normalised.

    Raises:
        ConfigError: with `path` "url", and the reason.
    """
    if len(url) > _MAX_URL or _FORBIDDEN.search(url):
        raise ConfigError("is no URL: too long, or holds blanks or backslashes", path="url")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise ConfigError(f"is no URL: {exc}", path="url") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ConfigError("must begin with http:// or https:// and name a host", path="url")
    if "@" in parts.netloc:
        raise ConfigError("must not hold a user name or password", path="url")
    if "#" in url:
        raise ConfigError("must not have a fragment", path="url")
    if port == 0 or parts.netloc.endswith(":"):
        raise ConfigError("has no usable port", path="url")
    try:
        host, is_literal = _read_host(parts.hostname, is_bracketed="[" in parts.netloc)
    except ValueError as exc:
        raise ConfigError(f"has no usable host: {exc}", path="url") from None
    query = f"?{parts.query}" if parts.query else ""
    path = quote((parts.path or "/") + query, safe=_PATH_SAFE)
    if port is None:
        port = _DEFAULT_PORTS[parts.scheme]
    return Target(parts.scheme, host, port, path, is_literal)


def same_origin_path(target: Target, path: str, location: str) -> str:
    """Give the path a redirect from `path` leads to.

    Raises:
        ConfigError: it is no URL, or leads to another origin.
    """
    there = parse_target(urljoin(target.origin + path, location.partition("#")[0]))
    if there.origin != target.origin:
        raise ConfigError("leads to another origin", path="location")
    return there.path


def _read_host(text: str, *, is_bracketed: bool) -> tuple[str, bool]:
    """Give a host in its one spelling, and whether it is an address.

    Raises:
        ValueError: with the reason.
    """
    if is_bracketed:
        if "%" in text:
            raise ValueError("zone ids mean nothing here")
        return str(IPv6Address(text)), True
    host = text.lower() if text.isascii() else _to_ascii(text)
    host = host.removesuffix(".")
    if len(host) > 253 or not _NAME.fullmatch(host):
        raise ValueError("not a host name")
    # As browsers see it, a host whose last label is a number is an IPv4 address.
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        return str(IPv4Address(host)), True
    return host, False


def _to_ascii(text: str) -> str:
    """Encode an international name."""
    host = URL.build(scheme="http", host=text).raw_host or ""
    if not any(label.startswith("xn--") for label in host.split(".")):
        raise ValueError("a name in disguise")
    return host.lower()
