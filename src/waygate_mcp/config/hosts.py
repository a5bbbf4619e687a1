"""Hosts and origins as exact, comparable text.

Knows how to normalise what an administrator writes, so that comparing is comparing strings, and
which addresses never leave the machine. Refuses wildcards and prefixes.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
"""Names under which a gateway on this machine is always reached."""

_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """Whether a listening address is reached from this machine only.

    Only `localhost` and loopback literals count; other names are never resolved here.
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def parse_host(text: str) -> str:
    """Normalise `name` or `name:port`: lower case, no trailing dot, IPv6 in brackets.

    Raises:
        ValueError: not a host, with the reason.
    """
    name, port = _split_port(text.strip().lower())
    if not name or not _is_host(name):
        raise ValueError("not a host name; write name or name:port, without scheme, path or *")
    if port is not None and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("the port is not a number from 1 to 65535")
    return name.rstrip(".") + (f":{int(port)}" if port else "")


def parse_origin(text: str) -> str:
    """Normalise `scheme://host[:port]`: lower case, default port left out.

    Raises:
        ValueError: not an http(s) origin, with the reason; `*` and paths are not origins.
    """
    parts = urlsplit(text.strip())
    expected = "not an origin; write https://host or https://host:port"
    if parts.scheme.lower() not in _DEFAULT_PORTS or "@" in parts.netloc:
        raise ValueError(expected)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{expected}, without a path")
    scheme = parts.scheme.lower()
    host = parse_host(parts.netloc)
    return f"{scheme}://{host.removesuffix(f':{_DEFAULT_PORTS[scheme]}')}"


def _split_port(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        name, bracket, rest = text.partition("]")
        return name + bracket, rest.removeprefix(":") if rest else None
    if text.count(":") > 1:
        return f"[{text}]", None
    name, colon, port = text.partition(":")
    return name, port if colon else None


def _is_host(name: str) -> bool:
    if not name.startswith("["):
        return len(name) <= 253 and _NAME.fullmatch(name) is not None
    try:
        ipaddress.IPv6Address(name[1:-1])
    except ValueError:
        return False
    return name.endswith("]")
