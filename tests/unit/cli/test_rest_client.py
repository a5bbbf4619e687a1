from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.exchange import Response
from waygate_mcp.cli import rest_client
from waygate_mcp.cli.client_commands import where_from
from waygate_mcp.errors import (
    ConfigError,
    UpstreamProtocolError,
    UpstreamUnavailableError,
    WaygateError,
)


def answering(
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, failure: Exception | None = None
) -> list[Any]:
    asked: list[Any] = []

    class Transport:
        def __init__(self, origin: str, name: str, *, headers: Sequence[tuple[str, str]]) -> None:
            asked.append((origin, list(headers)))

        async def __aenter__(self) -> Transport:
            return self

        async def __aexit__(self, *_: object) -> None:
            return None

        @asynccontextmanager
        async def request(self, method: str, path: str, headers: Any) -> AsyncIterator[Response]:
            asked.append((method, path))
            if failure is not None:
                raise failure
            yield Response(status, {}, [body])

    monkeypatch.setattr(rest_client, "AiohttpTransport", Transport)
    return asked


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WAYGATE_API_KEY", "a-key-of-the-tests-0123456789")


async def test_an_object_is_given_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, 200, b'{"a":1}')
    where = where_from(None, "http://127.0.0.1:9")
    assert await rest_client.ask_json(where, "/x") == {"a": 1}
    assert asked[0][1] == [("authorization", "Bearer a-key-of-the-tests-0123456789")]
    assert asked[1] == ("GET", "/x")


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (401, b"{}", ConfigError, "wants another key"),
        (403, b"{}", ConfigError, "wants another key"),
        (404, b'{"error":{"message":"Unknown key"}}', ConfigError, "says: Unknown key"),
        (500, b'{"error":1}', ConfigError, "says: 500"),
        (200, b"<html>", UpstreamProtocolError, "no JSON"),
        (200, b"[]", UpstreamProtocolError, "no JSON"),
    ],
)
async def test_anything_else_is_an_error_that_says_what_to_do(
    status: int,
    body: bytes,
    kind: type[WaygateError],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answering(monkeypatch, status, body)
    with pytest.raises(kind, match=said):
        await rest_client.ask_json(where_from(None, "http://127.0.0.1:9"), "/x")


async def test_one_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, 0, b"", TimeoutError())
    with pytest.raises(UpstreamUnavailableError, match="did not answer within 30 s"):
        await rest_client.ask_json(where_from(None, "http://127.0.0.1:9"), "/x")
