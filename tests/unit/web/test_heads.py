"""What is kept of heads, and that a request served by it is the request the parser would have given."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.web.test_connection import Echo, Wire, wire
from waygate_mcp.web import heads as module
from waygate_mcp.web.guard import MEMORY
from waygate_mcp.web.heads import Heads

HEAD = b"POST /mcp?a=%%41 HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nX-Api-Key: k\r\n\r\n"


def post(body: bytes) -> bytes:
    return HEAD % len(body) + body


def scope_of(key: str = "k", method: str = "POST", *more: tuple[bytes, bytes]) -> dict[str, Any]:
    headers = [
        (b"host", b"localhost"),
        (b"content-length", b"5"),
        (b"x-api-key", key.encode()),
        *more,
    ]
    return {
        "method": method,
        "path": "/mcp",
        "raw_path": b"/mcp",
        "query_string": b"",
        "headers": headers,
    }


def learn(heads: Heads, data: bytes, scope: dict[str, Any]) -> bool:
    """Show a request twice; whether its head is known then."""
    cut = heads.cut(data)
    assert cut is not None
    for _ in range(2):
        heads.learn(cut, scope)
    return heads.find(cut) is not None


# --- cutting


def test_a_whole_request_is_cut_where_its_body_begins() -> None:
    data = post(b"hello")
    cut = Heads.cut(data)
    assert cut is not None
    _, length, body = cut
    assert body == b"hello"
    assert length == b"5"
    assert Heads.cut(post(b"hello, again")) == (cut[0], b"12", b"hello, again")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        post(b"hello")[:-1],
        post(b"hello") + b"x",
        post(b"hello") + post(b"hello"),
        post(b"hello").replace(b"Length: 5", b"Length: 05"),
        post(b"hello").replace(b"Length: 5", b"Length: +5"),
        post(b"hello").replace(b"Length: 5", b"Length:5"),
        post(b"hello").replace(b"Length: 5", b"Length:  5"),
        post(b"hello").replace(b"Length: 5", b"Length: 5 "),
        post(b"hello").replace(b"Content-Length", b"Content_Length"),
        post(b"hello").replace(b"\r\n", b"\n"),
        HEAD % 0,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        post(b"hello").replace(b"X-Api-Key: k", b"X-Api-Key: " + b"k" * 4096),
        post(b"x" * (module.MAX_BODY_BYTES + 1)),
    ],
)
def test_what_is_not_one_whole_request_of_the_plain_kind_goes_to_the_parser(data: bytes) -> None:
    assert Heads.cut(data) is None


# --- keeping


def test_a_head_is_known_from_its_second_sight_on() -> None:
    heads = Heads()
    cut = heads.cut(post(b"hello"))
    assert cut is not None
    heads.learn(cut, scope_of())
    assert heads.find(cut) is None
    heads.learn(cut, scope_of())
    assert heads.find(cut) is not None


@pytest.mark.parametrize(
    "scope",
    [
        scope_of("k", "GET"),
        scope_of("k", "POST", (b"x-api-key", b"k")),
        scope_of("k", "POST", (b"content-length", b"5")),
        scope_of("k", "POST", (b"transfer-encoding", b"chunked")),
        scope_of("k", "POST", (b"expect", b"100-continue")),
        scope_of("k", "POST", (b"upgrade", b"h2c")),
    ],
)
def test_heads_that_say_more_than_they_stand_for_are_not_kept(scope: dict[str, Any]) -> None:
    assert not learn(Heads(), post(b"hello"), scope)


def test_a_body_of_another_length_gets_its_own_and_changes_no_scope_that_is_in_use() -> None:
    heads = Heads()
    assert learn(heads, post(b"hello"), scope_of())
    cut = heads.cut(post(b"hello, again"))
    assert cut is not None
    head = heads.find(cut)
    assert head is not None
    first, longer = head.take(b"5"), head.take(b"12")
    assert dict(first["headers"])[b"content-length"] == b"5"
    assert dict(longer["headers"])[b"content-length"] == b"12"
    assert [name for name, _ in longer["headers"]] == [name for name, _ in first["headers"]]
    assert head.take(b"12")["headers"] is longer["headers"]


def test_only_so_many_are_kept_and_those_in_use_stay() -> None:
    heads = Heads()
    used = post(b"hello")
    assert learn(heads, used, scope_of())
    for number in range(5 * module.MAX_HEADS):
        other = used.replace(b"X-Api-Key: k", b"X-Api-Key: %d" % number)
        assert learn(heads, other, scope_of())
        cut = heads.cut(used)
        assert cut is not None
        assert heads.find(cut) is not None
        assert len(heads) <= 2 * module.MAX_HEADS + 1


def test_what_was_seen_once_is_forgotten_before_it_takes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MAX_ONCE", 3)
    heads = Heads()
    for number in range(10):
        cut = heads.cut(post(b"hello").replace(b"Key: k", b"Key: %d" % number))
        assert cut is not None
        heads.learn(cut, scope_of())
        assert len(heads._once) <= 3


# --- on a connection


async def served(line: Wire, data: bytes) -> bytes:
    line.send(data)
    return await line.finish()


async def test_the_third_of_equal_heads_is_served_without_the_parser() -> None:
    echo = Echo()
    with wire(echo) as line:
        for body in (b"one", b"three", b"seventeen"):
            assert (await served(line, post(body))).endswith(b"\r\n\r\n" + body)
        line.connection.parser = None  # type: ignore[assignment]
        assert (await served(line, post(b"fourth"))).endswith(b"\r\n\r\nfourth")
        assert [MEMORY in scope for scope in echo.scopes] == [False, False, True, True]
        assert not line.closing


async def test_a_request_in_pieces_or_behind_another_goes_to_the_parser() -> None:
    with wire() as line:
        for _ in range(3):
            await served(line, post(b"known"))
        for byte in post(b"slow"):
            line.send(bytes([byte]))
        assert (await line.finish()).endswith(b"\r\n\r\nslow")
        line.send(post(b"first"))
        line.send(post(b"second"))
        written = await line.finish()
        await asyncio.sleep(0)
        written += await line.finish()
        assert written.index(b"first") < written.index(b"second")
        assert (await served(line, post(b"third"))).endswith(b"\r\n\r\nthird")


async def test_a_head_inside_of_a_body_is_a_body() -> None:
    echo = Echo()
    with wire(echo) as line:
        for _ in range(3):
            await served(line, post(b"known"))
        outer = b"POST /other HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
        inner = post(b"known")
        line.send(outer % len(inner))
        line.send(inner)
        assert (await line.finish()).endswith(inner)
        assert echo.scopes[-1]["path"] == "/other"


async def test_the_last_connection_takes_the_heads_with_it() -> None:
    with wire() as line:
        for _ in range(3):
            await served(line, post(b"known"))
        assert len(line.connection.heads) == 1
        line.close()
        line.connection.connection_lost(None)
        assert len(line.connection.heads) == 0


async def test_a_known_head_is_served_after_one_that_closes_or_fails() -> None:
    with wire() as line:
        for _ in range(3):
            await served(line, post(b"known"))
        closing = post(b"last!").replace(b"Host", b"Connection: close\r\nHost")
        assert b"connection: close" in await served(line, closing)
        assert line.closing


TOKEN = st.text("abcXYZ-09", min_size=1, max_size=8).map(str.encode)
VALUE = st.text("abc XYZ:;=/%09\t", max_size=12).map(lambda text: text.strip().encode())
NAMES = st.sampled_from(
    [
        b"Accept",
        b"X-Request-ID",
        b"Connection",
        b"Cookie",
        b"Content-length",
        b"Transfer-Encoding",
        b"Expect",
    ]
)
HEADERS = st.lists(st.tuples(TOKEN | NAMES, VALUE), max_size=4)
TARGETS = st.sampled_from([b"/mcp", b"/servers/dev/mcp?x=%41", b"/a%20b", b"//x", b"/#f", b"*"])
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"])
SPELLINGS = st.sampled_from([b"Content-Length: ", b"content-length:", b"CONTENT-LENGTH: "])


@given(TARGETS, HEADERS, SPELLINGS, ENDS, st.lists(st.binary(max_size=12), min_size=4, max_size=4))
async def test_a_request_of_a_known_head_is_the_one_the_parser_gives(
    target: bytes,
    pairs: list[tuple[bytes, bytes]],
    spelling: bytes,
    end: bytes,
    bodies: list[bytes],
) -> None:
    """The same requests over one connection that knows heads, and over new connections that know none."""
    lines = [b"POST %b HTTP/1.1" % target, b"Host: localhost"]
    lines += [b"%b: %b" % pair for pair in pairs]
    requests = [
        end.join([*lines, spelling + b"%d" % len(body), b"", b""]) + body for body in bodies
    ]
    knowing, plain = Echo(), Echo()
    with wire(knowing) as line:
        answers = [await served(line, request) for request in requests if not line.closing]
    for request, answer in zip(requests, answers, strict=False):
        with wire(plain) as line:
            assert await served(line, request) == answer
    assert len(knowing.scopes) <= len(plain.scopes)
    for one, other in zip(knowing.scopes, plain.scopes, strict=False):
        same = {key: value for key, value in one.items() if key not in {MEMORY, "extensions"}}
        assert same == {key: value for key, value in other.items() if key != "extensions"}
