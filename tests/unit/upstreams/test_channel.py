from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import pytest

from tests.support.exchange import EVENTS, JSON, FakeExchange, Request, Response, event, events
from waygate_mcp.errors import TooLargeError, UpstreamProtocolError
from waygate_mcp.upstreams.channel import HttpChannel, Incoming, read_incoming

REQUEST = b'{"jsonrpc":"2.0","id":"a","method":"x","params":{}}'


def channel_of(response: Response, limit: int = 1000) -> tuple[HttpChannel, FakeExchange]:
    exchange = FakeExchange(x=lambda _: response, GET=lambda _: response, DELETE=lambda _: response)
    return HttpChannel("up", exchange, "/mcp", limit_bytes=limit), exchange


async def all_of(channel: HttpChannel) -> list[Incoming]:
    async with channel.request(REQUEST) as conversation:
        return [message async for message in conversation.messages()]


def test_the_shapes_of_messages_are_told_apart() -> None:
    (response,) = read_incoming(b'{"jsonrpc":"2.0","id":1,"result":{"a":1}}')
    (error,) = read_incoming(b'{"jsonrpc":"2.0","error":{"code":-1,"message":"no"}}')
    (request,) = read_incoming(b'{"jsonrpc":"2.0","id":"q","method":"ping"}')
    (notification,) = read_incoming(b'{"jsonrpc":"2.0","method":"n","params":{"p": [1]}}')
    assert (response.is_response, response.is_request) == (True, False)
    assert bytes(response.result) == b'{"a":1}'
    assert (error.is_response, error.id) == (True, None)
    assert request.is_request
    assert not notification.is_request
    assert not notification.is_response
    assert bytes(notification.params) == b'{"p": [1]}'


def test_a_batch_of_an_older_upstream_is_read() -> None:
    assert [one.id for one in read_incoming(b' [{"id":1,"result":{}},{"id":2,"result":{}}]')] == [
        1,
        2,
    ]


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"{", b'{"id":1.5}', b'{"id":true}', b'{"result":"\xff"}', b"[1]",
     b"[" + b",".join([b"{}"] * 1001) + b"]", b'{"result":' + b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its subclasses are whose business it is
        read_incoming(data)


async def test_a_json_answer_gives_one_message_in_one_line() -> None:
    body = b'{\n "jsonrpc": "2.0",\n "id": "a",\n "result": {\n  "x": 1\n }\n}'
    channel, exchange = channel_of(Response(200, JSON, [body[:10], body[10:]]))
    (message,) = await all_of(channel)
    assert b"\n" not in bytes(message.result)
    assert exchange.requests[0].headers["accept"] == "application/json, text/event-stream"
    assert exchange.requests[0].headers["content-type"] == "application/json"


async def test_events_give_messages_in_order_and_remember_from_where_to_resume() -> None:
    channel, _ = channel_of(
        events(
            b"id: 0\nretry: 20\ndata:\n\n",
            b": comment\n\n",
            event({"method": "n"}, id="1"),
            event({"method": "ignored"}, event="other"),
            event({"id": "a", "result": {}}, id="2"),
        )
    )
    async with channel.request(REQUEST) as conversation:
        found = [message.method async for message in conversation.messages()]
        assert (conversation.last_event_id, conversation.retry_ms) == ("2", 20)
    assert found == ["n", None]


async def test_a_body_nobody_can_read_is_the_upstreams_fault() -> None:
    channel, _ = channel_of(Response(200, JSON, [b"not json"]))
    with pytest.raises(UpstreamProtocolError):
        await all_of(channel)


@pytest.mark.parametrize(
    ("headers", "chunks"),
    [
        (JSON, [b'{"result":"', b"x" * 100]),
        (EVENTS, [b"data: ", b"x" * 60, b"x" * 60]),
        (EVENTS, [b"x" * 200]),
    ],
)
async def test_a_message_over_the_limit_is_refused(
    headers: dict[str, str], chunks: list[bytes]
) -> None:
    channel, _ = channel_of(Response(200, headers, chunks), limit=100)
    with pytest.raises(TooLargeError):
        await all_of(channel)


async def test_an_error_status_with_a_message_is_about_this_request() -> None:
    body = b'{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"no session"}}'
    channel, _ = channel_of(Response(400, JSON, [body]))
    (message,) = await all_of(channel)
    assert message.id is None
    assert message.error is not None
    assert message.error.message == "no session"


async def test_an_error_page_is_no_message() -> None:
    channel, _ = channel_of(Response(502, JSON, [b"<html>"]))
    assert await all_of(channel) == []
    channel, _ = channel_of(Response(502, {"content-type": "text/html"}, [b"<html>"]))
    assert await all_of(channel) == []


async def test_a_202_says_nothing() -> None:
    channel, exchange = channel_of(Response(202, JSON, [b"null"]))
    assert await all_of(channel) == []
    assert await channel.post(REQUEST) == 202
    assert len(exchange.requests) == 2


async def test_the_own_stream_is_opened_and_resumed() -> None:
    channel, exchange = channel_of(events(event({"method": "n"})))
    async with channel.listen([("mcp-session-id", "s")]) as conversation:
        assert [m.method async for m in conversation.messages()] == ["n"]
    async with channel.listen([], "7"):
        pass
    await channel.end_session([("mcp-session-id", "s")])
    first, second, third = exchange.requests
    assert first.headers == {"accept": "text/event-stream", "mcp-session-id": "s"}
    assert second.headers["last-event-id"] == "7"
    assert (third.method, third.headers) == ("DELETE", {"mcp-session-id": "s"})


async def test_leaving_in_the_middle_lets_go_of_the_body() -> None:
    is_closed = False

    async def chunks() -> AsyncGenerator[bytes, None]:
        nonlocal is_closed
        try:
            yield event({"method": "n"})
            yield event({"method": "n"})
        finally:
            is_closed = True

    def answer(_: Request) -> Response:
        return Response(200, EVENTS, chunks())

    channel = HttpChannel("up", FakeExchange(x=answer), "/mcp")
    async with channel.request(REQUEST) as conversation:
        async for _ in conversation.messages():
            break
    assert is_closed


@pytest.mark.parametrize("half", [rb"\ud83d", rb"\ude00", rb"\uD83D \ude00"])
def test_half_a_surrogate_pair_costs_one_sign_and_not_the_message(half: bytes) -> None:
    """Servers that cut a text in the middle of a sign write it."""
    mended = half.replace(rb"\ud83d", rb"\ufffd").replace(rb"\ude00", rb"\ufffd")
    mended = mended.replace(rb"\uD83D", rb"\ufffd")
    (response,) = read_incoming(b'{"id":1,"result":{"n":1.10,"t":"%b"}}' % half)
    assert bytes(response.result) == b'{"n":1.10,"t":"%b"}' % mended
    (first, _) = read_incoming(b'[{"id":1,"result":{"t":"%b"}},{"id":2,"result":{}}]' % half)
    assert bytes(first.result) == b'{"t":"%b"}' % mended
    with pytest.raises(ValueError, match="truncated"):
        read_incoming(b'{"id":1,"result":{"t":"%b"}' % half)


# --- the short way


class Posted(Response):
    """A response given by `post`: whole at once, or read in chunks."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes, *, is_here: bool) -> None:
        super().__init__(status, headers, [body])
        self.body = body
        self.is_here = is_here
        self.released = 0

    def take_whole(self, limit_bytes: int) -> bytes | None:
        return self.body if self.is_here and len(self.body) <= limit_bytes else None

    def release(self) -> None:
        self.released += 1


class PostingExchange(FakeExchange):
    def __init__(self, response: Posted) -> None:
        super().__init__()
        self.response = response

    async def post(self, path: str, headers: Sequence[tuple[str, str]], body: bytes) -> Posted:
        self.requests.append(Request("POST", path, headers, body))
        return self.response


async def send(response: Posted, limit: int = 1000) -> tuple[Incoming | None, list[Incoming]]:
    """Send a request; give the response that came at once, or what is to be read."""
    exchange = PostingExchange(response)
    channel = HttpChannel("up", exchange, "/mcp", limit_bytes=limit)
    begun = await channel.send(REQUEST, (("x", "1"),), identifier="a")
    sent = exchange.requests[0].headers
    assert (sent["x"], sent["accept"]) == ("1", "application/json, text/event-stream")
    if isinstance(begun, Incoming):
        return begun, []
    async with begun as conversation:
        assert conversation.status == response.status
        return None, [one async for one in conversation.messages()]


@pytest.mark.parametrize("is_here", [True, False])
async def test_one_response_is_given_at_once(is_here: bool) -> None:
    response = Posted(200, JSON, b'{"jsonrpc":"2.0","id":"a","result":{"x":1}}', is_here=is_here)
    incoming, rest = await send(response)
    assert incoming is not None
    assert bytes(incoming.result) == b'{"x":1}'
    assert rest == []
    assert response.released


@pytest.mark.parametrize(
    ("status", "headers", "body", "ids"),
    [
        (200, JSON, b'{"jsonrpc":"2.0","id":"b","result":{}}', ["b"]),
        (200, JSON, b'{"jsonrpc":"2.0","id":1,"result":{}}', [1]),
        (200, JSON, b'{"jsonrpc":"2.0","id":"a","method":"ping"}', ["a"]),
        (200, JSON, b'[{"id":"q","method":"ping"},{"id":"a","result":{}}]', ["q", "a"]),
        (200, JSON, b"", []),
        (200, {}, b'{"jsonrpc":"2.0","id":"a","result":{}}', []),
        (404, JSON, b'{"jsonrpc":"2.0","id":"a","error":{"code":-1,"message":"no"}}', [None]),
        (202, {}, b"", []),
        (200, EVENTS, b'data: {"jsonrpc":"2.0","id":"a","result":{}}\n\n', ["a"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_here", [True, False])
async def test_anything_else_is_to_be_read(
    status: int, headers: dict[str, str], body: bytes, ids: list[object], is_here: bool
) -> None:
    response = Posted(status, headers, body, is_here=is_here)
    incoming, rest = await send(response)
    assert incoming is None
    assert [one.id for one in rest] == ids
    assert response.released


@pytest.mark.parametrize(
    ("body", "problem"), [(b"{", UpstreamProtocolError), (b" " * 1001, TooLargeError)]
)
@pytest.mark.parametrize("is_here", [True, False])
async def test_what_cannot_be_read_at_once_lets_go_of_the_response(
    body: bytes, problem: type[Exception], is_here: bool
) -> None:
    response = Posted(200, JSON, body, is_here=is_here)
    with pytest.raises(problem):
        await send(response)
    assert response.released


async def test_an_exchange_without_a_short_way_is_used_as_ever() -> None:
    channel, _ = channel_of(Response(200, JSON, [b'{"jsonrpc":"2.0","id":"a","result":{}}']))
    begun = await channel.send(REQUEST, identifier="a")
    assert not isinstance(begun, Incoming)
    async with begun as conversation:
        assert [one.id async for one in conversation.messages()] == ["a"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0",\n"id":"a","result":{"x":1}}',
        '{"jsonrpc":"2.0","id":"a","result":{"x":1},"y":"\u00fc"}'.encode(),
        b'{"jsonrpc":"2.0","id":"a","result":{"x":1},"y":"\\ud83d"}',
        b'[{"jsonrpc":"2.0","id":"a","result":{"x":1}}]',
    ],
)
async def test_a_response_that_is_not_plainly_written_is_read_with_care(body: bytes) -> None:
    incoming, rest = await send(Posted(200, JSON, body, is_here=True))
    found = rest if incoming is None else [incoming]
    assert [(one.id, bytes(one.result)) for one in found] == [("a", b'{"x":1}')]
