from __future__ import annotations

import asyncio
from typing import Any

import pytest

from waygate_mcp.web.body import declared_length, is_json, read_body
from waygate_mcp.web.problems import Refused


class Sender:
    """A client that sends what it is told to; `None` means that nothing comes until `go`."""

    def __init__(self, *messages: dict[str, Any] | None) -> None:
        self.messages = list(messages)
        self.go = asyncio.Event()
        self.waits = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if self.messages and self.messages[0] is None:
            self.messages.pop(0)
            self.waits.set()
            await self.go.wait()
        message = self.messages.pop(0)
        assert message is not None
        return message


def part(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


GONE = {"type": "http.disconnect"}


async def refusal(sender: Sender, limit: int = 100, **more: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        await read_body(sender.receive, limit, **more)
    return caught.value


async def test_a_whole_body_is_read_at_once() -> None:
    assert await read_body(Sender(part(b"{}")).receive, 100) == b"{}"


async def test_a_whole_body_arms_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        pytest.fail("a timer was armed")

    monkeypatch.setattr(asyncio, "timeout", never)
    assert await read_body(Sender(part(b"{}")).receive, 100) == b"{}"


async def test_a_message_without_fields_is_an_empty_body() -> None:
    assert await read_body(Sender({"type": "http.request"}).receive, 100) == b""


async def test_parts_are_joined() -> None:
    sender = Sender(part(b"a", True), part(b"", True), part(b"b", True), part(b"c"))
    assert await read_body(sender.receive, 3) == b"abc"


async def test_a_body_that_comes_later_is_waited_for() -> None:
    sender = Sender(None, part(b"a", True), part(b"b"))
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read_body(sender.receive, 100))
        await sender.waits.wait()
        sender.go.set()
    assert reading.result() == b"ab"


@pytest.mark.parametrize("parts", [[part(b"x" * 11)], [part(b"x" * 10, True), part(b"x")]])
async def test_a_body_over_the_limit_is_413(parts: list[dict[str, Any]]) -> None:
    refused = await refusal(Sender(*parts), 10)
    assert (refused.status, refused.code) == (413, "too_large")
    assert refused.message == "The body is larger than 10 bytes."


async def test_what_follows_the_limit_is_not_read() -> None:
    sender = Sender(part(b"x" * 11, True), part(b"y"))
    await refusal(sender, 10)
    assert len(sender.messages) == 1


async def test_a_body_that_declares_too_much_is_refused_unread() -> None:
    sender = Sender(part(b"x"))
    assert (await refusal(sender, 10, headers={b"content-length": b"11"})).status == 413
    assert len(sender.messages) == 1


async def test_a_body_of_exactly_the_limit_is_read() -> None:
    headers = {b"content-length": b"10"}
    assert len(await read_body(Sender(part(b"x" * 10)).receive, 10, headers=headers)) == 10


async def test_a_slow_body_is_408_and_ends_the_connection() -> None:
    refused = await refusal(Sender(None), timeout_s=0)
    assert (refused.status, refused.code) == (408, "body_timeout")
    assert (b"connection", b"close") in refused.headers


async def test_a_body_that_stops_in_its_midst_is_408() -> None:
    sender = Sender(part(b"x", True), None)
    assert (await refusal(sender, timeout_s=-60)).status == 408


@pytest.mark.parametrize("first", [[], [part(b"x", True)], [None]])
async def test_a_client_that_leaves_in_the_midst_is_400(first: list[Any]) -> None:
    sender = Sender(*first, GONE)
    sender.go.set()
    refused = await refusal(sender)
    assert (refused.status, refused.code) == (400, "truncated")


async def test_cancelling_while_waiting_reaches_what_is_waited_for() -> None:
    sender = Sender(None)
    task = asyncio.get_running_loop().create_task(read_body(sender.receive, 100))
    await sender.waits.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_server_passes_unchanged() -> None:
    async def broken() -> dict[str, Any]:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        await read_body(broken, 100)


async def test_a_receiver_may_answer_although_it_was_cancelled() -> None:
    async def stubborn() -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return part(b"late")
        raise AssertionError

    assert await read_body(stubborn, 100, timeout_s=0) == b"late"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"application/json", True),
        (b"Application/JSON; charset=UTF-8", True),
        (b"application/json;charset=utf8", True),
        (b'application/json; charset="us-ascii"; a=b', True),
        (b"application/json; charset=latin-1", False),
        (b"application/jsonp", False),
        (b"text/plain", False),
        (b"", False),
    ],
)
def test_json_is_declared_exactly(value: bytes, expected: bool) -> None:
    assert is_json({b"content-type": value}) is expected


def test_no_content_type_is_no_json() -> None:
    assert not is_json({})


@pytest.mark.parametrize("value", [b"-1", b"1.5", b"", b"0x10", b"1" * 19, b" 1", "²".encode()])
def test_a_length_that_is_no_number_is_refused(value: bytes) -> None:
    with pytest.raises(Refused) as caught:
        declared_length({b"content-length": value})
    assert caught.value.status == 400


def test_a_length_is_read() -> None:
    assert declared_length({b"content-length": b"10"}) == 10
    assert declared_length({}) is None
