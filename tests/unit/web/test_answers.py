"""What a client can read, and which form of an answer it asks for."""

from __future__ import annotations

import pytest

from waygate_mcp.web.answers import accepts, prefers_stream


@pytest.mark.parametrize(
    "accept",
    [
        None,
        b"application/json, text/event-stream",
        b"TEXT/EVENT-STREAM",
        b"application/json;q=0.5",
        b"*/*",
        b"application/*",
    ],
)
def test_a_client_that_reads_either_form_is_served(accept: bytes | None) -> None:
    assert accepts(accept)


@pytest.mark.parametrize("accept", [b"", b"text/html", b"image/*, text/plain"])
def test_a_client_that_reads_neither_form_is_not(accept: bytes) -> None:
    assert not accepts(accept)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, False),
        (b"application/json, text/event-stream", False),
        (b"text/event-stream, application/json", True),
        (b" Text/Event-Stream", True),
        (b"*/*", False),
    ],
)
def test_the_event_stream_is_preferred_where_it_is_named_first(
    accept: bytes | None, wanted: bool
) -> None:
    assert prefers_stream(accept) is wanted
