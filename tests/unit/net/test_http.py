from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.support.exchange import Response
from waygate_mcp.errors import TooLargeError
from waygate_mcp.net.http import media_type, read_body


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("application/json", "application/json"),
        ("Text/Event-Stream; charset=utf-8", "text/event-stream"),
        (None, ""),
    ],
)
def test_a_media_type_is_compared_without_case_and_parameters(
    header: str | None, expected: str
) -> None:
    headers = {} if header is None else {"content-type": header}
    assert media_type(Response(headers=headers)) == expected


async def test_a_body_is_read_whole() -> None:
    assert await read_body(Response(chunks=[b"a", b"bc"]), 3) == b"abc"


async def test_a_body_over_the_limit_is_refused_without_reading_on() -> None:
    given = 0

    async def endless() -> AsyncGenerator[bytes, None]:
        nonlocal given
        while True:
            given += 1
            yield b"xx"

    with pytest.raises(TooLargeError) as caught:
        await read_body(Response(chunks=endless()), 3)
    assert caught.value.limit_bytes == 3
    assert given == 2
