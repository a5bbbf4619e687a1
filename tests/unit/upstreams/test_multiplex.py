from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from waygate_mcp.errors import UpstreamProtocolError, UpstreamTimeoutError, UpstreamUnavailableError
from waygate_mcp.upstreams.channel import Begun, Incoming
from waygate_mcp.upstreams.multiplex import Line, Multiplex


class FakeLine:
    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.is_closed = False

    async def send(self, message: bytes) -> None:
        self.sent.append(json.loads(message))

    async def close(self) -> None:
        self.is_closed = True


async def opened(*, cancels: bool = False) -> tuple[Multiplex, FakeLine]:
    line = FakeLine()

    async def open_line(_: Multiplex) -> Line:
        return line

    channel = Multiplex("up", open_line, cancels=cancels)
    await channel.open()
    return channel, line


def request(identifier: str, method: str = "tools/call", **meta: Any) -> bytes:
    return json.dumps({"id": identifier, "method": method, "params": {"_meta": meta}}).encode()


def say(channel: Multiplex, **members: Any) -> None:
    channel.take(json.dumps({"jsonrpc": "2.0", **members}).encode())


async def read(messages: Any) -> Incoming:
    async with asyncio.timeout(1):
        incoming: Incoming = await anext(messages)
        return incoming


async def test_answers_find_their_requests_in_any_order() -> None:
    channel, _ = await opened()
    async with channel.request(request("a")) as one, channel.request(request("b")) as two:
        assert channel.in_flight == 2
        say(channel, id="b", result={"n": 2})
        say(channel, id="a", result={"n": 1})
        say(channel, id="a", result={"n": 3})
        say(channel, id="zzz", result={})
        first, second = one.messages(), two.messages()
        assert bytes((await read(first)).result) == b'{"n": 1}'
        assert bytes((await read(second)).result) == b'{"n": 2}'
    assert channel.in_flight == 0
    assert channel.has_succeeded


async def test_progress_and_listening_streams_are_told_by_their_marks() -> None:
    channel, _ = await opened(cancels=True)
    subscribed = {"io.modelcontextprotocol/subscriptionId": "l"}
    async with (
        channel.request(request("l", "subscriptions/listen")) as stream,
        channel.request(request("a", progressToken="t")) as call,
    ):
        say(channel, method="notifications/progress", params={"progressToken": "t", "progress": 1})
        say(channel, method="notifications/progress", params={"progressToken": "u", "progress": 1})
        say(channel, method="notifications/tools/list_changed", params={"_meta": subscribed})
        say(channel, method="notifications/message", params={"level": "info", "data": 1})
        messages = call.messages()
        methods = [(await read(messages)).method for _ in range(2)]
        assert methods == ["notifications/progress", "notifications/message"]
        assert (await read(stream.messages())).method == "notifications/tools/list_changed"


async def test_a_log_line_that_two_calls_might_have_written_reaches_neither() -> None:
    channel, _ = await opened(cancels=True)
    async with channel.request(request("a")) as one, channel.request(request("b")) as two:
        say(channel, method="notifications/message", params={"level": "info", "data": 1})
        for conversation, identifier in ((one, "a"), (two, "b")):
            say(channel, id=identifier, result={})
            assert (await read(conversation.messages())).is_response


async def test_a_claim_decides_and_what_it_does_not_claim_is_for_the_listener() -> None:
    channel, _ = await opened()
    channel.attribute(lambda incoming, in_flight: "a" if in_flight == 1 else None)
    async with channel.request(request("a")) as call, channel.listen() as own:
        say(channel, id=1, method="elicitation/create")
        assert (await read(call.messages())).id == 1
        async with channel.request(request("b")):
            say(channel, id=2, method="elicitation/create")
        assert (await read(own.messages())).id == 2


async def test_a_request_nobody_waits_for_is_cancelled_in_the_modern_era_only() -> None:
    for cancels in (True, False):
        channel, line = await opened(cancels=cancels)
        async with channel.request(request("a")):
            pass
        methods = [message["method"] for message in line.sent]
        assert methods == ["tools/call"] + ["notifications/cancelled"] * cancels
        async with channel.request(request("b")):
            say(channel, id="b", result={})
        assert len(line.sent) == 2 + cancels


async def test_who_was_cancelled_does_not_wait_for_an_upstream_that_does_not_read() -> None:
    class Deaf(FakeLine):
        async def send(self, message: bytes) -> None:
            await super().send(message)
            await asyncio.Event().wait()

    line = Deaf()

    async def open_line(_: Multiplex) -> Line:
        return line

    channel = Multiplex("up", open_line, cancels=True)
    await channel.open()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), channel.request(request("a")):
            raise AssertionError("it cannot be sent")
    # What was left while it was being sent is on its way, and so is its cancellation.
    assert [one["method"] for one in line.sent] == ["tools/call", "notifications/cancelled"]
    assert channel.in_flight == 0


async def test_what_could_not_be_sent_is_not_cancelled() -> None:
    class Broken(FakeLine):
        async def send(self, message: bytes) -> None:
            await super().send(message)
            raise UpstreamUnavailableError("up", "its process does not read")

    line = Broken()

    async def open_line(_: Multiplex) -> Line:
        return line

    channel = Multiplex("up", open_line, cancels=True)
    await channel.open()
    with pytest.raises(UpstreamUnavailableError):
        async with channel.request(request("a")):
            raise AssertionError("it was not sent")
    assert [one["method"] for one in line.sent] == ["tools/call"]


async def test_the_end_of_the_line_fails_what_is_in_flight_after_what_was_said() -> None:
    channel, line = await opened()
    broken = []
    channel.on_break = lambda: broken.append(True)
    channel.attribute(lambda *_: "a")
    async with channel.request(request("a")) as call:
        say(channel, method="notifications/message")
        channel.fail(UpstreamTimeoutError("up", "ended"))
        channel.fail(UpstreamTimeoutError("up", "ended twice"))
        messages = call.messages()
        assert (await read(messages)).method == "notifications/message"
        with pytest.raises(UpstreamTimeoutError, match=r"ended$"):
            await read(messages)
    assert broken == [True]
    assert channel.is_closed
    with pytest.raises(UpstreamUnavailableError):
        await channel.post(b"{}")
    async with channel.listen() as own:
        assert [one async for one in own.messages()] == []
    await channel.close()
    assert line.is_closed


async def test_what_is_not_read_is_bounded_and_a_response_always_fits() -> None:
    channel, _ = await opened()
    channel.attribute(lambda *_: "a")
    async with channel.request(request("a")) as call:
        for _ in range(5_000):
            say(channel, method="notifications/message")
        say(channel, id="a", result={})
        seen = []
        async for incoming in call.messages():
            seen.append(incoming)
            if incoming.is_response:
                break
    assert len(seen) == 1_025


async def test_nonsense_is_left_out_and_too_much_of_it_ends_the_line() -> None:
    channel, _ = await opened()
    for _ in range(10_000):
        channel.take(b"Listening on port 80")
    with pytest.raises(UpstreamProtocolError):
        channel.take(b"[1, 2]")


# --- the short way


async def sending(channel: Multiplex, identifier: str, **meta: Any) -> asyncio.Task[Begun]:
    """Send a request the short way, in a task that waits for what comes of it."""
    sent = channel.send(request(identifier, **meta), identifier=identifier)
    task = asyncio.get_running_loop().create_task(sent)
    await asyncio.sleep(0)
    return task


async def test_a_response_that_comes_first_is_given_at_once() -> None:
    channel, line = await opened(cancels=True)
    one, two = await sending(channel, "a"), await sending(channel, "b")
    say(channel, id="b", result={"n": 2})
    say(channel, id="a", error={"code": -1, "message": "no"})
    first, second = await one, await two
    assert isinstance(first, Incoming)
    assert isinstance(second, Incoming)
    assert first.error is not None
    assert bytes(second.result) == b'{"n": 2}'
    assert channel.in_flight == 0
    assert len(line.sent) == 2


async def test_what_comes_before_the_response_is_read_in_order() -> None:
    channel, line = await opened(cancels=True)
    task = await sending(channel, "a", progressToken="t")
    params = {"progressToken": "t", "progress": 1}
    say(channel, method="notifications/progress", params=params)
    say(channel, id="a", result={})
    begun = await task
    assert not isinstance(begun, Incoming)
    async with begun as conversation:
        messages = conversation.messages()
        assert (await read(messages)).method == "notifications/progress"
        assert (await read(messages)).is_response
    assert channel.in_flight == 0
    assert len(line.sent) == 1, "it is answered: nothing is cancelled"


@pytest.mark.parametrize("cancels", [True, False])
async def test_a_short_request_nobody_waits_for_is_cancelled_in_the_modern_era_only(
    cancels: bool,
) -> None:
    channel, line = await opened(cancels=cancels)
    task = await sending(channel, "a")
    task.cancel()
    await asyncio.wait({task}, timeout=1)
    assert task.cancelled()
    assert channel.in_flight == 0
    assert [one["method"] for one in line.sent[1:]] == ["notifications/cancelled"] * cancels
    if cancels:
        assert line.sent[1]["params"]["requestId"] == "a"


async def test_a_short_request_fails_with_its_line() -> None:
    channel, _ = await opened(cancels=True)
    task = await sending(channel, "a")
    channel.fail(UpstreamTimeoutError("up", "gone"))
    with pytest.raises(UpstreamTimeoutError):
        await task
    with pytest.raises(UpstreamUnavailableError):
        await channel.send(request("b"), identifier="b")
    assert channel.in_flight == 0
    own, _ = await opened()
    task = await sending(own, "a")
    own._pending["a"].end(None)
    begun = await task
    assert not isinstance(begun, Incoming)
    async with begun as conversation:
        assert [one async for one in conversation.messages()] == []
