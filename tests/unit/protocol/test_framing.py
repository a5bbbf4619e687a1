from __future__ import annotations

import re
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waygate_mcp.protocol.framing import (
    KEEP_ALIVE,
    FrameTooLarge,
    LineDecoder,
    SseDecoder,
    SseEvent,
    encode_event,
    encode_line,
)

LIMIT = 10_000
CUTS = st.lists(st.integers(0, 400), max_size=8)
ONE_LINE = st.text(
    st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=20
)
EVENTS: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    data=st.text(st.sampled_from("ab:\r\n {}é\ufeff"), max_size=20).map(str.encode),
    event=st.none() | ONE_LINE,
    id=st.none() | ONE_LINE,
    retry_ms=st.none() | st.integers(0, 999_999_999),
)


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    """Cut a stream at these places."""
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in pairwise(places)]


def events(stream: bytes, cuts: list[int] | None = None, limit: int = LIMIT) -> list[SseEvent]:
    """Decode a stream that comes in pieces."""
    decoder = SseDecoder(limit)
    return [event for piece in pieces(stream, cuts or []) for event in decoder.feed(piece)]


def lines(stream: bytes, cuts: list[int] | None = None, limit: int = LIMIT) -> list[bytes]:
    """Decode lines that come in pieces."""
    decoder = LineDecoder(limit)
    return [line for piece in pieces(stream, cuts or []) for line in decoder.feed(piece)]


# ------------------------------------------------------------------ events
@given(st.lists(EVENTS, max_size=4), CUTS)
def test_events_come_back_however_the_stream_is_cut(
    written: list[dict[str, Any]], cuts: list[int]
) -> None:
    stream = KEEP_ALIVE.join(encode_event(**event) for event in written)
    expected = [
        SseEvent(
            data=re.sub(rb"\r\n|\r", b"\n", event["data"]),
            event=event["event"] or "message",
            id=event["id"],
            retry_ms=event["retry_ms"],
        )
        for event in written
    ]
    assert events(stream, cuts) == expected


@given(st.binary(max_size=60) | st.text("ab:\r\n \ufeffdata:").map(str.encode), CUTS)
def test_any_stream_gives_the_same_events_however_it_is_cut(stream: bytes, cuts: list[int]) -> None:
    byte_by_byte = list(range(len(stream)))
    assert events(stream, cuts) == events(stream) == events(stream, byte_by_byte)


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: x\n\n", [SseEvent(b"x")]),
        (b"data:x\r\n\r\n", [SseEvent(b"x")]),
        (b"data:  x\r\r", [SseEvent(b" x")]),
        (b"data: a\r\ndata: b\r\n\r\n", [SseEvent(b"a\nb")]),
        (b"data: a\rdata: b\ndata: c\r\n\r\n", [SseEvent(b"a\nb\nc")]),
        (b"data: a\r\n\rdata: b\r\r\n", [SseEvent(b"a"), SseEvent(b"b")]),
        (b"data\n\n", [SseEvent(b"")]),
        (b"data: a\ndata: b\ndata\n\n", [SseEvent(b"a\nb\n")]),
        (b"id: 7\ndata:\n\n", [SseEvent(b"", id="7")]),
        (b"id: 7\n\n", [SseEvent(None, id="7")]),
        (b"retry: 100\n\n", [SseEvent(None, retry_ms=100)]),
        (b"retry: 999999999\n\n", [SseEvent(None, retry_ms=999_999_999)]),
        (b"retry: 1e3\n\n", []),
        (b"retry: -1\ndata: x\n\n", [SseEvent(b"x")]),
        (b"retry: 9999999999\ndata: x\n\n", [SseEvent(b"x")]),
        (b"id: a\0b\ndata: x\n\n", [SseEvent(b"x")]),
        (b"event: endpoint\ndata: /m?s=1\n\n", [SseEvent(b"/m?s=1", event="endpoint")]),
        (b"event:\ndata: x\n\n", [SseEvent(b"x")]),
        (
            b"event: \xff\nid: \xff\ndata: \xff\n\n",
            [SseEvent(b"\xff", event="\ufffd", id="\ufffd")],
        ),
        (b": comment\n\n:\n\n", []),
        (b"unknown: x\n\n", []),
        (b"Data: x\n\n", []),
        (b" data: x\n\n", []),
        (b"\n\n\r\n", []),
        (b"\xef\xbb\xbfdata: x\n\n", [SseEvent(b"x")]),
        (b"data: x\n\n\xef\xbb\xbfdata: y\n\n", [SseEvent(b"x")]),
        (b"data: unfinished\n", []),
        (b"data: x\n\ndata: unfinished", [SseEvent(b"x")]),
        (b"id: 1\ndata: a\n\ndata: b\n\n", [SseEvent(b"a", id="1"), SseEvent(b"b")]),
    ],
)
def test_streams_are_read_as_the_standard_says(stream: bytes, expected: list[SseEvent]) -> None:
    assert events(stream) == expected
    for size in range(1, 8):
        assert events(stream, list(range(0, len(stream), size))) == expected


def test_an_event_ended_by_bare_carriage_returns_is_given_at_once() -> None:
    decoder = SseDecoder(LIMIT)
    assert decoder.feed(b"data: x\r\r") == [SseEvent(b"x")]
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\ndata: y\r") == []
    assert decoder.feed(b"\n\r") == [SseEvent(b"y")]
    assert decoder.feed(b"\n\n") == []


def test_raw_line_breaks_in_a_message_cannot_add_fields_to_the_stream() -> None:
    stream = encode_event(b'{"a":\n1,\r\rid: 9\r\nevent: endpoint\n\n2}')
    assert events(stream) == [SseEvent(b'{"a":\n1,\n\nid: 9\nevent: endpoint\n\n2}')]


@pytest.mark.parametrize("cuts", [[], [40], list(range(200))])
def test_an_event_beyond_the_limit_is_refused_complete_or_not(cuts: list[int]) -> None:
    exact = b"data: " + b"x" * 93
    assert events((exact + b"\n\n") * 2, cuts, limit=100) == [SseEvent(b"x" * 93)] * 2
    for stream in (
        exact + b"xx\n\n",
        exact + b"xx",
        b"data: 1234\n" * 10 + b"\n",
        b"data\n" * 30,
        b": " + b"c" * 100,
    ):
        with pytest.raises(FrameTooLarge) as caught:
            events(stream, cuts, limit=100)
        assert caught.value.limit == 100


def test_many_small_frames_never_reach_the_limit() -> None:
    stream = b"\xef\xbb\xbf" + b": keep-alive\n\n" * 50 + b"event: a\nid: b\ndata: c\n\n" * 50
    assert len(events(stream, limit=40)) == 50
    assert len(lines(b"a line\r\n" * 50, limit=7)) == 50


@pytest.mark.no_cover  # many times the same lines
def test_decoding_takes_time_in_proportion_to_the_stream() -> None:
    start = time.perf_counter()
    for unit in (b"\n", b"\r", b"\r\n", b"data:x\n", b"data:x\n\n", b":\n", b"x"):
        stream = unit * (100_000 // len(unit))
        for size in (1, 1000, len(stream)):
            step = stream[: 15_000 if size == 1 else len(stream)]
            sse, plain = SseDecoder(10**6), LineDecoder(10**6)
            for place in range(0, len(step), size):
                sse.feed(step[place : place + size])
                plain.feed(step[place : place + size])
    assert time.perf_counter() - start < 20


# ------------------------------------------------------------------ lines
@given(st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b""))), CUTS)
def test_lines_come_back_however_the_stream_is_cut(written: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(line + b"\n" for line in written)
    expected = [stripped for line in written if (stripped := line.rstrip(b"\r"))]
    assert lines(stream, cuts) == lines(stream, list(range(len(stream)))) == expected


def test_a_line_under_way_is_not_given() -> None:
    decoder = LineDecoder(LIMIT)
    assert decoder.feed(b'{"a"') == []
    assert decoder.feed(b":1}\r") == []
    assert decoder.feed(b"\n\n\r\n{") == [b'{"a":1}']
    assert decoder.feed(b"}\n") == [b"{}"]


@pytest.mark.parametrize("cuts", [[], [5], list(range(30))])
@pytest.mark.parametrize("stream", [b"x" * 11 + b"\n", b"x" * 11, b"ok\n" + b"x" * 11])
def test_a_line_beyond_the_limit_is_refused_complete_or_not(stream: bytes, cuts: list[int]) -> None:
    assert lines(b"x" * 10 + b"\n", cuts, limit=10) == [b"x" * 10]
    with pytest.raises(FrameTooLarge):
        lines(stream, cuts, limit=10)


@given(st.text(st.sampled_from("a{}:\r\n \t"), max_size=30).map(str.encode))
def test_a_message_is_written_as_exactly_one_line(message: bytes) -> None:
    written = encode_line(message)
    assert written.endswith(b"\n")
    assert written.count(b"\n") == 1
    assert b"\r" not in written
    assert written.split() == message.split()
