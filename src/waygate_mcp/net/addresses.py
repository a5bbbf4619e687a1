"""What kind of place an IP address is.

Knows the address blocks that are not the public internet, and the IPv6 forms that carry an IPv4
address inside. Refuses to know names, ports, and which kinds somebody may reach: `dial.py` asks.
The table is our own, so that every Python version answers alike.
Spec: threat model rule 19; IANA special-purpose address registries; RFC 4291, 6052, 8215.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
)

__all__ = ["AddressKind", "classify"]


class AddressKind(Enum):
    """Where an address leads. Only `PUBLIC` is reached without an explicit exception."""

    PUBLIC = "public"
    LOOPBACK = "loopback"
    PRIVATE = "private"
    RESERVED = "reserved"
    MULTICAST = "multicast"
    UNSPECIFIED = "unspecified"
    LINK_LOCAL = "link-local"
    METADATA = "metadata"


# Where clouds hand out credentials; some of these lie in blocks that look private or public.
_METADATA_4 = frozenset(
    map(
        IPv4Address,
        (
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
        ),
    )
)
_METADATA_6 = frozenset(
    map(IPv6Address, ("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fe80::a9fe:a9fe"))
)

_BLOCKS_4 = tuple(
    (IPv4Network(block), kind)
    for block, kind in (
        ("0.0.0.0/8", AddressKind.UNSPECIFIED),  # Linux delivers 0.0.0.0 to this machine
        ("10.0.0.0/8", AddressKind.PRIVATE),
        ("100.64.0.0/10", AddressKind.PRIVATE),
        ("127.0.0.0/8", AddressKind.LOOPBACK),
        ("169.254.0.0/16", AddressKind.LINK_LOCAL),
        ("172.16.0.0/12", AddressKind.PRIVATE),
        ("192.0.0.0/24", AddressKind.RESERVED),
        ("192.0.2.0/24", AddressKind.RESERVED),
        ("192.88.99.0/24", AddressKind.RESERVED),
        ("192.168.0.0/16", AddressKind.PRIVATE),
        ("198.18.0.0/15", AddressKind.RESERVED),
        ("198.51.100.0/24", AddressKind.RESERVED),
        ("203.0.113.0/24", AddressKind.RESERVED),
        ("224.0.0.0/4", AddressKind.MULTICAST),
        ("240.0.0.0/4", AddressKind.RESERVED),
    )
)
_BLOCKS_6 = tuple(
    (IPv6Network(block), kind)
    for block, kind in (
        ("::/128", AddressKind.UNSPECIFIED),
        ("::1/128", AddressKind.LOOPBACK),
        ("fc00::/7", AddressKind.PRIVATE),
        ("fe80::/10", AddressKind.LINK_LOCAL),
        ("fec0::/10", AddressKind.PRIVATE),
        ("ff00::/8", AddressKind.MULTICAST),
        ("2001::/23", AddressKind.RESERVED),
        ("2001:db8::/32", AddressKind.RESERVED),
        ("2002::/16", AddressKind.RESERVED),
        ("3fff::/20", AddressKind.RESERVED),
        ("2000::/3", AddressKind.PUBLIC),
    )
)
_TRANSLATED = tuple(map(IPv6Network, ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
_COMPATIBLE = IPv6Network("::/96")
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
_SIX_TO_FOUR = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")
_LOW_32 = 0xFFFFFFFF
_ISATAP = frozenset((0x00005EFE, 0x02005EFE))
_BY_DANGER = tuple(AddressKind)


def classify(address: str) -> AddressKind:
    """Say where an address leads; the worst of what it carries, where it carries another.

    `address` is a plain literal: four decimal numbers, or IPv6 without brackets. With a zone id it
    is link-local whatever else it says, since a zone has no meaning elsewhere.

    Raises:
        ValueError: this is no plain literal.
    """
    if ":" not in address:
        return _classify_4(IPv4Address(address))
    if "%" in address:
        IPv6Address(address.partition("%")[0])
        return AddressKind.LINK_LOCAL
    return _classify_6(IPv6Address(address))


def _classify_4(value: IPv4Address) -> AddressKind:
    if value in _METADATA_4:
        return AddressKind.METADATA
    for block, kind in _BLOCKS_4:
        if value in block:
            return kind
    return AddressKind.PUBLIC


def _classify_6(value: IPv6Address) -> AddressKind:
    if value in _METADATA_6:
        return AddressKind.METADATA
    if any(value in block for block in _TRANSLATED):
        # These are another spelling of the IPv4 address, public ones included.
        return _classify_4(_ipv4_at(value, 0))
    kind = next((kind for block, kind in _BLOCKS_6 if value in block), AddressKind.RESERVED)
    if value in _LOCAL_NAT64:
        return _classify_local_nat64(int(value))
    kinds = [kind, *map(_classify_4, _carried(value))]
    return max(kinds, key=_BY_DANGER.index)


def _carried(value: IPv6Address) -> Iterator[IPv4Address]:
    """Give the IPv4 addresses an IPv6 address may be a way to."""
    number = int(value)
    if value in _COMPATIBLE and number > 1:
        yield _ipv4_at(value, 0)
    elif value in _SIX_TO_FOUR:
        yield _ipv4_at(value, 80)
    elif value in _TEREDO:
        yield _ipv4_at(value, 64)
        yield IPv4Address(~number & _LOW_32)
    if (number >> 32) & _LOW_32 in _ISATAP:
        yield _ipv4_at(value, 0)


def _classify_local_nat64(number: int) -> AddressKind:
    """Say where an address leads that the own network translates: near, unless it never may.

    Looks at each place RFC 6052 has for prefixes of 48, 56, 64 and 96 bits, since how long the prefix
    is only the network knows; bits 64 to 71 are skipped.
    """
    raw = number.to_bytes(16, "big")
    without_gap = raw[:8] + raw[9:]
    places = [without_gap[start : start + 4] for start in (6, 7, 8)] + [raw[12:]]
    kinds = {_classify_4(IPv4Address(place)) for place in places}
    for never in (AddressKind.METADATA, AddressKind.LINK_LOCAL):
        if never in kinds:
            return never
    return AddressKind.PRIVATE


def _ipv4_at(value: IPv6Address, shift: int) -> IPv4Address:
    return IPv4Address((int(value) >> shift) & _LOW_32)
