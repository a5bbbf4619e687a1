from __future__ import annotations

import pytest

from waygate_mcp.net.addresses import AddressKind, classify

MATRIX = {
    AddressKind.PUBLIC: [
        "1.1.1.1",
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2a00:1450::1",
        "::ffff:8.8.8.8",
        "::ffff:0:8.8.8.8",
        "64:ff9b::8.8.8.8",
    ],
    AddressKind.LOOPBACK: [
        "127.0.0.1",
        "127.255.255.254",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1",
    ],
    AddressKind.PRIVATE: [
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "fc00::1",
        "fd12:3456::1",
        "fec0::1",
        "::ffff:10.0.0.1",
        "64:ff9b::10.0.0.1",
        "2606:4700::5efe:10.0.0.1",
        "2606:4700::200:5efe:192.168.0.1",
        "64:ff9b:1:808:8:800::",
    ],
    AddressKind.LINK_LOCAL: [
        "169.254.0.1",
        "169.254.255.255",
        "fe80::1",
        "febf::1",
        "fe80::1%eth0",
        "2606:4700::1%1",
        "::1%lo",
        "::ffff:169.254.1.1",
        "::169.254.1.1",
        "2002:a9fe:101::",
        "64:ff9b::169.254.1.1",
    ],
    AddressKind.METADATA: [
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fe80::a9fe:a9fe",
        "::ffff:169.254.169.254",
        "::ffff:0:169.254.169.254",
        "::169.254.169.254",
        "2002:a9fe:a9fe::1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::169.254.169.254",
        "64:ff9b:1:a9fe:a9:fe00::",  # RFC 6052, 48 bits of prefix
        "64:ff9b:1:a9:fe:a9fe::",  # 56
        "64:ff9b:1:0:a9:fea9:fe00:0",  # 64
        "2001:0:a9fe:a9fe::1",  # Teredo: the server
        "2001:0:808:808:0:0:5601:5601",  # Teredo: the client, inverted
        "2606:4700::5efe:a9fe:a9fe",
    ],
    AddressKind.MULTICAST: ["224.0.0.1", "239.255.255.255", "ff02::1", "::ffff:224.0.0.1"],
    AddressKind.UNSPECIFIED: ["0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0", "64:ff9b::"],
    AddressKind.RESERVED: [
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "240.0.0.1",
        "255.255.255.255",
        "::8.8.8.8",
        "::127.0.0.1",
        "2002:808:808::1",
        "2002:7f00:1::",
        "2001:db8::1",
        "2001:10::1",
        "3fff::1",
        "4000::1",
        "100::1",
        "5f00::1",
    ],
}


@pytest.mark.parametrize(
    ("address", "kind"), [(one, kind) for kind, many in MATRIX.items() for one in many]
)
def test_every_kind_of_address_is_told_apart(address: str, kind: AddressKind) -> None:
    assert classify(address) is kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "127.1",
        "0177.0.0.1",
        "0x7f000001",
        "2130706433",
        "[::1]",
        "1.2.3.4 ",
        "::g",
    ],
)
def test_what_is_no_plain_literal_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        classify(text)
