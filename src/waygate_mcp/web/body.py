"""The body of a request, read within limits of size and time; and what may be in it.

Knows ASGI's `http.request` messages. Refuses to parse. The usual request has its whole body in the
first message, which is there when it is asked for: no timer is armed for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping, MutableMapping
from typing import Any

from waygate_mcp.web.problems import Refused

__all__ = ["BODY_TIMEOUT_S", "declared_length", "is_json", "read_body"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

BODY_TIMEOUT_S = 30.0
"""Seconds a client may take to send its body."""

MIN_RATE_BYTES_S = 64 * 1024
"""Bytes per second a large body must reach on average; each second's worth adds a second."""


def is_json(headers: Mapping[bytes, bytes]) -> bool:
    """Tell whether the body is declared as `application/json`, in UTF-8 where it says so."""
    value = headers.get(b"content-type", b"")
    if value == b"application/json":
        return True
    kind, _, parameters = value.partition(b";")
    if kind.strip().lower() != b"application/json":
        return False
    for parameter in parameters.split(b";"):
        name, _, text = parameter.partition(b"=")
        if name.strip().lower() == b"charset" and text.strip(b' "').lower() not in {
            b"utf-8", b"utf8", b"us-ascii",
        }:  # fmt: skip
            return False
    return True


def declared_length(headers: Mapping[bytes, bytes]) -> int | None:
    """Give `content-length`, None where there is none.

    Raises:
        Refused: 400, it is no number.
    """
    value = headers.get(b"content-length")
    if value is None:
        return None
    if not value.isdigit() or len(value) > 18:
        raise Refused(400, "content_length", "Content-Length is not a number.")
    return int(value)


async def read_body(
    receive: Receive,
    limit_bytes: int,
    timeout_s: float = BODY_TIMEOUT_S,
    headers: Mapping[bytes, bytes] | None = None,
) -> bytes:
    """Read the whole body, at most `limit_bytes`.

    `headers`, where given, refuse a body that declares to be too large before any of it is read.
    A client gets `timeout_s` seconds, and one more for every 64 KiB it has sent.

    Raises:
        Refused: 413 too large, 408 too slow, 400 where the connection was closed before the end or
            `content-length` is no number.
    """
    if headers is not None:
        length = declared_length(headers)
        if length is not None and length > limit_bytes:
            raise too_large(limit_bytes)
    waiting = _AtOnce(receive())
    if waiting.is_done:
        message = waiting.value
        if message["type"] == "http.request" and not message.get("more_body", False):
            body: bytes = message.get("body", b"")
            if len(body) > limit_bytes:
                raise too_large(limit_bytes)
            return body
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        async with asyncio.timeout(timeout_s) as limit:
            message = waiting.value if waiting.is_done else await waiting
            return await _read_parts(
                message,
                receive,
                limit_bytes,
                lambda size: limit.reschedule(started + timeout_s + size / MIN_RATE_BYTES_S),
            )
    except TimeoutError:
        raise Refused(
            408, "body_timeout", "The body was not received in time.", ((b"connection", b"close"),)
        ) from None


async def _read_parts(
    message: Message, receive: Receive, limit_bytes: int, on_size: Callable[[int], None]
) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] != "http.request":
            # Nobody may be left to read this; the request log says what happened.
            raise Refused(400, "truncated", "The body ended before its end.")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit_bytes:
            raise too_large(limit_bytes)
        if part:
            parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)
        on_size(size)
        message = await receive()


def too_large(limit_bytes: int) -> Refused:
    """Word the refusal of a body over `limit_bytes`.

    The connection stays open for a moment, so that a client in the middle of sending can read this;
    the server drops the rest of the body and then the connection (`server.py`).
    """
    return Refused(413, "too_large", f"The body is larger than {limit_bytes} bytes.")


class _AtOnce:
    """An awaitable driven to its first wait: it may be done already, or be awaited from there.

    What it waits for first is handed on to the event loop unseen, within the same step of the task,
    as `await` itself would have done.
    """

    __slots__ = ("_iterator", "_waits_for", "is_done", "value")

    def __init__(self, awaitable: Awaitable[Message]) -> None:
        self._iterator = awaitable.__await__()
        self.value: Message = {}
        self.is_done = False
        self._waits_for: Any = None
        try:
            self._waits_for = next(self._iterator)
        except StopIteration as done:
            self.value = done.value
            self.is_done = True

    def __await__(self) -> Generator[Any, Any, Message]:
        waits_for = self._waits_for
        while True:
            try:
                sent = yield waits_for
            except GeneratorExit:
                self._iterator.close()
                raise
            except BaseException as exc:  # noqa: BLE001 - thrown on into what is awaited, as `await` does
                step = _throw(self._iterator, exc)
            else:
                step = _send(self._iterator, sent)
            if step[0]:
                message: Message = step[1]
                return message
            waits_for = step[1]


def _send(iterator: Generator[Any, Any, Message], value: Any) -> tuple[bool, Any]:
    try:
        return False, iterator.send(value)
    except StopIteration as done:
        return True, done.value


def _throw(iterator: Generator[Any, Any, Message], error: BaseException) -> tuple[bool, Any]:
    try:
        return False, iterator.throw(error)
    except StopIteration as done:
        return True, done.value
