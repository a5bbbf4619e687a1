from __future__ import annotations

import pytest

from waygate_mcp.errors import LocalProtocolError
from waygate_mcp.net import heads
from waygate_mcp.net.heads import HeadWriter, check_headers


def test_a_request_is_one_piece() -> None:
    writer = HeadWriter("example.org:81", [("authorization", "Bearer k")])
    assert writer.write("POST", "/mcp?a=b", [("x-own", "1")], b"hi") == (
        b"POST /mcp?a=b HTTP/1.1\r\nhost: example.org:81\r\naccept-encoding: identity\r\n"
        b"user-agent: waygate\r\nauthorization: Bearer k\r\nx-own: 1\r\ncontent-length: 2\r\n\r\nhi"
    )
    assert writer.write("GET", "/", [], b"").endswith(b"authorization: Bearer k\r\n\r\n")
    assert b"content-length: 0\r\n" in writer.write("POST", "/", [], b"")


def test_a_user_agent_of_the_operator_replaces_ours() -> None:
    written = HeadWriter("a", [("User-Agent", "mine")]).write("GET", "/", [], b"")
    assert written.lower().count(b"user-agent") == 1


@pytest.mark.parametrize(
    "header",
    [
        ("x\r\ny", "1"),
        ("x y", "1"),
        ("x:", "1"),
        ("", "1"),
        ("ä", "1"),
        ("x" * 300, "1"),
        ("x", "1\r\ny: 2"),
        ("x", "1\ny: 2"),
        ("x", "1\0"),
        ("x", "\x7f"),
        ("x", "ä"),
        ("x", "1\u2028"),
        ("x", "1" * 20_000),
        ("Host", "evil.example"),
        ("content-length", "5"),
        ("Transfer-Encoding", "chunked"),
        ("connection", "close"),
        ("upgrade", "h2c"),
        ("accept-encoding", "gzip"),
    ],
)
def test_a_header_that_says_something_else_on_the_wire_is_refused(header: tuple[str, str]) -> None:
    writer = HeadWriter("a")
    for _ in range(2):  # what was refused is not remembered as good
        with pytest.raises(LocalProtocolError):
            writer.write("POST", "/", [header], b"")
    with pytest.raises(LocalProtocolError):
        HeadWriter("a", [header])


def test_a_tab_in_a_value_is_allowed() -> None:
    check_headers([("x", "a\tb")])


@pytest.mark.parametrize("path", ["", "mcp", "/a b", "/a\r\nx: y", "/ä", "http://evil.example/"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(LocalProtocolError):
        HeadWriter("a").write("POST", path, [], b"")


@pytest.mark.parametrize("method", ["CONNECT", "HEAD", "post", "GET /x HTTP/1.1\r\n"])
def test_a_method_that_nobody_needs_is_refused(method: str) -> None:
    with pytest.raises(LocalProtocolError):
        HeadWriter("a").write(method, "/", [], b"")


def test_names_of_strangers_do_not_fill_the_memory() -> None:
    check_headers([(f"x-{number}", "1") for number in range(2000)])
    assert len(heads._known_names) <= heads._MAX_KNOWN
